"""Timers that repeat, and timers whose methods fail: when they come next, over restarts too."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

from harness.bells import (
    ENTERED,
    GATES,
    ShiftedClock,
    fresh_gates,
    let_fire,
    state_when,
    timers_of,
    until,
)
from harness.loop import on_loop
from harness.nodes import running, settings

from perdure.schedules import TimerSetting
from perdure_node.core.firing import PARKED_MS
from perdure_node.core.limits import Limits
from perdure_node.node import Node

BERLIN = ZoneInfo("Europe/Berlin")


def ms(time: dt.datetime) -> int:
    return int(time.timestamp() * 1_000)


def last_sunday(year: int, month: int) -> dt.date:
    day = dt.date(year, month, 31)
    return day - dt.timedelta(days=(day.weekday() + 1) % 7)


def in_berlin(day: dt.date, hour: int, minute: int = 0, *, fold: int = 0) -> int:
    return ms(dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=BERLIN, fold=fold))


async def ring_at(node: Node, clock: ShiftedClock, wall_ms: int) -> TimerSetting:
    """Put the clock forward, let it be rung, and return the object's timer then."""
    clock.put_to(wall_ms)
    let_fire(node)
    [before] = timers_of(node)
    if before.due_ms <= wall_ms:
        await until(lambda: timers_of(node) != [before])
    return timers_of(node)[0]


@on_loop
async def test_an_interval_keeps_its_beat_and_makes_up_for_an_outage_with_one_firing(
    tmp_path: Path,
) -> None:
    clock = ShiftedClock()
    async with running(settings(tmp_path), crash=True, clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_every", dt.timedelta(minutes=10))
        [first] = timers_of(node)
        minute = 60_000
        second = await ring_at(node, clock, first.due_ms)
        assert second.due_ms == first.due_ms + 10 * minute
        third = await ring_at(node, clock, second.due_ms + 3_000)
        assert third.due_ms == second.due_ms + 10 * minute, "lateness does not add up"
        assert (await caller.state("Bell"))["rings"] == ["ding"] * 2
    clock.put_to(third.due_ms + 65 * minute)
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        found = await state_when(caller, lambda state: len(state["rings"]) > 2)
        assert len(found["rings"]) == 3, "seven were missed"
        [last] = timers_of(node)
        assert last.due_ms == third.due_ms + 70 * minute


@on_loop
async def test_a_short_interval_comes_again_and_again(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_every", dt.timedelta(milliseconds=10))
        await state_when(caller, lambda state: len(state["rings"]) >= 5)
        assert await caller.call("Bell", "cancel", "ring") is True
        rings = await caller.call("Bell", "add")
        await caller.call("Bell", "set", 0.05, "the end")
        found = await state_when(caller, lambda state: state["rings"][-1] == "the end")
        assert len(found["rings"]) == rings + 1


@on_loop
async def test_a_time_of_the_day_that_a_change_of_clocks_leaves_out_comes_when_it_is_over(
    tmp_path: Path,
) -> None:
    clock = ShiftedClock()
    day = last_sunday(dt.datetime.now(BERLIN).year + 1, 3)
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_every", "30 2 * * *", "Europe/Berlin")
        # The day before, everything missed since today is made up for.
        timer = await ring_at(node, clock, in_berlin(day - dt.timedelta(days=1), 12))
        assert timer.due_ms == in_berlin(day, 3), "there is no half past two"
        timer = await ring_at(node, clock, timer.due_ms - 1)
        assert len((await caller.state("Bell"))["rings"]) == 1
        timer = await ring_at(node, clock, timer.due_ms)
        assert timer.due_ms == in_berlin(day + dt.timedelta(days=1), 2, 30)
        assert len((await caller.state("Bell"))["rings"]) == 2


@on_loop
async def test_a_time_of_the_day_that_comes_twice_fires_once_and_an_hourly_timer_each_hour(
    tmp_path: Path,
) -> None:
    clock = ShiftedClock()
    day = last_sunday(dt.datetime.now(BERLIN).year + 1, 10)
    async with running(settings(tmp_path / "daily"), clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_every", "30 2 * * *", "Europe/Berlin")
        timer = await ring_at(node, clock, in_berlin(day - dt.timedelta(days=1), 12))
        assert timer.due_ms == in_berlin(day, 2, 30)
        timer = await ring_at(node, clock, timer.due_ms)
        assert timer.due_ms == in_berlin(day + dt.timedelta(days=1), 2, 30)
    clock.shift_ms = 0
    async with running(settings(tmp_path / "hourly"), clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_every", "0 * * * *", "Europe/Berlin")
        timer = await ring_at(node, clock, in_berlin(day, 1, 30))
        dues = []
        for _ in range(3):
            dues.append(timer.due_ms)
            timer = await ring_at(node, clock, timer.due_ms)
        assert dues == [in_berlin(day, 2), in_berlin(day, 2, fold=1), in_berlin(day, 3)]


@on_loop
async def test_a_clock_that_is_put_back_brings_nothing_a_second_time(tmp_path: Path) -> None:
    clock = ShiftedClock()
    async with running(settings(tmp_path), crash=True, clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_every", dt.timedelta(hours=1))
        [first] = timers_of(node)
        second = await ring_at(node, clock, first.due_ms)
    clock.put_to(first.due_ms - 1_800_000)
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        assert await ring_at(node, clock, first.due_ms) == second
        assert (await caller.state("Bell"))["rings"] == ["ding"]


@on_loop
async def test_a_method_that_always_fails_waits_longer_each_time_over_restarts_then_is_parked(
    tmp_path: Path,
) -> None:
    fresh_gates()
    clock = ShiftedClock()
    limits = Limits(timer_attempts_max=4, timer_retry_ms=60_000)
    waits = []
    for attempt in range(4):
        async with running(settings(tmp_path, limits=limits), crash=True, clock=clock) as (n, c):
            if not attempt:
                await c.create("Bell")
                await c.create("Bell", "other")
                await c.call("Bell", "set_method", 0.001, "always_fail")
            await until(lambda n=n, a=attempt: timers_of(n)[0].attempts == a + 1)
            # The others are on time, on the same object too.
            word = f"{attempt}"
            for id in ("x", "other"):
                await c.call("Bell", "set", -1.0, word, id=id)
                await state_when(c, lambda state, w=word: w in state["rings"], id=id)
            [timer] = timers_of(n)
            assert (await c.state("Bell"))["fails"] == 0, "what it did is undone"
            waits.append(timer.due_ms - clock.wall_ms())
        if timer.due_ms != PARKED_MS:
            clock.put_to(timer.due_ms)
    minutes = [round(wait / 60_000) for wait in waits[:3]]
    assert minutes == [1, 2, 4]
    assert timer.due_ms == PARKED_MS
    assert ENTERED.count("always_fail") == 4

    clock.shift_ms += 3_600_000
    async with running(settings(tmp_path, limits=limits), clock=clock) as (node, caller):
        let_fire(node)
        await caller.call("Bell", "set", -1.0, "last")
        await state_when(caller, lambda state: state["rings"][-1] == "last")
        assert ENTERED.count("always_fail") == 4
        [listed] = await caller.call("Bell", "list")
        assert (listed.name, listed.attempts) == ("always_fail", 4)
        assert listed.due == dt.datetime.max.replace(tzinfo=dt.UTC)
        assert await caller.call("Bell", "set_method", -1.0, "always_fail") == "always_fail"
        await until(lambda: ENTERED.count("always_fail") == 5)
        assert await caller.call("Bell", "cancel", "always_fail") is True


@on_loop
async def test_an_interval_is_in_its_beat_again_after_a_failure(tmp_path: Path) -> None:
    fresh_gates()
    clock = ShiftedClock()
    limits = Limits(timer_retry_ms=7_000)
    async with running(settings(tmp_path, limits=limits), clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_every", dt.timedelta(minutes=1), None, "fail_once")
        [first] = timers_of(node)
        again = await ring_at(node, clock, first.due_ms)
        assert again.attempts == 1
        assert 6_000 <= again.due_ms - first.due_ms < 10_000
        second = await ring_at(node, clock, again.due_ms)
        assert (second.attempts, second.due_ms) == (0, first.due_ms + 60_000)
        assert (await caller.state("Bell"))["rings"] == ["second time"]


@on_loop
async def test_timers_of_one_object_do_not_wait_for_those_of_a_busy_one(tmp_path: Path) -> None:
    fresh_gates("hold")
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Bell")
        held = asyncio.ensure_future(caller.call("Bell", "hold"))
        for k in range(8):
            await caller.create("Bell", f"b{k}")
            await caller.call("Bell", "set", 0.01, id=f"b{k}")
        for k in range(8):
            await state_when(caller, lambda state: state["rings"], id=f"b{k}")
        GATES["hold"].set()
        await held
