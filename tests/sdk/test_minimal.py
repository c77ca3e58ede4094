"""What is left of a violated history still has no order, and nothing of it can go."""

from __future__ import annotations

from random import Random

import pytest
from harness.operations import counter, drawn, model_of, op

from perdure.check.history import Operation, Outcome
from perdure.check.linearizability import Decision, decide
from perdure.check.minimal import Counterexample, shrink
from perdure.check.models import MODELS


def smallest(operations: list[Operation]) -> Counterexample:
    example = shrink(operations, MODELS[operations[0].kind])
    model = model_of(operations[0].kind, example.operations)
    assert decide(example.operations, model, start=example.start) is Decision.VIOLATED
    return example


def told(example: Counterexample) -> list[Operation]:
    return [item for item in example.operations if item.outcome is Outcome.OK]


def test_a_lost_update_after_a_long_history_is_two_calls() -> None:
    before = [("+", (2 * n - 1, 2 * n), n) for n in range(1, 101)]
    lost = [("+", (300, 303), 101), ("+", (301, 302), 101)]
    after = [("+", (400 + 2 * n, 401 + 2 * n), 101 + n) for n in range(1, 50)]

    example = smallest(counter(*before, *lost, *after))

    assert example.start == 100
    assert [item.begun for item in example.operations] == [300, 301]


def test_a_stale_read_is_the_read_and_the_add_that_it_missed() -> None:
    history = counter(("+", (1, 2), 1), ("+", (3, 4), 2), ("?", (5, 6), 2), ("?", (7, 8), 1))

    example = smallest(history)

    assert [item.begun for item in told(example)] == [7]
    assert example.start == 2


def test_an_item_that_is_there_twice_needs_one_read() -> None:
    appends = [op("append", n, at=(2 * n, 2 * n + 1), told=n, kind="list") for n in range(1, 30)]
    doubled = [*range(1, 30), 7]
    reads = [op("read", at=(90 + n, 91 + n), told=doubled, kind="list") for n in range(0, 8, 2)]

    example = smallest([*appends, *reads])

    assert len(told(example)) == 1


def test_what_was_open_at_the_violation_may_have_happened() -> None:
    # The add that would explain the value begins before the read ends, and ends after it.
    fine = counter(("+", (1, 6), 1), ("?", (2, 5), 1))
    wrong = counter(("+", (1, 6), 1), ("?", (2, 5), 2))

    with pytest.raises(ValueError, match="have an order"):
        shrink(fine, MODELS["counter"])
    assert len(smallest(wrong).operations) == 2


@pytest.mark.parametrize("kind", ["counter", "register", "list"])
def test_whatever_is_spoiled_gets_smaller_and_stays_a_proof(kind: str) -> None:
    for seed in range(5):
        history = drawn(kind, Random(seed), 60, 6, 0.05)
        wrong = {"counter": 99_999, "register": "nobody", "list": ["nobody"]}[kind]
        read = op("read", at=(1_000, 1_001), told=wrong, kind=kind)

        example = smallest([*history, read])

        assert len(told(example)) == 1
