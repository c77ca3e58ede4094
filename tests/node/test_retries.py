"""Methods that raise and are run again, because their type asks for that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, result_of, running, settings
from harness.tally import settled

from perdure import CallCancelled, DurableContext, DurableObject, codec, ctx, durable
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.limits import Limits
from perdure_node.node import Node

SOON = Limits(method_retry_ms=1, method_retry_max_ms=2)
LATE = Limits(method_retry_ms=3_600_000, method_retry_max_ms=3_600_000)

MADE: list[Any] = []
GATES: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def fresh() -> None:
    MADE.clear()
    GATES.clear()
    GATES["go"] = asyncio.Event()


@durable.object(retries=3)
class TriesAgain(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.tries = 0
        self.saved = 0

    async def until_attempt(self, good: int) -> list[int]:
        self.tries += 1
        MADE.append(ctx.attempt)
        if ctx.attempt < good:
            raise ConnectionError(f"attempt {ctx.attempt}")
        return [ctx.attempt, self.tries]

    async def save_first(self, good: int) -> int:
        self.saved += 1
        await self.save()
        self.tries += 1
        if ctx.attempt < good:
            raise ConnectionError("not yet")
        return self.saved

    async def in_steps(self, context: DurableContext, good: int) -> list[Any]:
        first = await context.run("first", self._made, "first")
        await context.run("second", self._second, good)
        self.tries += 1
        return [first, context.attempt]

    def _made(self, name: str) -> str:
        MADE.append(name)
        return name

    def _second(self, good: int) -> None:
        MADE.append("second")
        if MADE.count("second") < good:
            raise OSError("away")

    async def beside(self, good: int) -> list[Any]:
        slow = asyncio.ensure_future(ctx.run("slow", self._slow))
        try:
            await asyncio.gather(slow, ctx.run("second", self._second, good))
        finally:
            slow.cancel()
        return [ctx.attempt]

    async def _slow(self) -> str:
        MADE.append("slow")
        await GATES["go"].wait()
        return "slow"

    async def nested(self, good: int) -> int:
        return await durable.ref(NeverAgain, "n").until(good)

    async def add(self) -> int:
        self.tries += 1
        return self.tries


@durable.object
class NeverAgain(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)

    async def until(self, good: int) -> int:
        MADE.append("nested")
        if len(MADE) < good:
            raise ConnectionError(f"nested {len(MADE)}")
        return len(MADE)


@durable.function(retries=2)
async def unreliable(good: int) -> int:
    MADE.append(ctx.attempt)
    if ctx.attempt < good:
        raise ConnectionError("not yet")
    return ctx.attempt


async def until(condition: Any) -> None:
    while not condition():
        await settled()


@on_loop
async def test_a_method_is_run_again_with_its_state_undone(tmp_path: Path) -> None:
    async with running(settings(tmp_path, limits=SOON)) as (_, caller):
        await caller.create("TriesAgain")
        assert await caller.call("TriesAgain", "until_attempt", 3) == [3, 1]
        assert MADE == [1, 2, 3]
        assert (await caller.state("TriesAgain"))["tries"] == 1


@on_loop
async def test_after_the_last_attempt_its_exception_is_the_answer(tmp_path: Path) -> None:
    async with running(settings(tmp_path, limits=SOON)) as (_, caller):
        await caller.create("TriesAgain")
        with pytest.raises(ConnectionError, match="attempt 4"):
            await caller.call("TriesAgain", "until_attempt", 9)
        assert MADE == [1, 2, 3, 4]
        assert await caller.call("TriesAgain", "add") == 1


@on_loop
async def test_without_retries_an_exception_is_the_answer_at_once(tmp_path: Path) -> None:
    async with running(settings(tmp_path, limits=SOON)) as (_, caller):
        await caller.create("NeverAgain")
        with pytest.raises(ConnectionError):
            await caller.call("NeverAgain", "until", 9)
        assert MADE == ["nested"]


@on_loop
async def test_a_save_of_a_failed_attempt_counts_once(tmp_path: Path) -> None:
    async with running(settings(tmp_path, limits=SOON)) as (_, caller):
        await caller.create("TriesAgain")
        assert await caller.call("TriesAgain", "save_first", 3) == 1
        found = await caller.state("TriesAgain")
        assert (found["saved"], found["tries"]) == (1, 1)


@on_loop
async def test_finished_steps_are_kept_and_failed_ones_made_again(tmp_path: Path) -> None:
    async with running(settings(tmp_path, limits=SOON)) as (_, caller):
        await caller.create("TriesAgain")
        assert await caller.call("TriesAgain", "in_steps", 3) == ["first", 3]
        assert MADE == ["first", "second", "second", "second"]


@on_loop
async def test_a_step_that_still_runs_is_not_begun_again(tmp_path: Path) -> None:
    async with running(settings(tmp_path, limits=SOON)) as (_, caller):
        await caller.create("TriesAgain")
        answer = caller.send("TriesAgain", "beside", 3, timeout_s=None)
        await until(lambda: MADE.count("second") == 3)
        GATES["go"].set()
        assert result_of(await answer) == [3]
        assert MADE == ["slow", "second", "second", "second"]


@on_loop
async def test_a_nested_call_that_failed_is_made_as_another_call(tmp_path: Path) -> None:
    async with running(settings(tmp_path, limits=SOON)) as (node, caller):
        await caller.create("TriesAgain")
        await caller.create("NeverAgain", "n")
        assert await caller.call("TriesAgain", "nested", 3) == 3
        assert not any(host.partition.memory.progress for host in node._hosts)


@on_loop
async def test_attempts_are_counted_over_a_crash(tmp_path: Path) -> None:
    async with running(settings(tmp_path, limits=LATE), crash=True) as (node, caller):
        await caller.create("TriesAgain")
        caller.send("TriesAgain", "in_steps", 9, timeout_s=None)
        await until(lambda: "r" in events_of(node))
        await caller.create("NeverAgain", "later")
    async with running(settings(tmp_path, limits=SOON)) as (node, caller):
        assert await caller.call("TriesAgain", "add") == 1
    assert MADE == ["first", "second", "second", "second", "second"], "3 retries in all"


def events_of(node: Node) -> str:
    return "".join(
        event.tag
        for host in node._hosts
        for progress in host.partition.memory.progress.values()
        for event in progress.events
    )


@pytest.mark.parametrize("method", ["until_attempt", "in_steps"])
@pytest.mark.parametrize("kill", [False, True])
@on_loop
async def test_a_call_that_waits_to_be_run_again_can_be_ended(
    tmp_path: Path, method: str, kill: bool
) -> None:
    async with running(settings(tmp_path, limits=LATE)) as (node, caller):
        await caller.create("TriesAgain")
        answer = caller.send("TriesAgain", method, 9, timeout_s=None)
        await until(lambda: node._executor._retries._pauses)
        assert await cancel(caller, str(answer.call_id), kill=kill)
        if kill or method == "in_steps":
            with pytest.raises(CallCancelled):
                result_of(await answer)
        else:
            with pytest.raises(ConnectionError, match="attempt 2"):
                result_of(await answer)
        assert await caller.call("TriesAgain", "add") == 1
        await until(lambda: not events_of(node))


async def cancel(caller: Caller, call_id: str, *, kill: bool) -> Any:
    answer = await caller.client.call(
        ObjectKey("TriesAgain", "x"),
        Kind.CANCEL,
        "kill" if kill else "cancel",
        arguments=codec.encode(call_id),
    )
    return result_of(answer)


@on_loop
async def test_a_function_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(settings(tmp_path, limits=SOON)) as (_, caller):
        monkeypatch.setattr("perdure.remote.current_client", lambda: caller.client)
        assert await unreliable(3) == 3
        with pytest.raises(ConnectionError):
            await unreliable(4)
        assert MADE == [1, 2, 3, 1, 2, 3]
