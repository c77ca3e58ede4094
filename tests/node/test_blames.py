"""Which call is blamed for the death of a process, and what becomes of it."""

from __future__ import annotations

import pytest
from harness.core import CART, HERE, THERE, WALL_MS, Core

from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import CallId, ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core.blames import Driven
from perdure_node.core.events import Scheduled
from perdure_node.core.firing import PARKED_MS, TimerChange
from perdure_node.core.firings import NOBODY

CALL_ID = str(CallId(HERE, 3, 2))


def die(core: Core, sequence: int = 2) -> None:
    """Let the process die while it runs a call of `HERE`; the next one makes the blame durable."""
    core.crash(driven=Driven(3, core.epoch, HERE, sequence))
    core.sync()


def begin_step(core: Core, *, done: bool, step: int = 1) -> None:
    """Let the running call have a step recorded."""
    call = core.running[0]
    assert call.state is not None
    start = call.state.image or {}, 1
    core.partition.journalled.step(call, [Scheduled(step, "run", "dice", None)], start, "go")
    if done:
        core.partition.journalled.step_done(call, step, 0, b"6")
    core.sync()


def test_a_plain_call_that_has_ended_its_process_three_times_runs_no_more() -> None:
    core = Core()
    core.create()
    starts = []
    for _ in range(3):
        core.call(2)
        starts.append(core.running[0].starts)
        die(core)

    number = core.call(2)

    [(answered, code, args)] = core.answers()
    assert (answered, code) == (number, Code.POISONED)
    assert args == [CALL_ID, "its process ended while it ran, 3 times"]
    assert starts == [1, 2, 3]
    assert core.running == []


def test_an_object_whose_call_was_given_up_takes_other_calls() -> None:
    core = Core()
    core.create()
    core.call(2)
    for _ in range(3):
        die(core)

    core.call(1, session=THERE)
    core.returned({"n": b"1"})
    core.sync()

    assert core.image() == {"n": b"1"}


@pytest.mark.parametrize("stored", [False, True])
def test_the_count_and_its_outcome_survive_everything(stored: bool) -> None:
    core = Core()
    core.create()
    for _ in range(3):
        core.call(2)
        die(core)
        core.crash()
        if stored:
            core.apply()
            core.trim()

    core.crash()
    core.call(2)

    assert [code for _, code, _ in core.answers()] == [Code.POISONED]


def test_one_death_counts_once_even_if_the_next_process_dies_before_it_serves() -> None:
    core = Core()
    core.create()
    core.call(2)
    driven = Driven(3, core.epoch, HERE, 2)
    for _ in range(5):
        core.crash(driven=driven)
        core.sync()

    core.call(2)

    assert [call.starts for call in core.running] == [2]


def test_a_call_that_has_ended_or_is_settled_is_not_blamed() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"})
    core.sync()
    for _ in range(4):
        die(core, 2)
        die(core, 1)

    core.call(2)
    assert [code for _, code, _ in core.answers()] == [0]
    core.call(3, confirmed=[2])
    core.returned({"n": b"2"})
    core.sync()
    for _ in range(4):
        die(core, 2)
    window = core.memory.window(HERE)
    assert window is not None
    assert window.blamed == {}


def test_the_end_of_a_call_forgets_what_it_was_blamed_for() -> None:
    core = Core()
    core.create()
    core.call(2)
    die(core)
    core.call(2)
    core.returned({"n": b"1"})
    core.sync()

    window = core.memory.window(HERE)
    assert window is not None
    assert window.blamed == {}
    assert len(window.row(1 << 40)) == 2


def test_a_call_without_a_finished_step_is_given_up_and_its_object_is_free() -> None:
    core = Core()
    core.create()
    core.call(2)
    begin_step(core, done=False)
    for attempt in (2, 3):
        die(core)
        assert [call.starts for call in core.running] == [attempt]
    die(core)
    assert core.running == []

    core.call(2)
    core.call(1, session=THERE)
    core.returned({"n": b"1"})
    core.sync()

    assert [code for _, code, _ in core.answers()] == [Code.POISONED, 0]
    assert core.memory.progress == {}


def test_a_call_with_a_finished_step_keeps_its_object_until_an_operator_decides() -> None:
    core = Core()
    core.create()
    core.call(2)
    begin_step(core, done=True)
    for _ in range(3):
        die(core)
    assert core.running == []
    core.crash()
    assert core.running == [], "it stays parked"

    core.call(1, session=THERE)
    [(_, code, args)] = core.answers()
    assert (code, args[:2]) == (Code.PARKED, [str(CART), CALL_ID])
    core.call(2)
    [(_, code, args)] = core.answers()
    assert (code, args[0]) == (Code.POISONED, CALL_ID)

    assert core.partition.journalled.retry(CART)
    core._work()
    core.sync()
    die(core)
    die(core)
    assert len(core.running) == 1, "an operator's retry is worth three more attempts"
    die(core)
    assert core.running == []


def test_the_next_step_recorded_clears_the_count() -> None:
    core = Core()
    core.create()
    core.call(2)
    begin_step(core, done=True)
    die(core)
    die(core)

    begin_step(core, done=True, step=2)
    die(core)
    die(core)
    assert [call.starts for call in core.running] == [5]

    die(core)
    assert core.running == []


def test_a_call_that_only_waits_is_never_blamed() -> None:
    core = Core()
    core.create()
    core.call(2)
    begin_step(core, done=True)
    for _ in range(10):
        core.crash()

    assert len(core.running) == 1


def with_timers(*timers: TimerSetting) -> Core:
    core = Core()
    core.create()
    core.call(2)
    effects = [TimerChange(timer.name, timer) for timer in timers]
    core.partition.method_returned(core.running.pop(), 0, b"", {}, effects=effects)
    core.sync()
    return core


def fire(core: Core) -> None:
    core.partition.fire(core.wall_ms)
    core._work()


def firing_dies(core: Core, name: str) -> None:
    timer = core.memory.timers.get(CART, name)
    assert timer is not None
    driven = Driven(3, core.epoch, NOBODY, 0, CART, name, timer.generation, timer.due_ms)
    core.crash(driven=driven)
    core.sync()


def test_a_timer_that_ends_its_process_is_parked_and_the_others_fire() -> None:
    core = with_timers(
        TimerSetting("bad", 0, "explode", b"", generation=1),
        TimerSetting("good", WALL_MS + 600_000, "add", b"", generation=2),
    )
    starts = []
    for _ in range(3):
        fire(core)
        [call] = core.running
        starts.append(call.starts)
        firing_dies(core, "bad")
        core.time_passes(60_000)

    bad = core.memory.timers.get(CART, "bad")
    assert bad is not None
    assert (bad.due_ms, bad.attempts, bad.deaths) == (PARKED_MS, 3, 3)
    assert starts == [1, 2, 3]
    core.time_passes(600_000)
    fire(core)
    assert [call.request.method for call in core.running] == ["add"]


def test_a_firing_with_an_unfinished_step_is_given_up_and_its_timer_parked() -> None:
    core = with_timers(TimerSetting("bad", 0, "explode", b"", "ms:1000", generation=1))
    fire(core)
    begin_step(core, done=False)
    for _ in range(3):
        core.crash(driven=Driven(3, core.epoch, NOBODY, 0, CART, "bad", 1, 0))
        core.sync()

    bad = core.memory.timers.get(CART, "bad")
    assert bad is not None
    assert bad.due_ms == PARKED_MS
    assert core.running == []
    assert core.memory.progress == {}


def test_a_timer_set_anew_is_not_blamed_for_the_old_one() -> None:
    core = with_timers(TimerSetting("bad", 0, "explode", b"", generation=2))
    core.crash(driven=Driven(3, core.epoch, NOBODY, 0, CART, "bad", 1, 0))
    core.crash(driven=Driven(3, core.epoch, NOBODY, 0, ObjectKey("Cart", "gone"), "bad", 2, 0))
    core.sync()

    timer = core.memory.timers.get(CART, "bad")
    assert timer is not None
    assert (timer.attempts, timer.deaths) == (0, 0)


def test_a_timer_fires_when_the_disk_has_it() -> None:
    core = Core()
    core.create()
    core.call(2)
    effect = TimerChange("soon", TimerSetting("soon", 0, "explode", b"", generation=1))
    core.partition.method_returned(core.running.pop(), 0, b"", {}, effects=[effect])
    core.write()

    fire(core)
    assert core.running == []
    core.sync()

    assert [call.request.method for call in core.running] == ["explode"]


def test_a_sent_call_that_ends_its_process_before_the_disk_has_it_is_given_up() -> None:
    core = Core()
    core.create()
    starts = []
    for _ in range(3):
        core.call(2, "explode", kind=Kind.SEND)
        [call] = core.running
        starts.append(call.starts)
        timer = call.timer
        assert timer is not None
        driven = Driven(3, core.epoch, NOBODY, 0, CART, timer.name, timer.generation, timer.due_ms)
        core.crash(driven=driven)
        core.sync()

    core.call(2, "explode", kind=Kind.SEND)

    assert [code for _, code, _ in core.answers()] == [Code.POISONED]
    assert core.running == []
    assert starts == [1, 1, 1]
