"""Timers on a real node: set and cancelled with the state, fired in time, each effect once."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from harness.bells import (
    ENTERED,
    GATES,
    ShiftedClock,
    firings_waiting,
    fresh_gates,
    hold,
    let_fire,
    partition_with,
    state_when,
    timers_of,
    until,
)
from harness.busy import how_busy
from harness.loop import on_loop
from harness.nodes import Caller, running, settings

from perdure import Timer
from perdure.errors import RemoteError, TooManyTimers
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.firings import LATER_MS
from perdure_node.core.limits import Limits

HOUR = 3_600
AN_HOUR_LATER_MS = (HOUR + 1) * 1_000
"""A timer is set a moment after the clock was looked at, and never fires early."""


def names(timers: list[Any]) -> list[str]:
    return [timer.name for timer in timers]


@on_loop
async def test_a_timer_is_set_and_cancelled_with_the_state_or_not_at_all(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Bell")
        with pytest.raises(RuntimeError, match="on purpose"):
            await caller.call("Bell", "set_and_fail", HOUR, "no")
        assert timers_of(node) == []

        assert await caller.call("Bell", "set", HOUR, "kept") == "ring"
        before = timers_of(node)
        with pytest.raises(RuntimeError, match="on purpose"):
            await caller.call("Bell", "set_and_fail", 2 * HOUR, "in its place")
        assert timers_of(node) == before
        with pytest.raises(RuntimeError, match="on purpose"):
            await caller.call("Bell", "cancel_and_fail", "ring")
        assert timers_of(node) == before

        assert await caller.call("Bell", "cancel", "ring") is True
        assert timers_of(node) == []
        assert await caller.call("Bell", "cancel", "ring") is False


@on_loop
async def test_what_was_set_before_a_save_stays_when_the_method_fails_later(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("Bell")
        with pytest.raises(RuntimeError, match="on purpose"):
            await caller.call("Bell", "set_save_and_fail", "saved", "lost")
        assert names(timers_of(node)) == ["saved"]
    async with running(settings(tmp_path)) as (node, _):
        assert names(timers_of(node)) == ["saved"]


@on_loop
async def test_an_object_has_any_number_of_timers_and_lists_them_by_name(tmp_path: Path) -> None:
    limits = Limits(timers_per_object_max=4)
    async with running(settings(tmp_path, limits=limits)) as (node, caller):
        await caller.create("Bell")
        before = dt.datetime.now(dt.UTC)
        assert await caller.call("Bell", "set", 2 * HOUR) == "ring"
        assert await caller.call("Bell", "set", HOUR, "x", "b") == "b"
        assert await caller.call("Bell", "set", HOUR, "x", "a") == "a"
        assert await caller.call("Bell", "set_every", dt.timedelta(minutes=5), None, "add") == "add"
        listed: list[Timer] = await caller.call("Bell", "list")
        assert names(listed) == ["a", "add", "b", "ring"]
        assert [timer.method for timer in listed] == ["ring", "add", "ring", "ring"]
        assert [timer.every for timer in listed] == [None, dt.timedelta(minutes=5), None, None]
        assert listed[0].due.tzinfo is dt.UTC
        assert 0 <= (listed[0].due - before).total_seconds() - HOUR < 60

        with pytest.raises(TooManyTimers):
            await caller.call("Bell", "set", HOUR, "x", "one more")
        assert await caller.call("Bell", "set", 3 * HOUR, "x", "b") == "b", "in its own place"
        with pytest.raises(ValueError, match="no NUL character"):
            await caller.call("Bell", "cancel", "\0send:x")
        with pytest.raises(RemoteError, match=r"BadArguments: Bell\.ring"):
            await caller.call("Bell", "set_method", 1.0, "ring", 1, 2, 3)
        assert names(timers_of(node)) == ["a", "add", "b", "ring"]


@on_loop
async def test_timers_fire_in_order_never_early_and_hardly_late(tmp_path: Path) -> None:
    with how_busy(tmp_path) as busy:
        found = await fifty_timers(tmp_path / "n1")
    assert min(found["late_ms"]) >= 0
    assert sorted(found["late_ms"])[25] < 250 + busy.longest_ms, found["late_ms"]


async def fifty_timers(data: Path) -> dict[str, Any]:
    """Return the state of an object whose timers have fired, 7 ms apart."""
    async with running(settings(data)) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_all", 50, 7)
        found = await state_when(caller, lambda state: len(state["late_ms"]) == 50)
        assert timers_of(node) == []
    return found


@on_loop
async def test_a_timer_fires_after_a_crash_and_once_only(tmp_path: Path) -> None:
    clock = ShiftedClock()
    async with running(settings(tmp_path), crash=True, clock=clock) as (_, caller):
        await caller.create("Bell")
        await caller.create("Bell", "y")
        await caller.call("Bell", "set", HOUR, "once")
        await caller.call("Bell", "set", 2 * HOUR, "later", id="y")
    clock.shift_ms = HOUR * 1_000
    async with running(settings(tmp_path), crash=True, clock=clock) as (node, caller):
        await state_when(caller, lambda state: state["rings"] == ["once"])
        assert timers_of(node) == []
        assert len(timers_of(node, id="y")) == 1
    clock.shift_ms = 2 * HOUR * 1_000
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        await state_when(caller, lambda state: state["rings"] == ["later"], id="y")
        assert (await caller.state("Bell"))["rings"] == ["once"]


@on_loop
async def test_a_firing_that_has_saved_goes_on_after_a_crash_and_does_not_begin_again(
    tmp_path: Path,
) -> None:
    fresh_gates("go")
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_method", 0.001, "ring_slowly")
        progress = partition_with(node, "Bell").memory.progress
        key = ObjectKey("Bell", "x")
        await until(lambda: key in progress and progress[key].events[-1].tag == "d")
        assert timers_of(node) == [], "its first record has removed it"
        await caller.create("Bell", "y")
        await state_when(caller, lambda state: state["rings"] == ["begun"])
    for _ in range(2):
        async with running(settings(tmp_path), crash=True) as (node, caller):
            let_fire(node)
            assert (await caller.state("Bell"))["rings"] == ["begun"]
            assert firings_waiting(node) == 0
    assert ENTERED.count("chime") == 1
    GATES["go"].set()
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await state_when(caller, lambda state: state["rings"] == ["begun", "chime", "ended"])
    assert ENTERED.count("chime") == 1
    async with running(settings(tmp_path)) as (node, caller):
        let_fire(node)
        assert await caller.call("Bell", "add") == 3
        assert timers_of(node) == []


@on_loop
async def test_a_firing_that_has_left_nothing_yet_begins_again_after_a_crash(
    tmp_path: Path,
) -> None:
    fresh_gates("go")
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_method", 0.001, "ring_when_open")
        await until(lambda: ENTERED)
        await caller.create("Bell", "y")  # A later record: whatever was before it is durable.
    GATES["go"].set()
    async with running(settings(tmp_path)) as (node, caller):
        await state_when(caller, lambda state: state["rings"] == ["waited"])
        assert timers_of(node) == []
    assert ENTERED == ["when open"] * 2


@on_loop
async def test_a_timer_that_is_cancelled_while_it_waits_for_the_object_does_not_fire(
    tmp_path: Path,
) -> None:
    fresh_gates("hold")
    clock = ShiftedClock()
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set", HOUR, "never")
        held = await hold(node, caller, "hold_then_cancel", "ring")
        clock.shift_ms = AN_HOUR_LATER_MS
        let_fire(node)
        assert firings_waiting(node) == 1
        GATES["hold"].set()
        assert await held is True
        assert await caller.call("Bell", "add") == 0
    assert ENTERED == []


@on_loop
async def test_a_timer_that_is_set_anew_while_it_waits_for_the_object_fires_once(
    tmp_path: Path,
) -> None:
    fresh_gates("hold")
    clock = ShiftedClock()
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set", HOUR, "old")
        held = await hold(node, caller, "hold_then_set", 0.05, "new")
        clock.shift_ms = AN_HOUR_LATER_MS
        let_fire(node)
        assert firings_waiting(node) == 1
        GATES["hold"].set()
        await held
        await state_when(caller, lambda state: state["rings"] == ["new"])
        assert timers_of(node) == []
    assert ENTERED == ["new"]


@on_loop
async def test_a_handler_may_set_its_own_timer_anew(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_method", 0.001, "ring_on", 5)
        await state_when(caller, lambda state: state["rings"] == [5, 4, 3, 2, 1])
        assert timers_of(node) == []


@on_loop
async def test_a_handler_may_cancel_its_own_timer_for_good(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Bell")
        every = dt.timedelta(milliseconds=5)
        await caller.call("Bell", "set_every", every, None, "ring_once_of_many")
        await state_when(caller, lambda state: state["rings"])
        assert timers_of(node) == []
        assert await caller.call("Bell", "add") == 1


@on_loop
async def test_a_handler_that_saved_another_timer_of_its_name_and_failed_leaves_that_one(
    tmp_path: Path,
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set_method", 0.001, "save_a_new_one_and_fail")
        await state_when(caller, lambda state: state["rings"] == ["new"])
        assert timers_of(node) == []


@on_loop
async def test_a_method_that_is_resumed_does_not_set_again_what_it_had_set(tmp_path: Path) -> None:
    fresh_gates("go")
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("Bell")
        caller.send("Bell", "set_save_and_wait")
        await until(lambda: timers_of(node))
        await caller.state("Bell")
        [before] = timers_of(node)
    async with running(settings(tmp_path)) as (node, caller):
        assert timers_of(node) == [before]
        GATES["go"].set()
        await until(lambda: len(timers_of(node)) == 2)
        assert timers_of(node)[1] == before


@on_loop
async def test_a_full_mailbox_delays_a_firing(tmp_path: Path) -> None:
    fresh_gates("hold")
    limits = Limits(mailbox_calls_max=1)
    clock = ShiftedClock()
    async with running(settings(tmp_path, limits=limits), clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set", HOUR, "late")
        held = await hold(node, caller)
        behind = asyncio.ensure_future(caller.call("Bell", "add"))
        mailbox = partition_with(node, "Bell").mailboxes.get(ObjectKey("Bell", "x"))
        await until(lambda: mailbox.waiting)
        clock.shift_ms = AN_HOUR_LATER_MS
        let_fire(node)
        assert partition_with(node, "Bell").memory.timers._put_off
        assert firings_waiting(node) == 0
        GATES["hold"].set()
        assert await asyncio.gather(held, behind) == [None, 0]
        clock.shift_ms += LATER_MS
        let_fire(node)
        await state_when(caller, lambda state: state["rings"] == ["late"])
        assert timers_of(node) == []


async def delete(caller: Caller, id: str = "x", type: str = "Bell") -> None:
    assert (await caller.client.call(ObjectKey(type, id), Kind.DELETE)).code == 0


@on_loop
async def test_deleting_an_object_removes_its_timers_also_those_that_wait_to_run(
    tmp_path: Path,
) -> None:
    fresh_gates("hold")
    clock = ShiftedClock()
    async with running(settings(tmp_path), crash=True, clock=clock) as (node, caller):
        await caller.create("Bell")
        await caller.call("Bell", "set", 2 * HOUR, "never", "later")
        await caller.call("Bell", "set", HOUR, "never")
        held = await hold(node, caller)
        deleted = asyncio.ensure_future(delete(caller))
        mailbox = partition_with(node, "Bell").mailboxes.get(ObjectKey("Bell", "x"))
        await until(lambda: mailbox.waiting)
        clock.shift_ms = AN_HOUR_LATER_MS
        let_fire(node)
        assert firings_waiting(node) == 1
        GATES["hold"].set()
        await asyncio.gather(held, deleted)
        await caller.create("Bell")
        assert timers_of(node) == []
        assert await caller.call("Bell", "add") == 0
    clock.shift_ms = 2 * HOUR * 1_000
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        let_fire(node)
        assert await caller.call("Bell", "add") == 0
    assert ENTERED == []
