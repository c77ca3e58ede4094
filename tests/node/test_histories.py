"""What happened in runs, and when: before and after their end, from memory and from the store."""

from __future__ import annotations

import pytest
from harness.core import Rows

from perdure import codec
from perdure.ids import ObjectKey
from perdure_node.core import rows
from perdure_node.core.commits import Commit, Progress, pack_record, unpack_record
from perdure_node.core.events import Checkpoint, Done, Ended, Event, Scheduled
from perdure_node.core.histories import Moment
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.residents import Residents

RUN = ObjectKey("workflow", "r1")
CART = ObjectKey("Cart", "u1")

ASKED = Scheduled(1, "step", "pay", b"\x90")
PAID = Done(1, 0, b"\xc0")
SLEPT = Scheduled(2, "sleep", "", 99_000)


class Disk:
    """Records and rows, and a memory over them: `crash` loses that."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.log: list[bytes] = []
        self.crash()

    def crash(self) -> None:
        limits = Limits()
        self.memory = Memory(self.rows, Residents(limits), limits, self.rows.applied)
        for record, body in enumerate(self.log, 1):
            if record > self.rows.applied:
                self.memory.replay(record, *unpack_record(body), len(body))

    def commit(self, *events: Event, key: ObjectKey = RUN, begins: bool = False) -> None:
        progress = Progress([0, b"session", 1], {}, 1, []) if begins else None
        values = {"ended_ms": codec.encode(5_000)} if Ended() in events else {}
        commit = Commit(key, False, False, 1, values, [], progress, events)
        self.memory.commit(commit, len(self.log) + 1)

    def record(self, time_ms: int, *events: Event, begins: bool = False) -> None:
        """Make one record of one commit."""
        self.commit(*events, begins=begins)
        self.make(time_ms)

    def make(self, time_ms: int) -> None:
        made = self.memory.take_record(time_ms)
        assert made is not None
        self.log.append(pack_record(made))
        self.memory.record_made(len(self.log), len(self.log[-1]))

    def apply(self, up_to: int | None = None) -> None:
        """Write durable records into the store."""
        self.memory.became_durable(len(self.log) if up_to is None else up_to)
        batch = self.memory.take_batch()
        assert batch is not None
        self.rows.write(*batch)
        self.memory.batch_written(batch)

    def told(self, start: int = 0, limit: int = 500) -> list[Moment]:
        memory = self.memory
        return [*memory.histories.read(RUN, memory.progress.get(RUN), start, limit)]

    def event_rows(self, key: ObjectKey) -> int:
        return len(self.rows.scan(rows.event_prefix(key)))


def run_to_its_end(disk: Disk) -> list[Moment]:
    disk.record(1_000, begins=True)
    disk.record(2_000, ASKED)
    disk.record(3_000, PAID, SLEPT)
    disk.record(4_000, Ended())
    return [(2_000, ASKED), (3_000, PAID), (3_000, SLEPT), (4_000, Ended())]


def test_an_event_has_the_time_of_its_record() -> None:
    disk = Disk()
    disk.record(1_000, begins=True)
    disk.record(2_000, ASKED)
    disk.record(3_000, PAID, SLEPT)

    assert disk.told() == [(2_000, ASKED), (3_000, PAID), (3_000, SLEPT)]


def test_what_no_record_holds_yet_has_not_happened() -> None:
    disk = Disk()
    disk.commit(begins=True)
    assert disk.told() == []
    disk.make(1_000)
    disk.commit(ASKED)

    assert disk.told() == []
    disk.make(2_000)
    assert disk.told() == [(2_000, ASKED)]


@pytest.mark.parametrize("applied", [0, 1, 2, 3, 4])
def test_a_run_that_has_ended_keeps_its_events_wherever_a_crash_finds_them(applied: int) -> None:
    disk = Disk()
    expected = run_to_its_end(disk)
    assert disk.told() == expected

    if applied:
        disk.apply(applied)
    assert disk.told() == expected
    disk.crash()
    assert disk.told() == expected
    assert RUN not in disk.memory.progress


@pytest.mark.parametrize("applied", [1, 2, 3])
def test_a_run_that_goes_on_after_a_crash_keeps_the_times(applied: int) -> None:
    disk = Disk()
    disk.record(1_000, begins=True)
    disk.record(2_000, ASKED)
    disk.record(3_000, PAID)
    disk.apply(applied)
    disk.crash()
    disk.record(9_000, SLEPT)

    assert disk.told() == [(2_000, ASKED), (3_000, PAID), (9_000, SLEPT)]
    disk.record(9_500, Ended())
    assert disk.told()[-1] == (9_500, Ended())


@pytest.mark.parametrize("is_applied", [False, True])
def test_events_are_told_page_by_page(is_applied: bool) -> None:
    disk = Disk()
    expected = run_to_its_end(disk)
    if is_applied:
        disk.apply()

    assert disk.told(0, 3) == expected[:3]
    assert disk.told(3, 3) == expected[3:]
    assert disk.told(4, 3) == []


@pytest.mark.parametrize("is_applied", [False, True])
def test_a_run_that_was_continued_as_new_has_its_new_events_only(is_applied: bool) -> None:
    disk = Disk()
    disk.record(1_000, begins=True)
    disk.record(2_000, ASKED, PAID, SLEPT)
    if is_applied:
        disk.apply()
    again = Checkpoint(1, [], [], [], 3)
    disk.record(3_000, again, begins=True)
    disk.record(4_000, ASKED)
    disk.record(5_000, Ended())
    expected = [(3_000, again), (4_000, ASKED), (5_000, Ended())]

    assert disk.told() == expected
    disk.apply()
    assert disk.told() == expected
    disk.crash()
    assert disk.told() == expected
    assert disk.event_rows(RUN) == 3


def test_a_call_of_an_object_leaves_no_events_behind() -> None:
    disk = Disk()
    disk.commit(key=CART, begins=True)
    disk.commit(ASKED, PAID, key=CART)
    disk.make(1_000)
    disk.apply()
    assert disk.event_rows(CART) == 2

    disk.commit(Ended(), key=CART)
    disk.make(2_000)
    disk.apply()

    assert disk.event_rows(CART) == 0


def test_memory_lets_go_of_what_the_store_has() -> None:
    disk = Disk()
    run_to_its_end(disk)
    assert disk.memory.histories._ended

    disk.apply()

    assert not disk.memory.histories._ended
    assert not disk.memory.histories._times
