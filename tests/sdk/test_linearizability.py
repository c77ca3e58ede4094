"""The search finds an order when there is one, and only then."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from harness.operations import brute_force, counter, drawn, model_of, op
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from perdure.check.history import Operation, Outcome
from perdure.check.linearizability import Decision, by_object, decide

KINDS = ("counter", "register", "list")


def decision(operations: list[Operation], **limits: int) -> Decision:
    return decide(operations, model_of(operations[0].kind, operations), **limits)


def is_fine(operations: list[Operation]) -> bool:
    found = decision(operations)
    assert found is not Decision.UNDECIDED
    return found is Decision.LINEARIZABLE


def test_calls_one_after_the_other_are_linearizable() -> None:
    assert is_fine(counter(("+", (1, 2), 1), ("+", (3, 4), 2), ("?", (5, 6), 2)))


def test_calls_at_the_same_time_may_be_in_any_order() -> None:
    assert is_fine(counter(("+", (1, 4), 2), ("+", (2, 3), 1)))
    assert is_fine(counter(("+", (1, 4), 1), ("?", (2, 3), 0)))
    assert is_fine(counter(("+", (1, 4), 1), ("?", (2, 3), 1)))


def test_two_adds_that_return_the_same_are_a_lost_update() -> None:
    assert not is_fine(counter(("+", (1, 4), 1), ("+", (2, 3), 1)))


def test_a_read_that_misses_an_acknowledged_add_is_stale() -> None:
    assert not is_fine(counter(("+", (1, 2), 1), ("?", (3, 4), 0)))


def test_a_read_that_goes_back_behind_another_is_stale() -> None:
    history = counter(("+", (1, 10), 1), ("?", (2, 3), 1), ("?", (4, 5), 0))

    assert not is_fine(history)


def test_an_add_that_was_done_twice_is_found() -> None:
    assert not is_fine(counter(("+", (1, 2), 1), ("+", (3, 4), 3)))


def test_an_unknown_add_may_be_there_late_or_never() -> None:
    lost = ("+", (1, None), None)

    assert is_fine(counter(lost, ("?", (2, 3), 0)))
    assert is_fine(counter(lost, ("?", (2, 3), 1)))
    assert is_fine(counter(lost, ("?", (2, 3), 0), ("?", (4, 5), 1)))
    assert not is_fine(counter(lost, ("?", (2, 3), 1), ("?", (4, 5), 0)))
    assert not is_fine(counter(lost, ("?", (2, 3), 2)))


def test_an_unknown_add_was_not_there_before_it_began() -> None:
    assert not is_fine(counter(("?", (1, 2), 1), ("+", (3, None), None)))


def test_a_refused_add_must_not_be_there() -> None:
    refused = replace(op("add", 1, at=(1, 2)), outcome=Outcome.FAILED)

    assert is_fine([refused, op("read", at=(3, 4), told=0)])
    assert not is_fine([refused, op("read", at=(3, 4), told=1)])


def test_only_one_of_two_compare_and_sets_may_find_the_old_value() -> None:
    first = op("cas", "", "a", at=(1, 4), told="", kind="register")

    assert is_fine([first, op("cas", "", "b", at=(2, 3), told="a", kind="register")])
    assert not is_fine([first, op("cas", "", "b", at=(2, 3), told="", kind="register")])


def test_a_value_that_nobody_wrote_is_found() -> None:
    write = op("write", "a", at=(1, 2), kind="register")

    assert not is_fine([write, op("read", at=(3, 4), told="b", kind="register")])


def test_a_chain_of_unknown_compare_and_sets_may_have_happened() -> None:
    history = [
        op("cas", "", "a", at=(1, None), kind="register"),
        op("cas", "a", "b", at=(2, None), kind="register"),
        op("read", at=(3, 4), told="b", kind="register"),
    ]

    assert is_fine(history)
    assert not is_fine(history[1:])


def test_lists_that_show_another_order_at_another_time_are_found() -> None:
    appends = [
        op("append", "a", at=(1, 4), told=1, kind="list"),
        op("append", "b", at=(2, 3), told=2, kind="list"),
    ]

    assert is_fine([*appends, op("read", at=(5, 6), told=["a", "b"], kind="list")])
    assert not is_fine([*appends, op("read", at=(5, 6), told=["b", "a"], kind="list")])
    assert not is_fine([*appends, op("read", at=(5, 6), told=["a"], kind="list")])
    assert not is_fine([*appends, op("read", at=(5, 6), told=["a", "b", "b"], kind="list")])


def test_a_search_that_is_given_up_is_undecided_and_never_passes() -> None:
    # Twelve adds at once of different amounts, and a read of what no choice of them adds up to.
    adds = [op("add", 2**k, at=(k + 1, None)) for k in range(12)]
    history = [*adds, op("read", at=(20, 21), told=2**12)]

    assert decision(history, tries_max=500) is Decision.UNDECIDED
    assert decision(history) is Decision.VIOLATED


def test_many_unknown_calls_that_do_the_same_cost_little() -> None:
    adds = [op("add", 1, at=(k + 1, None)) for k in range(300)]
    history = [*adds, op("read", at=(400, 401), told=150), op("read", at=(402, 403), told=149)]

    assert decision(history, tries_max=100_000) is Decision.VIOLATED
    assert decision(history[:-1], tries_max=100_000) is Decision.LINEARIZABLE


def test_each_object_has_a_history_of_its_own() -> None:
    history = [op("add", 1, at=(1, 2), object="a"), op("add", 1, at=(3, 4), object="b")]

    assert [list(map(id, some)) for some in by_object(history).values()] == [
        [id(item)] for item in history
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_long_histories_of_correct_objects_are_accepted(kind: str) -> None:
    for seed in range(10):
        history = drawn(kind, Random(seed), 250, 12, 0.05)

        assert decision(history) is Decision.LINEARIZABLE, seed


@given(st.sampled_from(KINDS), st.randoms(use_true_random=False), st.integers(1, 40))
@settings(deadline=None)
def test_whatever_a_correct_object_does_is_accepted(kind: str, chance: Random, count: int) -> None:
    assert is_fine(drawn(kind, chance, count, 6, 0.2))


@given(st.sampled_from(KINDS), st.randoms(use_true_random=False), st.integers(1, 5))
@settings(deadline=None, max_examples=300)
def test_it_agrees_with_trying_every_order(kind: str, chance: Random, count: int) -> None:
    history = drawn(kind, chance, count, 4, 0.3)
    spoiled = [_spoiled(item, chance) for item in history]

    assert is_fine(history)
    assert is_fine(spoiled) == brute_force(spoiled, model_of(kind, spoiled))


def _spoiled(item: Operation, chance: Random) -> Operation:
    if item.outcome is not Outcome.OK or chance.random() < 0.5:
        return item
    match item.result:
        case int(value):
            return replace(item, result=max(0, value + chance.choice((-1, 1, 3))))
        case str():
            return replace(item, result=f"v{chance.randrange(4)}")
        case list(items):
            return replace(item, result=items[: chance.randint(0, len(items))] + items[:1])
    return item


@given(st.randoms(use_true_random=False), st.integers(2, 30))
@settings(deadline=None)
def test_a_lost_update_is_refused(chance: Random, count: int) -> None:
    history = drawn("counter", chance, count, 6, 0.0)
    adds = [item for item in history if item.method == "add"]
    assume(len(adds) >= 2)
    first, second = chance.sample(adds, 2)
    same = replace(second, result=first.result)

    assert not is_fine([same if item is second else item for item in history])


@given(st.randoms(use_true_random=False), st.integers(2, 30))
@settings(deadline=None)
def test_a_stale_read_at_the_end_is_refused(chance: Random, count: int) -> None:
    history = drawn("counter", chance, count, 6, 0.0)
    adds = [item for item in history if item.method == "add"]
    assume(adds)
    stale = sum(item.arguments[0] for item in adds) - 1

    assert not is_fine([*history, op("read", at=(1_000, 1_001), told=stale)])


@given(st.randoms(use_true_random=False), st.integers(2, 30))
@settings(deadline=None)
def test_an_item_that_is_there_twice_is_refused(chance: Random, count: int) -> None:
    history = drawn("list", chance, count, 6, 0.0)
    items = _final_items(history)
    assume(items)
    doubled = op("read", at=(1_000, 1_001), told=[*items, chance.choice(items)], kind="list")

    assert is_fine([*history, op("read", at=(1_000, 1_001), told=items, kind="list")])
    assert not is_fine([*history, doubled])


@given(st.randoms(use_true_random=False), st.integers(2, 30))
@settings(deadline=None)
def test_items_in_another_order_are_refused(chance: Random, count: int) -> None:
    history = drawn("list", chance, count, 6, 0.0)
    items = _final_items(history)
    assume(len(items) >= 2)
    place = chance.randrange(len(items) - 1)
    items[place], items[place + 1] = items[place + 1], items[place]

    assert not is_fine([*history, op("read", at=(1_000, 1_001), told=items, kind="list")])


def _final_items(history: list[Operation]) -> list[int]:
    appends = [item for item in history if item.method == "append"]
    return [item.arguments[0] for item in sorted(appends, key=lambda item: item.result)]
