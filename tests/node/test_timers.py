from __future__ import annotations

import bisect
from collections import deque
from itertools import pairwise

import pytest
from harness.core import Rows
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core import timer_rows
from perdure_node.core.damage import DamageFound
from perdure_node.core.firing import (
    PARKED_MS,
    TimerChange,
    failed,
    fired,
    is_same,
    parked,
    unpack_change,
)
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


@pytest.mark.parametrize("record_of_the_first", [1, 2])
def test_a_timer_that_fires_while_many_earlier_ones_are_set_comes_once(
    record_of_the_first: int,
) -> None:
    rows = Rows()
    for comes_back in (False, True):
        timers = Timers(rows, LIMITS)
        timers.set(B, timer("first", NOW), record_of_the_first)
        ((_, first),) = timers.due(NOW, 1)
        for n in range(30):
            timers.set(A, timer(f"t{n:02}", NOW - 100 + n), 1)
        write(timers, rows, 1)
        if comes_back:
            timers.put_back(B, first)

        expected = [f"t{n:02}" for n in range(30)] + ["first"] * comes_back
        assert names(timers.due(NOW, 99)) == expected
        assert timers.next_due_ms is None


# Against a model: whatever happens, each timer comes when it is its turn, once.

Keyed = tuple[ObjectKey, str]
OBJECTS = st.sampled_from([A, B, ObjectKey("Alarm", "a0"), ObjectKey("Other", "a")])
NAMES = st.sampled_from(["", "x", "y", "z", "ü"])


class TimersAgainstAModel(RuleBasedStateMachine):
    @initialize(window=st.sampled_from([1, 4, 8, 100]))
    def begin(self, window: int) -> None:
        self.limits = Limits(timers_window_max=window, timer_attempts_max=3)
        self.rows = Rows()
        self.log: list[tuple[int, ObjectKey, TimerChange]] = []
        self.record, self.durable = 1, 0
        self.now_ms = NOW
        self.taken: deque[tuple[list[tuple[bytes, bytes]], list[bytes], int]] = deque()
        self.effects: list[tuple[int, ObjectKey, TimerSetting]] = []
        self.timers = Timers(self.rows, self.limits)
        self.model: dict[Keyed, TimerSetting] = {}
        self.handed: dict[Keyed, TimerSetting] = {}
        self.put_off: dict[Keyed, int] = {}

    def change(self, key: ObjectKey, name: str, timer: TimerSetting | None) -> None:
        self.log.append((self.record, key, TimerChange(name, timer)))
        self.set_model(key, name, timer)

    def set_model(self, key: ObjectKey, name: str, timer: TimerSetting | None) -> None:
        self.handed.pop((key, name), None)
        self.put_off.pop((key, name), None)
        if timer is not None:
            self.model[key, name] = timer
        else:
            self.model.pop((key, name), None)

    @rule(key=OBJECTS, name=NAMES, delay=st.integers(0, 9), every=st.sampled_from(["", "ms:4"]))
    def set(self, key: ObjectKey, name: str, delay: int, every: str) -> None:
        generation = self.timers.new_generation(self.record)
        one = timer(name, self.now_ms + delay, every, generation)
        self.timers.set(key, one, self.record)
        self.change(key, name, one)

    @rule(key=OBJECTS, name=NAMES)
    def cancel(self, key: ObjectKey, name: str) -> None:
        assert self.timers.remove(key, name, self.record) == self.model.get((key, name))
        if (key, name) in self.model:
            self.change(key, name, None)

    @rule(key=OBJECTS)
    def delete(self, key: ObjectKey) -> None:
        for one in self.timers.remove_all(key, self.record):
            self.change(key, one.name, None)
        assert not any(k == key for k, _ in self.model)

    @rule(passed=st.integers(-20, 30), limit=st.integers(1, 5))
    def become_due(self, passed: int, limit: int) -> None:
        self.now_ms += passed
        for keyed in [k for k, until in self.put_off.items() if until <= self.now_ms]:
            del self.put_off[keyed], self.handed[keyed]
        expected = sorted(
            (one.due_ms, *key, name)
            for (key, name), one in self.model.items()
            if one.due_ms <= self.now_ms and (key, name) not in self.handed
        )[:limit]
        found = self.timers.due(self.now_ms, limit)

        assert [(one.due_ms, *key, one.name) for key, one in found] == expected
        for key, one in found:
            assert one == self.model[key, one.name]
            self.handed[key, one.name] = one

    @precondition(lambda self: self.handed)
    @rule(data=st.data(), succeeds=st.booleans())
    def fire(self, data: st.DataObject, succeeds: bool) -> None:
        (key, name), one = data.draw(st.sampled_from(sorted(self.handed.items())))
        assert is_same(one, self.timers.get(key, name))
        if succeeds:
            self.effects.append((self.record, key, one))
            after = fired(one, self.now_ms)
        else:
            after = failed(one, self.now_ms, self.limits) or parked(one)
        self.timers.apply(key, TimerChange(name, after), self.record)
        self.change(key, name, after)

    @precondition(lambda self: self.handed)
    @rule(data=st.data(), wait=st.integers(0, 9))
    def put_back(self, data: st.DataObject, wait: int) -> None:
        (key, name), one = data.draw(st.sampled_from(sorted(self.handed.items())))
        self.timers.put_back(key, one, self.now_ms + wait)
        self.put_off[key, name] = min(
            self.now_ms + wait, self.put_off.get((key, name), self.now_ms + wait)
        )

    @rule()
    def make_a_record(self) -> None:
        self.record += 1

    @precondition(lambda self: self.durable < self.record - 1)
    @rule()
    def sync(self) -> None:
        self.durable += 1

    @rule()
    def take_a_batch(self) -> None:
        self.taken.append((*self.timers.rows_for(self.durable), self.durable))

    @precondition(lambda self: self.taken)
    @rule()
    def write_a_batch(self) -> None:
        batch = self.taken.popleft()
        self.rows.write(*batch)
        self.timers.written(batch[2])

    @precondition(lambda self: self.taken)
    @rule()
    def write_a_batch_and_look_before_it_is_let_go_of(self) -> None:
        batch = self.taken.popleft()
        self.rows.write(*batch)
        self.the_same_timers_are_there()
        self.timers.written(batch[2])

    @rule(then_open_again=st.booleans())
    def write_everything(self, then_open_again: bool) -> None:
        self.record += 1
        self.durable = self.record - 1
        self.take_a_batch()
        while self.taken:
            self.write_a_batch()
        if then_open_again:
            self.crash(written=True)

    @rule(
        number=st.integers(2, 12), first=st.integers(0, 9), step=st.integers(0, 3),
        settled=st.booleans(),
    )  # fmt: skip
    def set_many(self, number: int, first: int, step: int, settled: bool) -> None:
        for n in range(number):
            self.set(B, f"many{n}", first + n * step, "")
        if settled:
            self.write_everything(then_open_again=False)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def set_again_for_the_same_time(self, data: st.DataObject) -> None:
        key, name = data.draw(st.sampled_from(sorted(self.model)))
        self.set(key, name, max(0, self.model[key, name].due_ms - self.now_ms), "")

    @rule(written=st.booleans())
    def crash(self, written: bool) -> None:
        if self.taken and written:
            self.rows.write(*self.taken.popleft())
        self.taken.clear()
        self.log = [entry for entry in self.log if entry[0] <= self.durable]
        self.effects = [effect for effect in self.effects if effect[0] <= self.durable]
        self.record = self.durable + 1
        self.timers = Timers(self.rows, self.limits)
        self.model, self.handed, self.put_off = {}, {}, {}
        for record, key, change in self.log:
            self.set_model(key, change.name, change.timer)
            if record > self.rows.applied:
                self.timers.apply(key, change, record)

    @invariant()
    def the_same_timers_are_there(self) -> None:
        for (key, name), one in self.model.items():
            assert self.timers.get(key, name) == one
        for key in {key for key, _ in self.model}:
            mine = [one for (k, _), one in sorted(self.model.items()) if k == key]
            assert self.timers.of(key) == mine
            assert self.timers.count_of(key) == len(mine)

    @invariant()
    def the_next_one_is_known(self) -> None:
        waiting = [
            one.due_ms
            for keyed, one in self.model.items()
            if keyed not in self.handed and one.due_ms != PARKED_MS
        ]
        first = min([*waiting, *self.put_off.values()], default=None)
        assert self.timers.next_due_ms == first or self.timers.next_due_ms in self.superseded()

    def superseded(self) -> list[int | None]:
        """Times at which a timer had been put back for later, and was set again since."""
        return [until for until, *_ in self.timers._put_off]

    @invariant()
    def no_effect_happens_twice(self) -> None:
        once = [(key, one.name, one.generation) for _, key, one in self.effects if not one.every]
        assert len(once) == len(set(once))

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.timers.held <= 4 * len(self.log) + self.limits.timers_window_max + 1_000


TestTimersAgainstAModel = TimersAgainstAModel.TestCase
TestTimersAgainstAModel.settings = settings(max_examples=250, stateful_step_count=60, deadline=None)


# Firing.


def test_a_timer_that_comes_once_is_over_when_it_has_fired() -> None:
    assert fired(timer("x", NOW), NOW + 5) is None


def test_a_repeated_timer_is_armed_again_in_its_beat() -> None:
    one = timer("x", NOW, "ms:1000", generation=7)._replace(attempts=2)

    assert fired(one, NOW + 5_500) == timer("x", NOW + 6_000, "ms:1000", generation=7)


def test_a_repeated_timer_finds_its_beat_again_after_failures() -> None:
    one: TimerSetting | None = timer("x", NOW, "ms:10000")
    assert one is not None
    for now_ms in (NOW + 300, NOW + 1_400):
        one = failed(one, now_ms, Limits())
        assert one is not None

    assert one.due_ms == NOW + 3_400
    assert fired(one, NOW + 3_450) == timer("x", NOW + 10_000, "ms:10000")


def test_the_waits_double_from_a_second_to_five_minutes() -> None:
    one: TimerSetting | None = timer("x", NOW)
    waits = []
    while one is not None:
        before, one = one, failed(one, NOW, Limits())
        if one is not None:
            waits.append(one.due_ms - NOW)
            assert one.attempts == len(waits)

    assert [wait // 1_000 for wait in waits[:10]] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(waits[9:]) == {300_000}
    assert len(waits) == Limits().timer_attempts_max - 1
    assert parked(before).attempts == Limits().timer_attempts_max


def test_a_failed_timer_keeps_its_generation_and_a_firing_of_before_does_not_run() -> None:
    one = timer("x", NOW, generation=5)
    again = failed(one, NOW, Limits())

    assert again is not None
    assert again.generation == 5
    assert is_same(one, one._replace(attempts=1))
    assert not is_same(one, again)
    assert not is_same(one, one._replace(generation=6))
    assert not is_same(one, None)


def test_a_change_is_read_back_as_it_was() -> None:
    for change in (TimerChange("x", timer("x", NOW)), TimerChange("x", None)):
        name, one, tag = change
        assert unpack_change([name, one and list(one), tag]) == change
