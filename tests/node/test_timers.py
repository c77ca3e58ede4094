from __future__ import annotations

import bisect
from itertools import pairwise

import pytest
from harness.core import Rows

from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core import timer_rows
from perdure_node.core.damage import DamageFound
from perdure_node.core.firing import PARKED_MS, parked
from perdure_node.core.limits import Limits
from perdure_node.core.timers import Timers

NOW = 1_800_000_000_000
LIMITS = Limits(timers_window_max=8, timer_attempts_max=3)
A, B = ObjectKey("Alarm", "a"), ObjectKey("Alarm", "b")


def timer(name: str, due_ms: int, every: str = "", generation: int = 1) -> TimerSetting:
    return TimerSetting(name, due_ms, "ring", b"", every, generation)


def names(found: list[tuple[ObjectKey, TimerSetting]]) -> list[str]:
    return [timer.name for _, timer in found]


def write(timers: Timers, rows: Rows, applied: int) -> None:
    rows.write(*timers.rows_for(applied), applied)
    timers.written(applied)


class SortedRows(Rows):
    """A store of many rows, whose scans do not look at all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[bytes] = []
        self.read = 0

    def sort(self) -> None:
        self.keys = sorted(self.rows)

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int = 1_000
    ) -> list[tuple[bytes, bytes]]:
        start = bisect.bisect_right(self.keys, after) if after > prefix else 0
        start = max(start, bisect.bisect_left(self.keys, prefix))
        found = [k for k in self.keys[start : start + limit] if k.startswith(prefix)]
        self.read += len(found)
        return [(k, self.rows[k]) for k in found if k in self.rows]


# Looking up and changing.


def test_a_timer_can_be_seen_before_and_after_the_store_has_it() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    timers.set(A, timer("x", NOW + 5), 1)

    assert timers.get(A, "x") == timer("x", NOW + 5)
    write(timers, rows, 1)
    assert timers.get(A, "x") == timer("x", NOW + 5)
    assert timers.get(A, "y") is None
    assert timers.get(B, "x") is None
    assert Timers(rows, LIMITS).get(A, "x") == timer("x", NOW + 5)


def test_the_timers_of_an_object_are_listed_by_name_and_counted() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    for name in ("c", "a", "b", "é\0\n"):
        timers.set(A, timer(name, NOW), 1)
    timers.set(ObjectKey("Alarm", "a2"), timer("a", NOW), 1)
    write(timers, rows, 1)
    timers.remove(A, "b", 2)
    timers.set(A, timer("d", NOW), 2)

    assert [t.name for t in timers.of(A)] == ["a", "c", "d", "é\0\n"]
    assert timers.count_of(A) == 4
    timers.set(A, timer("e", NOW), 3)
    timers.set(A, timer("e", NOW + 1), 3)
    timers.remove(A, "a", 3)
    timers.remove(A, "nobody", 3)
    assert timers.count_of(A) == 4


def test_one_record_may_set_cancel_and_set_again() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    timers.set(A, timer("x", NOW), 1)
    assert timers.remove(A, "x", 1) == timer("x", NOW)
    assert timers.remove(A, "x", 1) is None
    timers.set(A, timer("x", NOW + 1, generation=2), 1)
    write(timers, rows, 1)

    assert Timers(rows, LIMITS).due(NOW + 1, 9) == [(A, timer("x", NOW + 1, generation=2))]
    assert len(rows.rows) == 2


def test_a_deleted_object_leaves_no_timers_and_no_rows() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    timers.set(A, timer("x", NOW), 1)
    timers.set(B, timer("x", NOW), 1)
    write(timers, rows, 1)
    timers.set(A, timer("y", NOW), 2)

    assert [t.name for t in timers.remove_all(A, 3)] == ["x", "y"]
    assert timers.of(A) == []
    assert timers.due(NOW, 9) == [(B, timer("x", NOW))]
    write(timers, rows, 3)
    assert all(b"Alarm\0b" in key for key in rows.rows)


def test_a_batch_holds_nothing_of_a_later_record() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    timers.set(A, timer("x", NOW + 1), 1)
    timers.set(A, timer("x", NOW + 2, generation=2), 2)
    write(timers, rows, 1)

    assert Timers(rows, LIMITS).get(A, "x") == timer("x", NOW + 1)
    assert timers.get(A, "x") == timer("x", NOW + 2, generation=2)
    assert timers.next_due_ms == NOW + 2
    write(timers, rows, 2)
    assert Timers(rows, LIMITS).next_due_ms == NOW + 2


def test_a_batch_taken_before_the_last_one_was_written_is_let_go_of_later() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    timers.set(A, timer("x", NOW), 1)
    first = timers.rows_for(1)
    timers.set(A, timer("y", NOW), 2)
    second = timers.rows_for(2)
    rows.write(*first, 1)
    timers.written(1)

    assert [t.name for t in timers.of(A)] == ["x", "y"]
    rows.write(*second, 2)
    timers.written(2)
    assert timers.held == 2
    assert names(timers.due(NOW, 9)) == ["x", "y"]


def test_a_generation_is_greater_than_all_before_also_after_a_crash() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    generations = [timers.new_generation(1), timers.new_generation(1), timers.new_generation(2)]
    timers.set(A, timer("x", NOW, generation=timers.new_generation(2)), 2)
    timers.remove(A, "x", 3)
    write(timers, rows, 3)
    generations.append(Timers(rows, LIMITS).new_generation(4))

    assert all(a < b for a, b in pairwise(generations))


# What is due.


def test_a_timer_is_due_at_its_millisecond_and_not_before() -> None:
    timers = Timers(Rows(), LIMITS)
    timers.set(A, timer("x", NOW), 1)

    assert timers.next_due_ms == NOW
    assert timers.due(NOW - 1, 9) == []
    assert timers.due(NOW, 9) == [(A, timer("x", NOW))]
    assert timers.due(NOW + 1, 9) == []
    assert timers.next_due_ms is None


def test_the_earliest_come_first_and_no_more_than_asked_for() -> None:
    timers = Timers(Rows(), LIMITS)
    for late in (3, 1, 2):
        timers.set(A, timer(f"t{late}", NOW + late), 1)

    assert names(timers.due(NOW + 9, 2)) == ["t1", "t2"]
    assert names(timers.due(NOW + 9, 2)) == ["t3"]


def test_a_timer_that_was_put_back_is_due_again_and_others_meanwhile() -> None:
    timers = Timers(Rows(), LIMITS)
    for name in ("x", "y"):
        timers.set(A, timer(name, NOW), 1)
    ((_, first),) = timers.due(NOW, 1)

    timers.put_back(A, first, NOW + 50)
    assert names(timers.due(NOW + 49, 9)) == ["y"]
    assert timers.next_due_ms == NOW + 50
    assert names(timers.due(NOW + 50, 9)) == ["x"]
    timers.put_back(A, first)
    assert names(timers.due(NOW, 9)) == ["x"]


def test_a_timer_that_was_set_since_is_not_put_back() -> None:
    timers = Timers(Rows(), LIMITS)
    timers.set(A, timer("x", NOW), 1)
    ((_, old),) = timers.due(NOW, 1)
    timers.put_back(A, old, NOW + 5)
    timers.set(A, timer("x", NOW + 9, generation=2), 1)

    timers.put_back(A, old)
    assert timers.due(NOW + 8, 9) == []
    assert names(timers.due(NOW + 9, 9)) == ["x"]
    assert timers.due(NOW + 9, 9) == []


def test_a_timer_put_back_twice_comes_back_once() -> None:
    timers = Timers(Rows(), LIMITS)
    timers.set(A, timer("x", NOW), 1)
    ((_, first),) = timers.due(NOW, 1)
    timers.put_back(A, first, NOW + 50)
    timers.put_back(A, first, NOW + 10)

    assert names(timers.due(NOW + 10, 9)) == ["x"]
    assert timers.due(NOW + 50, 9) == []


def test_a_timer_set_again_for_the_same_time_is_due_once_more() -> None:
    timers = Timers(Rows(), LIMITS)
    timers.set(A, timer("x", NOW), 1)
    timers.due(NOW, 1)
    timers.set(A, timer("x", NOW, generation=2), 1)

    assert timers.due(NOW, 9) == [(A, timer("x", NOW, generation=2))]
    assert timers.due(NOW, 9) == []


def test_a_due_row_without_its_timer_is_damage() -> None:
    rows = Rows()
    rows.rows[timer_rows.due_key(NOW, A, "x")] = b""

    with pytest.raises(DamageFound):
        Timers(rows, LIMITS).due(NOW, 1)


def test_a_parked_timer_can_be_seen_and_is_never_due() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    timers.set(A, timer("x", NOW), 1)
    write(timers, rows, 1)
    timers.set(A, parked(timer("x", NOW)), 2)
    write(timers, rows, 2)

    for again in (timers, Timers(rows, LIMITS)):
        assert again.next_due_ms is None
        assert again.due(PARKED_MS, 9) == []
        assert [t.due_ms for t in again.of(A)] == [PARKED_MS]
    timers.set(A, timer("x", NOW + 1), 3)
    assert timers.next_due_ms == NOW + 1
    timers.set(A, parked(timer("x", NOW)), 3)
    timers.remove(A, "x", 4)
    write(timers, rows, 4)
    assert rows.rows == {}


# Memory.


def filled(number: int) -> SortedRows:
    rows = SortedRows()
    for n in range(number):
        # Far from sorted, and several at the same time.
        one = timer(f"t{n % 7}", NOW + n * 7_919 % number // 3)
        key = ObjectKey("Alarm", f"o{n // 7}")
        rows.rows[timer_rows.timer_key(key, one.name)] = timer_rows.pack_timer(one)
        rows.rows[timer_rows.due_key(one.due_ms, key, one.name)] = b""
    rows.sort()
    return rows


@pytest.mark.slow
def test_a_million_timers_on_disk_take_the_memory_of_a_window() -> None:
    rows = filled(1_000_000)
    limits = Limits()
    timers = Timers(rows, limits)
    assert rows.read == 0

    assert timers.next_due_ms == NOW
    assert rows.read <= 1_000
    now_ms, seen, last = NOW, 0, 0
    while seen < 50_000:
        now_ms = max(now_ms, timers.next_due_ms or 0) + 200
        while found := timers.due(now_ms, 500):
            for key, one in found:
                assert last <= one.due_ms <= now_ms
                last = one.due_ms
                timers.remove(key, one.name, 1)
            seen += len(found)
            puts, deletes = timers.rows_for(1)
            assert not puts
            for row_key in deletes:
                del rows.rows[row_key]
            timers.written(1)
            assert timers.held <= limits.timers_window_max + 1_000

    assert rows.read <= seen + 1_000
    assert len(rows.rows) == 2 * (1_000_000 - seen)


def test_of_all_timers_on_disk_none_is_forgotten() -> None:
    rows = filled(20_000)
    timers = Timers(rows, Limits(timers_window_max=100))

    due = [one.due_ms for _, one in timers.due(NOW + 10**6, 10**6)]
    assert len(due) == 20_000
    assert due == sorted(due)
    assert timers.next_due_ms is None


def test_timers_set_here_leave_memory_when_the_store_has_them() -> None:
    rows = SortedRows()
    limits = Limits(timers_window_max=100)
    timers = Timers(rows, limits)
    assert timers.next_due_ms is None
    for record in range(1, 101):
        for n in range(100):
            timers.set(A, timer(f"{record} {n}", NOW + n * 1_000 + record), record)
        write(timers, rows, record)
        rows.sort()
        # What was read of the store last is forgotten with the next page.
        assert timers.held <= 2 * 100 + 1_100

    due = [one.due_ms for _, one in timers.due(NOW + 10**6, 10**6)]
    assert len(due) == 10_000
    assert due == sorted(due)


def test_a_timer_set_again_with_every_call_takes_the_memory_of_one() -> None:
    timers = Timers(Rows(), LIMITS)
    for n in range(50_000):
        timers.set(A, timer("expire", NOW + n), n)
        timers.rows_for(n - 1)
        timers.written(n - 1)

    assert timers.held < 2_000
    assert timers.due(NOW + 49_998, 9) == []
    assert names(timers.due(NOW + 49_999, 9)) == ["expire"]


@pytest.mark.parametrize("comes_back", [False, True])
@pytest.mark.parametrize("record", [1, 2])
def test_a_timer_that_fires_while_many_earlier_ones_are_set_comes_once(
    record: int, comes_back: bool
) -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    timers.set(B, timer("first", NOW), 1)
    ((_, first),) = timers.due(NOW, 1)
    for n in range(30):
        timers.set(A, timer(f"t{n:02}", NOW - 100 + n), record)
    timers.set(B, timer("last", NOW), record + 1)
    write(timers, rows, record)
    if comes_back:
        timers.put_back(B, first)

    expected = [f"t{n:02}" for n in range(30)] + ["first"] * comes_back + ["last"]
    assert names(timers.due(NOW, 99)) == expected
    assert timers.next_due_ms is None


def test_a_timer_that_the_store_lacks_is_put_back_beyond_the_window() -> None:
    rows = Rows()
    timers = Timers(rows, LIMITS)
    for n in range(30):
        timers.set(A, timer(f"t{n:02}", NOW + 1 + n), 1)
    timers.set(B, timer("x", NOW + 40), 2)
    found = timers.due(NOW + 40, 99)
    for key, one in found[:-1]:
        timers.put_back(key, one)
    write(timers, rows, 1)
    timers.put_back(*found[-1])

    assert timers.due(NOW + 40, 99) == found
