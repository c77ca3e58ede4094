"""Cancelling and killing calls on a real node that crashes, at every point where a call can be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, deafen, result_of, running, settings
from harness.tally import settled

from perdure import CallCancelled, DurableContext, DurableObject, codec, durable
from perdure.client import Answer
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.node import Node

LONG_S = 60

GATES: dict[str, asyncio.Event] = {}
CLEANED: list[str] = []
"""What cleaned up, in this process."""


@pytest.fixture(autouse=True)
def fresh() -> None:
    GATES.clear()
    CLEANED.clear()


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


@durable.object
class Stops(DurableObject):
    """Waits in every way there is, and cleans up."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.cleaned = 0
        self.begun = 0

    async def _wait(self, how: str) -> None:
        if how == "nested":
            await durable.ref(Stops, f"{self.object_id}-below").hold()
        elif how == "sleep":
            await durable_sleep()
        elif how == "step":
            await durable_step()
        elif how == "plain":
            await gate("never").wait()
        elif how == "plain after a save":
            self.begun += 1
            await self.save()
            await gate("never").wait()
        else:
            assert how == "plain after a step"
            await durable_step(wait=False)
            await gate("never").wait()

    async def work(self, how: str) -> str:
        try:
            await self._wait(how)
        except asyncio.CancelledError:
            self.cleaned += 1
            await self.save()
            raise
        finally:
            CLEANED.append(self.object_id)
        return "done"

    async def hold(self) -> str:
        await gate(f"hold {self.object_id}").wait()
        return "let go"

    async def swallow(self) -> str:
        try:
            await gate("never").wait()
        except asyncio.CancelledError:
            self.cleaned += 1
        return "ended as it liked"

    async def fail_on_cancel(self) -> None:
        try:
            await gate("never").wait()
        finally:
            raise ValueError("could not clean up")

    async def clean_in_steps(self, ctx: DurableContext) -> None:
        try:
            await gate("never").wait()
        except asyncio.CancelledError:
            await ctx.run("undo", lambda: CLEANED.append("undone"))
            await gate("clean").wait()
            self.cleaned += 1
            await self.save()
            raise

    @durable.shared
    async def look(self) -> int:
        await gate("never").wait()
        return self.cleaned

    async def cancel_other(self, other: str, id: str, kill: bool = False) -> bool:
        return await durable.cancel(durable.ref(Stops, other), id, kill=kill)

    async def add(self) -> int:
        self.begun += 1
        return self.begun

    async def dive(self, depth: int) -> str:
        if depth == 0:
            await gate("never").wait()
            return "bottom"
        try:
            below = durable.ref(Stops, f"t{depth - 1}")
            return await below.dive(depth - 1)
        finally:
            CLEANED.append(self.object_id)


async def durable_sleep() -> None:
    from perdure import ctx

    await ctx.sleep(3_600)


async def durable_step(*, wait: bool = True) -> None:
    from perdure import ctx

    async def work() -> None:
        if wait:
            await gate("never").wait()

    await ctx.run("step", work)


WAYS = ("nested", "sleep", "step", "plain", "plain after a save", "plain after a step")


def calls_in(node: Node) -> list[Any]:
    """All calls that wait or run."""
    return [
        call
        for host in node._hosts
        for mailbox in host.partition.mailboxes
        for call in [*mailbox.running, *mailbox.waiting]
    ]


def left(node: Node) -> list[Any]:
    """What is in progress or on its way."""
    found: list[Any] = calls_in(node)
    for host in node._hosts:
        found += host.partition.memory.progress.values()
        found += host.partition.memory.underway.outbox.values()
    return found


async def until(condition: Any) -> None:
    while not condition():
        await settled()


async def waiting_call(node: Node, caller: Caller, method: str, *args: Any, id: str = "x") -> Any:
    """Send a call, and wait until its method waits. Returns the answer to come and the id."""
    answer = caller.send("Stops", method, *args, id=id, timeout_s=None)
    await until(lambda: running_of(node, method, id))
    if "plain" in str(args):
        await until(lambda: gate("never")._waiters)  # type: ignore[attr-defined]
    for _ in range(50):
        await settled()
    return answer, str(answer.call_id)


def running_of(node: Node, method: str, id: str) -> bool:
    return any(
        call.request.method == method
        and call.request.id == id
        and call.turn is not None
        and call.turn.task is not None
        for call in calls_in(node)
    )


async def cancel(caller: Caller, call_id: str, id: str = "x", *, kill: bool = False) -> bool:
    answer = await caller.client.call(
        ObjectKey("Stops", id),
        Kind.CANCEL,
        "kill" if kill else "cancel",
        arguments=codec.encode(call_id),
    )
    told: bool = result_of(answer)
    return told


async def is_free(caller: Caller, id: str = "x") -> bool:
    return bool(await asyncio.wait_for(caller.call("Stops", "add", id=id), LONG_S))


def is_cancelled(answer: Answer) -> bool:
    try:
        result_of(answer)
    except CallCancelled:
        return answer.code == Code.CANCELLED
    return False


@pytest.mark.parametrize("how", WAYS)
@on_loop
async def test_a_cancelled_call_cleans_up_once_and_frees_its_object(
    tmp_path: Path, how: str
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Stops")
        await caller.create("Stops", "x-below")
        answer, call_id = await waiting_call(node, caller, "work", how)
        assert await cancel(caller, call_id)
        assert is_cancelled(await answer)
        assert (await caller.state("Stops"))["cleaned"] == 1
        assert CLEANED == ["x"]
        assert await is_free(caller)
        assert not await cancel(caller, call_id), "it is over"
        gate("hold x-below").set()
        gate("never").set()
        await until(lambda: not left(node))


@pytest.mark.parametrize("how", WAYS)
@on_loop
async def test_a_call_whose_cancellation_was_answered_ends_cancelled_whatever_crashes(
    tmp_path: Path, how: str
) -> None:
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("Stops")
        await caller.create("Stops", "x-below")
        answer, call_id = await waiting_call(node, caller, "work", how)
        deafen(node)
        assert await cancel(caller, call_id)
        answer.cancel()
    GATES.clear()
    CLEANED.clear()
    async with running(settings(tmp_path)) as (node, caller):
        await until(lambda: not any(c.request.method == "work" for c in calls_in(node)))
        assert (await caller.state("Stops"))["cleaned"] == 1
        assert CLEANED == ["x"]
        assert await is_free(caller)
        assert ended_with(node, call_id) == Code.CANCELLED
        gate("hold x-below").set()
        await until(lambda: not left(node))


def ended_with(node: Node, call_id: str) -> int | None:
    session, partition, sequence = call_id.split(":")
    for host in node._hosts:
        if host.partition.number == int(partition):
            window = host.partition.memory.window(bytes.fromhex(session))
            past = None if window is None else window.ended.get(int(sequence))
            return None if past is None else past.code
    return None


@pytest.mark.parametrize("how", WAYS)
@on_loop
async def test_an_object_cancels_a_call_of_another_one(tmp_path: Path, how: str) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        for id in ("x", "x-below", "other"):
            await caller.create("Stops", id)
        answer, call_id = await waiting_call(node, caller, "work", how)
        assert await caller.call("Stops", "cancel_other", "x", call_id, id="other")
        assert is_cancelled(await answer)
        assert CLEANED == ["x"]
        assert await is_free(caller)
        gate("hold x-below").set()
        gate("never").set()


@pytest.mark.parametrize("kill", [False, True])
@on_loop
async def test_a_call_that_waits_for_its_turn_does_not_run(tmp_path: Path, kill: bool) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Stops")
        first, _ = await waiting_call(node, caller, "hold")
        second = caller.send("Stops", "add")
        third = caller.send("Stops", "add")
        await until(lambda: len(calls_in(node)) == 3)
        assert await cancel(caller, str(second.call_id), kill=kill)
        assert is_cancelled(await second)
        gate("hold x").set()
        assert result_of(await first) == "let go"
        assert result_of(await third) == 1


@on_loop
async def test_a_cancelled_call_that_waited_does_not_run_after_a_crash(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("Stops")
        await waiting_call(node, caller, "hold")
        second = caller.send("Stops", "add", timeout_s=None)
        await until(lambda: len(calls_in(node)) == 2)
        call_id = str(second.call_id)
        assert await cancel(caller, call_id)
    async with running(settings(tmp_path)) as (node, _):
        assert ended_with(node, call_id) == Code.CANCELLED


@pytest.mark.parametrize("crash", [False, True])
@on_loop
async def test_a_call_that_is_cancelled_before_it_comes_does_not_run(
    tmp_path: Path, crash: bool
) -> None:
    async with running(settings(tmp_path), crash=crash) as (node, caller):
        await caller.create("Stops")
        answer = caller.send("Stops", "add")
        await answer
        session, partition, sequence = str(answer.call_id).split(":")
        later = f"{session}:{partition}:{int(sequence) + 1}"
        assert await cancel(caller, later)
        assert not await cancel(caller, later), "that is decided"
        if not crash:
            assert is_cancelled(await caller.send("Stops", "add"))
            assert await caller.call("Stops", "add") == 2
    async with running(settings(tmp_path)) as (node, _):
        assert crash == (ended_with(node, later) == Code.CANCELLED)


@on_loop
async def test_a_call_that_comes_with_its_cancellation_does_not_begin(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Stops")
        done = caller.send("Stops", "add")
        await done
        session, partition, sequence = str(done.call_id).split(":")
        answer = caller.send("Stops", "hold", timeout_s=None)
        cancelled = asyncio.create_task(
            cancel(caller, f"{session}:{partition}:{int(sequence) + 1}")
        )
        assert await cancelled
        assert is_cancelled(await answer)
        assert await is_free(caller)


@on_loop
async def test_a_call_that_is_over_cannot_be_cancelled(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Stops")
        answer = caller.send("Stops", "add")
        assert result_of(await answer) == 1
        assert not await cancel(caller, str(answer.call_id))
        assert not await cancel(caller, str(answer.call_id), kill=True)


@on_loop
async def test_what_a_method_makes_of_its_cancellation_is_its_outcome(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Stops")
        answer, call_id = await waiting_call(node, caller, "swallow")
        assert await cancel(caller, call_id)
        assert result_of(await answer) == "ended as it liked"
        assert (await caller.state("Stops"))["cleaned"] == 1
        answer, call_id = await waiting_call(node, caller, "fail_on_cancel")
        assert await cancel(caller, call_id)
        with pytest.raises(ValueError, match="could not clean up"):
            result_of(await answer)
        assert await is_free(caller)


@on_loop
async def test_clean_up_in_steps_goes_on_after_a_crash(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("Stops")
        answer, call_id = await waiting_call(node, caller, "clean_in_steps")
        assert await cancel(caller, call_id)
        await until(lambda: CLEANED == ["undone"])
        await until(lambda: "d" in events_of(node))
        await caller.create("Stops", "other")
        answer.cancel()
    GATES.clear()
    gate("clean").set()
    async with running(settings(tmp_path)) as (node, caller):
        await until(lambda: not left(node))
        assert CLEANED == ["undone"], "it was undone once"
        assert (await caller.state("Stops"))["cleaned"] == 1
        assert ended_with(node, call_id) == Code.CANCELLED


def events_of(node: Node) -> str:
    return "".join(
        event.tag
        for host in node._hosts
        for progress in host.partition.memory.progress.values()
        for event in progress.events
    )


@pytest.mark.parametrize("kill", [False, True])
@on_loop
async def test_a_shared_call_is_cancelled_alone(tmp_path: Path, kill: bool) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Stops")
        answer, call_id = await waiting_call(node, caller, "look")
        beside = caller.send("Stops", "look", timeout_s=None)
        assert await cancel(caller, call_id, kill=kill)
        assert is_cancelled(await answer)
        gate("never").set()
        assert result_of(await beside) == 0
        assert await is_free(caller)


@on_loop
async def test_calls_with_one_key_are_cancelled_together(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Stops")
        first = caller.send("Stops", "hold", key="k", timeout_s=None)
        await until(lambda: running_of(node, "hold", "x"))
        second = caller.send("Stops", "hold", key="k", timeout_s=None)
        await until(lambda: any(call.followers for call in calls_in(node)))
        assert await cancel(caller, str(second.call_id))
        assert is_cancelled(await first)
        assert is_cancelled(await second)
        assert await is_free(caller)


@pytest.mark.parametrize("how", WAYS)
@on_loop
async def test_a_killed_call_ends_at_once_and_keeps_what_it_has_saved(
    tmp_path: Path, how: str
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Stops")
        await caller.create("Stops", "x-below")
        answer, call_id = await waiting_call(node, caller, "work", how)
        assert await cancel(caller, call_id, kill=True)
        assert is_cancelled(await answer)
        found = await caller.state("Stops")
        assert (found["cleaned"], found["begun"]) == (0, int("save" in how))
        assert await is_free(caller)
        gate("never").set()
        await until(lambda: not left(node))


DEPTH = 10


async def tree(node: Node, caller: Caller) -> Any:
    for depth in range(DEPTH):
        await caller.create("Stops", f"t{depth}")
    answer = caller.send("Stops", "dive", DEPTH - 1, id=f"t{DEPTH - 1}", timeout_s=None)
    await until(lambda: running_of(node, "dive", "t0"))
    return answer, str(answer.call_id)


@on_loop
async def test_a_killed_call_takes_the_calls_below_it_along(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        answer, call_id = await tree(node, caller)
        assert await cancel(caller, call_id, f"t{DEPTH - 1}", kill=True)
        assert is_cancelled(await answer)
        async with asyncio.timeout(LONG_S):
            for depth in range(DEPTH):
                assert await caller.call("Stops", "add", id=f"t{depth}") == 1
            await until(lambda: not left(node))


@on_loop
async def test_a_killed_tree_is_gone_although_the_node_dies_at_once(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (node, caller):
        answer, call_id = await tree(node, caller)
        assert await cancel(caller, call_id, f"t{DEPTH - 1}", kill=True)
        answer.cancel()
    async with running(settings(tmp_path)) as (node, caller):
        async with asyncio.timeout(LONG_S):
            for depth in range(DEPTH):
                assert await caller.call("Stops", "add", id=f"t{depth}") == 1
            await until(lambda: not left(node))


@on_loop
async def test_a_cancelled_tree_cleans_up_from_the_top(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        answer, call_id = await tree(node, caller)
        assert await cancel(caller, call_id, f"t{DEPTH - 1}")
        assert is_cancelled(await answer)
        cleaned = list(CLEANED)
        assert cleaned == [f"t{DEPTH - 1}"], "what it has called goes on without it"
        gate("never").set()
        await until(lambda: not left(node))
