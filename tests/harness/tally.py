"""Objects that count, wait and fail, for tests of a node; and a disk that can be held back."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from perdure import DurableObject, durable
from perdure.bodies import Request, pack_request
from perdure.errors import (
    StateNotStorable,
)
from perdure.frames import CallFrame, Kind
from perdure.ids import ObjectKey, partition_of
from perdure_node.node import Node

GATES: dict[str, asyncio.Event] = {}
"""What `Tally.wait_for` waits for, by name: made by the test."""

RUNS: list[str] = []
"""What methods were entered, in this process."""


@durable.object
class Tally(DurableObject):
    """Counts, waits, fails: whatever a test needs."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0
        self.log: list[str] = []

    async def add(self, amount: int = 1) -> int:
        self.n += amount
        return self.n

    async def fail(self) -> None:
        self.n += 1_000
        self.log.append("half")
        raise ValueError("on purpose")

    async def save_then_fail(self) -> None:
        self.n += 1
        await self.save()
        self.n += 1_000
        raise ValueError("on purpose")

    async def save_and_wait(self, gate: str) -> int:
        RUNS.append("save_and_wait")
        self.n += 1
        self.log.append("before")
        await self.save()
        await GATES[gate].wait()
        self.n += 10
        self.log.append("after")
        return self.n

    async def wait_for(self, gate: str) -> int:
        RUNS.append("wait_for")
        await GATES[gate].wait()
        self.n += 1
        return self.n

    async def tell(self, other: str) -> int:
        self.n += 1
        await self.save()
        handle = durable.ref(Tally, other)
        return await handle.add(1)

    async def store_function(self) -> None:
        self.n += 1
        self.callback = len

    async def swallow_everything(self) -> str:
        self.n += 1
        try:
            self.bad = object()
            await self.save()
        except StateNotStorable as error:
            del self.bad
            return str(error)
        return "stored"

    async def waits_after_all(self, gate: str) -> int:
        await self.hidden(gate)
        self.n += 1
        return self.n

    async def hidden(self, gate: str) -> None:
        await self.save()

    @durable.shared
    async def look(self) -> int:
        return self.n

    @durable.shared
    async def look_and_touch(self) -> int:
        self.n += 1
        return self.n


@durable.object
class Job(DurableObject):
    """Goes through states, and comes back to the first one."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.busy = 0
        self.woken = 0

    async def on_activate(self) -> None:
        self.woken += 1
        await self.save()
        self.plain = "yes"

    async def work(self, gate: str) -> int:
        self.busy = 1
        await self.save()
        await GATES[gate].wait()
        self.busy = 0
        return self.woken

    async def too_long(self) -> str:
        self.busy = 1
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "in time"
        return "never"

    async def in_a_group(self) -> str:
        async def fail() -> None:
            raise LookupError("on purpose")

        ended = "never"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.Event().wait()
        except* LookupError:
            ended = "by its failure"
        return ended


class HeldSync:
    """A disk whose syncs can be held back, and made to fail."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.error: OSError | None = None
        self.count = 0

    def __call__(self, descriptor: int) -> None:
        # Not for ever, so that a test that fails ends too.
        self.free.wait(20)
        self.count += 1
        if self.error is not None:
            raise self.error
        os.fdatasync(descriptor)


async def settled(ticks: int = 20) -> None:
    """Let the loop do everything that does not wait for the disk."""
    for _ in range(ticks):
        await asyncio.sleep(0)


def send_raw(
    node: Node,
    session: bytes,
    sequence: int,
    method: str,
    args: list[Any],
    *,
    partition: int | None = None,
) -> list[Any]:
    """Send one call as a client of its own; its answers appear in the list."""
    return send_frames(node, [raw_frame(1, session, sequence, method, args, partition=partition)])


def raw_frame(
    number: int,
    session: bytes,
    sequence: int,
    method: str,
    args: list[Any],
    *,
    partition: int | None = None,
) -> CallFrame:
    """Return a call as it travels; `partition` may be a wrong one."""
    from perdure import codec

    key = ObjectKey("Tally", "x")
    request = Request(
        Kind.CALL, session, sequence, 0, [0], *key, method, 0, codec.encode([args, {}]), None,
        None, [], 0,
    )  # fmt: skip
    place = partition_of(key, 4) if partition is None else partition
    return CallFrame(number, place, 30_000, pack_request(request))


def send_frames(node: Node, frames: list[CallFrame]) -> list[Any]:
    """Send calls as one message of a client of its own; the answers appear in the list."""
    answers: list[Any] = []

    class Sink:
        closed = False

        def send(self, frame: Any) -> None:
            answers.append(frame)

    node.receive(frames, Sink())
    return answers
