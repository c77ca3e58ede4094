"""Runs that have ended go after a while, on a real node: its journal, its stores, its upkeep."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from harness.bells import ShiftedClock
from harness.loop import on_loop
from harness.nodes import Caller, result_of, running, settings

from perdure import (
    HookNotFound,
    RunNotFound,
    codec,
    define_hook,
    get_run,
    get_writable,
    resume_hook,
    start,
    step,
    workflow,
)
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.limits import Limits
from perdure_node.node import Node

HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS

anything = define_hook()


@step
async def retained_words(count: int) -> int:
    for number in range(count):
        await get_writable().write(number)
    return count


@workflow
async def retained(token: str, count: int) -> int:
    hook = anything.create(token=token)
    await hook
    return await retained_words(count)


@workflow(retention=timedelta(hours=1))
async def retained_briefly() -> str:
    return "brief"


@workflow(retention=math.inf)
async def retained_for_ever() -> str:
    return "kept"


class Runs:
    """What a test does with the runs of one node."""

    def __init__(self, node: Node, caller: Caller) -> None:
        self.node = node
        self.client = caller.client

    async def ended(self, id: str, name: str, *args: Any, tell: str | None = None) -> Any:
        """Start a run, and return its result."""
        packed = codec.encode([codec.encode([list(args), {}]), None])
        started = self.client.call(key_of(id), Kind.START, name, arguments=packed)
        assert result_of(await started) is True
        if tell is not None:
            result_of(await self.client.call(key_of(id), Kind.NOTIFY, tell))
        return await self.result(id)

    async def result(self, id: str) -> Any:
        code, payload = result_of(await self.client.call(key_of(id), Kind.ASK, "result"))
        assert code == 0
        return codec.decode(payload)

    async def is_there(self, id: str) -> bool:
        try:
            result_of(await self.client.call(key_of(id), Kind.ASK, "status"))
        except RunNotFound:
            return False
        return True

    def rows_of(self, id: str) -> list[bytes]:
        """Return the keys in the stores that have to do with a run; but not sessions."""
        return [
            key
            for host in self.node._hosts
            for key, _ in host.store.scan(b"", b"", 100_000)
            if id.encode() in key and key[:1] != b"s"
        ]


def key_of(id: str) -> ObjectKey:
    return ObjectKey("workflow", id)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():
        await asyncio.sleep(0.005)


def often(data: Path, **limits: int) -> Any:
    return settings(data, sweep_interval_s=0.01, apply_interval_s=0.01, limits=Limits(**limits))


@on_loop
async def test_a_run_that_has_ended_goes_with_all_that_it_had(tmp_path: Path) -> None:
    clock = ShiftedClock()
    made = often(tmp_path, run_retention_ms=20 * HOUR_MS)
    async with running(made, clock=clock, crash=True) as (node, caller):
        runs = Runs(node, caller)
        assert await runs.ended("run-1", "retained", "token-of-1", 3, tell="token-of-1") == 3
        clock.shift_ms += 10 * HOUR_MS
        assert await runs.ended("run-2", "retained", "token-of-2", 2, tell="token-of-2") == 2
        clock.shift_ms += 10 * HOUR_MS

        async def gone() -> bool:
            return not await runs.is_there("run-1")

        await until(gone)
        with pytest.raises(RunNotFound):
            await runs.result("run-1")
        assert await runs.result("run-2") == 2

    # As after kill -9: what is gone stays gone, and its rows and tokens go too.
    async with running(replace(made, new=False), clock=clock) as (node, caller):
        runs = Runs(node, caller)
        assert not await runs.is_there("run-1")

        async def nothing_left() -> bool:
            return not runs.rows_of("run-1") and not runs.rows_of("token-of-1")

        await until(nothing_left)
        assert runs.rows_of("run-2")
        assert runs.rows_of("token-of-2")
        assert await runs.ended("run-1", "retained", "token-of-1", 1, tell="token-of-1") == 1


@on_loop
async def test_many_runs_go_although_the_node_dies_again_and_again(tmp_path: Path) -> None:
    clock, ids = ShiftedClock(), [f"run-{number}" for number in range(150)]
    async with running(often(tmp_path), clock=clock, crash=True) as (node, caller):
        runs = Runs(node, caller)
        work = (runs.ended(id, "retained", f"T-{id}", 2, tell=f"T-{id}") for id in ids)
        await asyncio.gather(*work)
        await runs.ended("stays", "retained_for_ever")
    clock.shift_ms += WEEK_MS
    there = ids
    while there:
        async with running(often(tmp_path), clock=clock, crash=True) as (node, caller):
            runs = Runs(node, caller)
            before = there
            there = [id for id in ids if await runs.is_there(id)]
            assert {*there} <= {*before}, "what is gone stays gone"
            while there and len(there) == len(before):
                there = [id for id in there if await runs.is_there(id)]
    async with running(often(tmp_path), clock=clock) as (node, caller):
        runs = Runs(node, caller)

        async def nothing_left() -> bool:
            return not runs.rows_of("run-")

        await until(nothing_left)
        assert await runs.result("stays") == "kept"


@on_loop
async def test_a_workflow_and_the_limits_say_how_long_runs_stay(tmp_path: Path) -> None:
    clock = ShiftedClock()
    made = often(tmp_path, run_retention_ms=2 * HOUR_MS)
    async with running(made, clock=clock) as (node, caller):
        runs = Runs(node, caller)
        names = ("retained_briefly", "retained", "retained_for_ever")

        async def there() -> list[str]:
            return [name for name in names if await runs.is_there(name)]

        for name in names:
            args = ("T", 1) if name == "retained" else ()
            await runs.ended(name, name, *args, tell="T" if args else None)
        for passed_ms, left in ((HOUR_MS, names[1:]), (HOUR_MS, names[2:])):
            clock.shift_ms += passed_ms

            async def has_gone(left: tuple[str, ...] = left) -> bool:
                return await there() == [*left]

            await until(has_gone)
        clock.shift_ms += 1_000 * WEEK_MS
        for host in node._hosts:
            host.sweep(100, node.partition_count)
        assert await there() == ["retained_for_ever"]


def test_runs_stay_for_a_week() -> None:
    assert Limits().run_retention_ms == WEEK_MS


@pytest.mark.parametrize("wrong", [-1, math.nan, timedelta(seconds=-1)])
def test_a_retention_is_not_negative(wrong: Any) -> None:
    with pytest.raises(ValueError, match="retention"):
        workflow(retention=wrong)


@pytest.mark.parametrize("wrong", ["a week", True])
def test_a_retention_is_a_time(wrong: Any) -> None:
    with pytest.raises(TypeError, match="retention"):
        workflow(retention=wrong)


def test_programs_hear_that_a_run_is_gone(tmp_path: Path, monkeypatch: Any) -> None:
    from harness.world import Embedded

    monkeypatch.setenv("PERDURE_LIMITS_RUN_RETENTION_MS", "0")

    async def program() -> None:
        run = await start(retained, "T-programs", 1, id="programs")
        await resume_hook("T-programs", reply=False)
        while True:
            try:
                await run.result()
                await run.status()
            except RunNotFound:
                break
        with pytest.raises(RunNotFound):
            await get_run("programs").events()
        with pytest.raises(HookNotFound):
            await resume_hook("T-programs", reply=False)
        again = await start(retained, "T-programs", 2, id="programs")
        # It may be gone a moment after its end: whoever wants its result asks before.
        result = asyncio.create_task(again.result())
        await asyncio.sleep(0)
        await resume_hook("T-programs", reply=False)
        assert await result == 2

    Embedded(tmp_path / "data").run(program)
