"""Refusals never hide that a call has run or runs, and never cost another caller's call."""

from __future__ import annotations

import pytest
from harness.core import CART, HERE, THERE, Core

from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.limits import Limits

OTHER = ObjectKey("Cart", "u2")


def full_mailbox(core: Core) -> None:
    core.call(90, session=THERE)


def draining(core: Core) -> None:
    core.partition.draining = True


def full_disk(core: Core) -> None:
    core.partition.room = False


def late(core: Core) -> None:
    core.time_passes(40_000)


def full_session(core: Core) -> None:
    window = core.memory.window(HERE)
    assert window is not None
    window.bytes = core.limits.session_outcome_bytes_max


@pytest.mark.parametrize("trouble", [full_mailbox, draining, full_disk, late, full_session])
def test_a_copy_of_a_call_that_runs_joins_it_whatever_new_calls_are_told(trouble) -> None:
    core = Core(Limits(mailbox_calls_max=1))
    core.create()
    first = core.call(2)
    trouble(core)
    core.answers()

    copy = core.call(2, time_left_ms=1)
    assert core.answers() == []
    core.returned({"n": b"1"}, b"one", at=0)
    core.sync()

    assert [a for a in core.answers() if a[0] in (first, copy)] == [
        (first, 0, b"one"),
        (copy, 0, b"one"),
    ]


@pytest.mark.parametrize("trouble", [full_mailbox, draining, full_disk, late, full_session])
def test_a_copy_of_a_call_that_has_run_gets_its_outcome_whatever_new_calls_are_told(
    trouble,
) -> None:
    core = Core(Limits(mailbox_calls_max=1))
    core.create()
    core.call(2)
    core.returned({"n": b"1"}, b"one")
    core.sync()
    trouble(core)
    core.answers()

    copy = core.call(2, time_left_ms=1)

    assert (copy, 0, b"one") in core.answers()


def test_a_copy_of_a_call_whose_object_is_gone_gets_its_outcome() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"}, b"one")
    core.call(3, "", kind=Kind.DELETE)
    core.sync()
    core.answers()

    copy, fresh = core.call(2), core.call(4)

    assert core.answers() == [(copy, 0, b"one"), (fresh, Code.OBJECT_NOT_FOUND, list(CART))]


def test_a_call_that_found_no_object_does_not_run_when_there_is_one() -> None:
    core = Core()
    first = core.call(1)
    core.create(2)
    copy = core.call(1)

    assert core.running == []
    assert core.answers() == [(copy, Code.OBJECT_NOT_FOUND, list(CART))], first
    core.crash()
    late = core.call(1)
    assert core.running == []
    assert [(n, c) for n, c, _ in core.answers()] == [(late, Code.OBJECT_NOT_FOUND)]


def test_a_session_keeps_a_bounded_size_of_unconfirmed_outcomes() -> None:
    core = Core(Limits(session_outcome_bytes_max=1_000))
    core.create()
    for sequence in (2, 3):
        core.call(sequence)
        core.returned({}, b"x" * 600)
    core.sync()
    core.answers()

    refused = core.call(4)
    assert [(n, c) for n, c, _ in core.answers()] == [(refused, Code.BACKPRESSURE)]
    core.call(4, confirmed=[2])

    assert [call.request.sequence for call in core.running] == [4]


def test_a_goodbye_frees_outcomes_and_lets_nothing_run_again() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"}, b"x" * 1_000)
    core.sync()
    core.answers()
    window = core.memory.window(HERE)
    assert window is not None
    assert window.bytes >= 1_000

    core.call(0, kind=Kind.CONFIRM, confirmed=[2])

    assert (window.bytes, window.ended) == (0, {})
    late = core.call(2)
    assert [(n, c) for n, c, _ in core.answers() if n == late] == [(late, Code.SUPERSEDED)]
    core.apply()
    core.crash()
    core.call(2)
    assert core.running == []


def test_a_key_whose_first_caller_left_before_its_call_could_start_runs_for_the_next() -> None:
    core = Core()
    core.create()
    core.call(2, "slow")
    hurried = core.call(1, "pay", key="k1", arguments=b"5", session=THERE, time_left_ms=10)
    patient = core.call(3, "pay", key="k1", arguments=b"5")
    third = core.call(2, "pay", key="k1", arguments=b"5", session=THERE)
    core.time_passes(11)
    core.returned({"n": b"1"})
    core.sync()

    assert [call.request.method for call in core.running] == ["pay"]
    assert (hurried, Code.DEADLINE_EXCEEDED) in [(n, c) for n, c, _ in core.answers()]
    core.returned({"n": b"2"}, b"paid")
    core.sync()
    assert core.answers() == [(patient, 0, b"paid"), (third, 0, b"paid")]
    again = core.call(4, "pay", key="k1", arguments=b"5")
    assert core.answers() == [(again, 0, b"paid")]
    assert core.partition.is_idle
