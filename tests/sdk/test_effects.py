"""Effects that are missing, doubled, out of order or unasked for are found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.operations import op

from perdure.check import effects
from perdure.check.effects import Account
from perdure.check.history import Operation, Outcome


def append(caller: int, number: int, **more: Any) -> Operation:
    return op("append", (caller, number), at=(number, number + 100), kind="list", **more)


def refused(item: Operation) -> Operation:
    return replace(item, outcome=Outcome.FAILED)


def test_a_list_that_holds_what_was_acknowledged_once_and_in_order_is_fine() -> None:
    calls = [append(1, 1), append(2, 1), append(1, 2), append(1, 3).as_unknown()]

    assert effects.appends(calls, {"o": [[2, 1], [1, 1], [1, 2]]}) == []
    assert effects.appends(calls, {"o": [[2, 1], [1, 1], [1, 2], [1, 3]]}) == []


def test_an_acknowledged_append_that_is_missing_is_found() -> None:
    assert effects.appends([append(1, 1)], {"o": []}) == [
        "o: (1, 1) was acknowledged and never appended"
    ]


def test_an_append_that_is_there_twice_is_found_whatever_was_told() -> None:
    for call in (append(1, 1), append(1, 1).as_unknown()):
        assert effects.appends([call], {"o": [[1, 1], [1, 1]]}) == [
            "o: (1, 1) was appended 2 times"
        ]


def test_a_refused_append_that_is_there_is_found() -> None:
    assert effects.appends([refused(append(1, 1))], {"o": [[1, 1]]}) == [
        "o: (1, 1) was refused and yet appended"
    ]


def test_an_append_that_nobody_asked_for_is_found() -> None:
    assert effects.appends([append(1, 1)], {"o": [[1, 1], [7, 7]]}) == [
        "o: (7, 7) was appended and nobody had asked for it"
    ]


def test_appends_of_one_caller_in_another_order_are_found() -> None:
    found = effects.appends([append(1, 1), append(1, 2)], {"o": [[1, 2], [1, 1]]})

    assert found == ["o: caller 1 sent 1 before 2, which comes first there"]


def test_a_key_is_applied_once_and_its_copies_are_answered_alike() -> None:
    call = op("apply", "t", at=(1, 2), told=1, kind="keyed")

    assert effects.keyed([call], {1: [1, 1]}, {"o": ["t"]}) == []
    assert effects.keyed([call], {1: [1]}, {"o": ["t", "t"]}) == ["o: t was applied 2 times"]
    assert effects.keyed([call], {1: [1, 2]}, {"o": ["t"]}) == [
        "the copies of operation 1 got different answers: [1, 2]"
    ]


def test_a_timer_fires_once() -> None:
    call = op("arm", "t", 50, at=(1, 2), told=1, kind="timers")

    assert effects.timers([call], {"o": ["t"]}) == []
    assert effects.timers([call], {"o": []}) == ["o: t was acknowledged and never fired"]
    assert effects.timers([call.as_unknown()], {"o": []}) == []
    assert effects.timers([call], {"o": ["t", "t"]}) == ["o: t was fired 2 times"]


TRANSFER = op("transfer", "b", 5, "t", at=(1, 2), told=95, kind="nested", object="a")


def test_both_halves_of_a_transfer_have_happened_or_neither() -> None:
    untouched = {"a": Account(100), "b": Account(100)}
    done = {"a": Account(95, ["t"]), "b": Account(105, (), ["t"])}

    assert effects.transfers([TRANSFER], done, 100) == []
    assert effects.transfers([TRANSFER.as_unknown()], untouched, 100) == []
    assert effects.transfers([TRANSFER.as_unknown()], done, 100) == []
    assert effects.transfers([TRANSFER], untouched, 100) == [
        "transfer t was acknowledged and has not happened"
    ]
    assert effects.transfers([refused(TRANSFER)], done, 100) == [
        "transfer t was refused and has happened"
    ]


def test_half_a_transfer_and_a_doubled_one_are_found() -> None:
    half = {"a": Account(95, ["t"]), "b": Account(100)}
    doubled = {"a": Account(95, ["t"]), "b": Account(110, (), ["t", "t"])}

    assert effects.transfers([TRANSFER.as_unknown()], half, 100) == [
        "transfer t was paid 1 times by a and received 0 times by b",
        "all accounts together have 195, not 200",
    ]
    assert effects.transfers([TRANSFER], doubled, 100) == [
        "transfer t was paid 1 times by a and received 2 times by b",
        "all accounts together have 205, not 200",
    ]


def test_money_out_of_nowhere_is_found() -> None:
    accounts = {"a": Account(100), "b": Account(101, (), ["x"])}

    assert effects.transfers([], accounts, 100) == [
        "b has x, which nobody asked for",
        "all accounts together have 201, not 200",
    ]
