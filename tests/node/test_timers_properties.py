"""Against a model: whatever happens, each timer comes when it is its turn, once."""

from __future__ import annotations

from collections import deque

from harness.core import Rows
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core.firing import PARKED_MS, TimerChange, failed, fired, is_same, parked
from perdure_node.core.limits import Limits
from perdure_node.core.timers import Timers

NOW = 1_800_000_000_000
A, B = ObjectKey("Alarm", "a"), ObjectKey("Alarm", "b")

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
        one = TimerSetting(name, self.now_ms + delay, "ring", b"", every, generation)
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
