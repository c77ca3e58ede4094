"""A call that cannot go on keeps its object until somebody decides about it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, running, settings
from harness.tally import settled

from perdure import DurableContext, DurableObject, codec, durable
from perdure.bodies import Request, pack_request, unpack_error, unpack_reply
from perdure.errors import Code, Parked, error_from_wire
from perdure.frames import CallFrame, Kind
from perdure.ids import ObjectKey, partition_of
from perdure_node.node import Node

CODE = ["first"]
"""The name of the step that the method asks for: another one is another version of it."""
REACHED: list[asyncio.Event] = []
KEY = ObjectKey("Ladder", "x")


@durable.object
class Ladder(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.rungs: list[str] = []

    async def climb(self, ctx: DurableContext) -> list[str]:
        self.rungs.append("saved")
        await self.save()
        await ctx.run(CODE[0], list)
        self.rungs.append("lost")
        if REACHED:
            REACHED[0].set()
            await asyncio.Event().wait()
        return self.rungs

    async def add(self, rung: str) -> int:
        self.rungs.append(rung)
        return len(self.rungs)

    async def set(self, ctx: DurableContext) -> None:
        ctx.after(0.001, self.add, "rung by a timer")

    @durable.shared
    async def read(self) -> list[str]:
        return self.rungs


class Climber:
    """A client whose copies of one call outlive the node."""

    def __init__(self) -> None:
        self._session = int(time.time() * 1_000).to_bytes(6, "big") + b"climber..."

    def call(self, node: Node) -> asyncio.Future[tuple[int, bytes]]:
        """Send a copy of the call."""
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        class Sink:
            closed = False

            def send(self, frame: Any) -> None:
                answer.set_result(frame[1:])

        request = Request(
            Kind.CALL, self._session, 1, 0, [0], *KEY, "climb", 0, codec.encode([[], {}]), None,
            None, [], 0,
        )  # fmt: skip
        node.receive([CallFrame(1, partition_of(KEY, 4), 30_000, pack_request(request))], Sink())
        return answer


def error_of(answer: tuple[int, bytes]) -> Any:
    code, body = answer
    return error_from_wire(code, unpack_error(unpack_reply(body).payload))


def parked_on(node: Node) -> Any:
    """Return what keeps the parked calls of the object's partition."""
    return node._hosts.find(partition_of(KEY, 4)).partition.journalled


async def crash_in_the_middle(path: Path, climber: Climber) -> None:
    CODE[0] = "first"
    REACHED[:] = [asyncio.Event()]
    async with running(settings(path), crash=True) as (node, caller):
        await caller.create(*KEY)
        await caller.call("Ladder", "set")
        while await caller.call("Ladder", "read") == []:
            await settled()
        climber.call(node)
        await REACHED[0].wait()
        await caller.create("Ladder", "behind")
    REACHED.clear()


async def until_parked(node: Node) -> None:
    while KEY not in parked_on(node).parked_calls:
        await settled()


@on_loop
async def test_its_caller_hears_why_and_the_others_who_holds_the_object(tmp_path: Path) -> None:
    climber = Climber()
    await crash_in_the_middle(tmp_path, climber)
    CODE[0] = "second"
    async with running(settings(tmp_path), crash=True) as (node, caller):
        why = error_of(await climber.call(node))
        assert (type(why).__name__, why.step) == ("NonDeterministic", 1)
        await until_parked(node)
        with pytest.raises(Parked, match=r"Ladder\[x\] is held by the parked call .*step 1"):
            await caller.call("Ladder", "add", "a")
        with pytest.raises(Parked):
            await caller.call("Ladder", "read")
        await caller.create("Ladder", "behind that")
    async with running(settings(tmp_path)) as (node, caller):
        assert KEY in parked_on(node).parked_calls, "it stays so over restarts"
        with pytest.raises(Parked):
            await caller.call("Ladder", "add", "a")
        assert type(error_of(await climber.call(node))).__name__ == "Poisoned"


@on_loop
async def test_its_object_can_be_read_and_not_deleted(tmp_path: Path) -> None:
    climber = Climber()
    await crash_in_the_middle(tmp_path, climber)
    CODE[0] = "second"
    async with running(settings(tmp_path)) as (node, caller):
        await until_parked(node)
        assert (await caller.state("Ladder"))["rungs"] == ["rung by a timer", "saved"]
        assert (await caller.create(*KEY)).code == 0
        deleted = await caller.client.call(KEY, Kind.DELETE)
        assert deleted.code == Code.PARKED
        assert (await caller.state("Ladder"))["rungs"] == ["rung by a timer", "saved"]


@on_loop
async def test_retried_with_code_that_fits_it_ends_and_its_caller_hears(tmp_path: Path) -> None:
    climber = Climber()
    await crash_in_the_middle(tmp_path, climber)
    CODE[0] = "second"
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await until_parked(node)
        await caller.create("Ladder", "behind that")
    CODE[0] = "first"
    async with running(settings(tmp_path)) as (node, caller):
        await decide(node, caller, "retry")
        code, body = await climber.call(node)
        assert code == 0
        ended = ["rung by a timer", "saved", "lost"]
        assert codec.decode(unpack_reply(body).payload) == ended
        assert await caller.call("Ladder", "read") == ended


@on_loop
async def test_dropped_it_is_poisoned_and_what_it_has_saved_stays(tmp_path: Path) -> None:
    climber = Climber()
    await crash_in_the_middle(tmp_path, climber)
    CODE[0] = "second"
    async with running(settings(tmp_path)) as (node, caller):
        await until_parked(node)
        await decide(node, caller, "drop")
        assert await caller.call("Ladder", "read") == ["rung by a timer", "saved"]
        assert await caller.call("Ladder", "add", "next") == 3
    async with running(settings(tmp_path)) as (node, caller):
        assert type(error_of(await climber.call(node))).__name__ == "Poisoned"
        assert await caller.call("Ladder", "add", "next") == 4


async def decide(node: Node, caller: Caller, what: str) -> None:
    assert getattr(parked_on(node), what)(KEY)
    node._note(node._hosts.find(partition_of(KEY, 4)))
