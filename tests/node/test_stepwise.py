"""Methods that wait for nothing but their steps: driven without a task, while that will do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.bells import partition_with, until
from harness.loop import on_loop
from harness.nodes import result_of, running, settings

from perdure import CallCancelled, DurableContext, DurableObject, codec, durable
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.node import Node

GATES: dict[str, asyncio.Event] = {}
SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    GATES.clear()
    GATES["go"] = asyncio.Event()
    SEEN.clear()


@durable.service("stepwise")
class Slow:
    async def now(self, number: int) -> int:
        return number

    async def when_open(self, number: int) -> int:
        await GATES["go"].wait()
        return number


def note_task() -> None:
    """Note the task that runs."""
    SEEN.append(asyncio.current_task())


def begin_beside(function: Callable[[], Any]) -> None:
    """Begin a task; who calls this does not see that."""
    SEEN.append(asyncio.get_running_loop().create_task(function()))


class Opened:
    """Looks like a context, and waits for something else than a step."""

    async def call(self, service: str, method: str, number: int) -> int:
        await GATES["go"].wait()
        note_task()
        return number


@durable.object
class Walker(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.walked: list[Any] = []

    async def walk(self, ctx: DurableContext) -> list[Any]:
        note_task()
        self.walked.append(await ctx.call("stepwise", "now", 1))
        note_task()
        await self.save()
        self.walked.append(await ctx.run("two", lambda: 2))
        await self._rest(ctx)
        note_task()
        return self.walked

    async def _rest(self, ctx: DurableContext) -> None:
        await ctx.sleep(0.001)
        self.walked.append(await ctx.call("stepwise", "when_open", 3))

    async def stop(self, ctx: DurableContext) -> str:
        try:
            self.walked.append(await ctx.call("stepwise", "now", 1))
            await ctx.call("stepwise", "when_open", 2)
        finally:
            SEEN.append("cleaned")
            note_task()
        return "arrived"

    async def misleads(self, ctx: DurableContext) -> int:
        self.walked.append(await ctx.call("stepwise", "now", 1))
        ctx = Opened()  # type: ignore[assignment]
        return await ctx.call("stepwise", "now", 2)

    async def begins_another(self, ctx: DurableContext) -> list[Any]:
        begin_beside(lambda: self._beside(ctx))
        self.walked.append(await ctx.call("stepwise", "now", 1))
        self.walked.append(await ctx.call("stepwise", "when_open", 2))
        return self.walked

    async def _beside(self, ctx: DurableContext) -> None:
        SEEN.append(await ctx.run("beside", lambda: "beside"))

    async def fails(self, ctx: DurableContext) -> None:
        await ctx.call("stepwise", "now", 1)
        raise ValueError("on purpose")

    async def leaves_one_open(self, ctx: DurableContext) -> list[int]:
        _ = ctx.call("stepwise", "when_open", 1)
        heard = [await ctx.call("stepwise", "now", 2), await ctx.run("three", lambda: 3)]
        note_task()
        GATES["go"].set()
        return heard


async def waiting(node: Node, events: int) -> None:
    """Return when the call of the walker waits for what comes after so many events."""
    partition, key = partition_with(node, "Walker"), ObjectKey("Walker", "x")
    progress = partition.memory.progress
    await until(lambda: key in progress and len(progress[key].events) == events)


@on_loop
async def test_a_method_that_waits_for_steps_only_has_no_task(tmp_path: Path) -> None:
    GATES["go"].set()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Walker")
        assert await caller.call("Walker", "walk") == [1, 2, 3]
    assert SEEN[1:] == [None, None]


@on_loop
async def test_it_counts_as_running_while_it_waits(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Walker")
        call = caller.send("Walker", "stop")
        await waiting(node, 3)
        assert node._executor.running == 1
        GATES["go"].set()
        assert (await call).code == 0
        assert node._executor.running == 0


@on_loop
async def test_what_it_raises_is_its_outcome(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Walker")
        with pytest.raises(ValueError, match="on purpose"):
            await caller.call("Walker", "fails")


@pytest.mark.parametrize("how", ["cancel", "kill"])
@on_loop
async def test_it_cleans_up_in_a_task_when_it_is_ended(tmp_path: Path, how: str) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Walker")
        call = caller.send("Walker", "stop")
        await waiting(node, 3)
        key, id = ObjectKey("Walker", "x"), codec.encode(str(call.call_id))
        told = await caller.client.call(key, Kind.CANCEL, how, arguments=id)
        assert result_of(told) is True
        with pytest.raises(CallCancelled):
            result_of(await call)
        await until(lambda: len(SEEN) == 2)
        assert SEEN[0] == "cleaned"
        assert SEEN[1] is not None
        GATES["go"].set()
        assert (await caller.call("Walker", "walk"))[-3:] == [1, 2, 3], "its object is free"


@on_loop
async def test_it_goes_on_after_its_node_was_stopped(tmp_path: Path) -> None:
    async with running(settings(tmp_path, drain_s=0.0)) as (node, caller):
        await caller.create("Walker")
        caller.send("Walker", "stop")
        await waiting(node, 3)
    assert SEEN[0] == "cleaned"
    GATES["go"].set()
    async with running(settings(tmp_path)) as (node, caller):
        key = ObjectKey("Walker", "x")
        await until(lambda: key not in partition_with(node, "Walker").memory.progress)
        assert (await caller.state("Walker"))["walked"] == [1]


@on_loop
async def test_it_gets_a_task_when_it_waits_for_something_else_after_all(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Walker")
        call = asyncio.ensure_future(caller.call("Walker", "misleads"))
        await waiting(node, 2)
        GATES["go"].set()
        assert await call == 2
    assert SEEN[0] is not None


@on_loop
async def test_a_task_that_it_begins_unseen_is_noticed(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Walker")
        call = asyncio.ensure_future(caller.call("Walker", "begins_another"))
        await waiting(node, 5)
        [turn] = [one._turn for one in node._executor.stepwise]
        assert not turn.is_alone
        GATES["go"].set()
        assert await call == [1, 2]
    assert SEEN[1] == "beside"


@on_loop
async def test_a_result_wakes_it_while_another_step_is_open(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Walker")
        assert await caller.call("Walker", "leaves_one_open") == [2, 3]
    assert SEEN == [None]
