"""Many deadlines, few of which are met."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.deadlines import Deadlines


@dataclass(eq=False)
class Thing:
    deadline_ms: int | None


def test_things_are_due_within_16_ms_after_their_deadline_and_never_before() -> None:
    deadlines: Deadlines[Thing] = Deadlines()
    things = [Thing(ms) for ms in (1_000, 1_001, 1_050)]
    for thing in things:
        deadlines.add(thing)

    assert deadlines.take_due(999) == []
    assert deadlines.take_due(1_017) == things[:2]
    assert deadlines.take_due(1_017) == []
    assert deadlines.take_due(1_066) == things[2:]
    assert deadlines.next_ms is None


def test_a_thing_that_was_discarded_is_not_due() -> None:
    deadlines: Deadlines[Thing] = Deadlines()
    gone, kept = Thing(100), Thing(100)
    deadlines.add(gone)
    deadlines.add(kept)

    deadlines.discard(gone)

    assert deadlines.take_due(10_000) == [kept]


def test_a_thing_without_a_deadline_is_never_due() -> None:
    deadlines: Deadlines[Thing] = Deadlines()

    deadlines.add(Thing(None))

    assert deadlines.next_ms is None
