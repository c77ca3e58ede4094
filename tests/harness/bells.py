"""Objects with timers, and what a test looks at on the node that has them."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from typing import Any

from harness.nodes import Caller
from harness.tally import settled

from perdure import DurableContext, DurableObject, durable
from perdure.ids import ObjectKey, partition_of
from perdure.schedules import TimerSetting
from perdure_node.clock import SystemClock
from perdure_node.core.partition import Partition
from perdure_node.node import Node

GATES: dict[str, asyncio.Event] = {}
"""What methods wait for, by name."""

ENTERED: list[str] = []
"""What methods were entered in this process, whatever became of them."""


def fresh_gates(*names: str) -> None:
    """Close these gates, and forget what was entered."""
    GATES.clear()
    GATES.update({name: asyncio.Event() for name in names})
    ENTERED.clear()


class ShiftedClock:
    """The machine's clocks, with a calendar that a test can put forward and back."""

    def __init__(self) -> None:
        self.shift_ms = 0
        self._machine = SystemClock()
        self.monotonic_ms = self._machine.monotonic_ms

    def wall_ms(self) -> int:
        return self._machine.wall_ms() + self.shift_ms

    def put_to(self, wall_ms: int) -> None:
        """Let the wall clock show a time from now on."""
        self.shift_ms += wall_ms - self.wall_ms()


@durable.object
class Bell(DurableObject):
    """Rings when its timers say so."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.rings: list[Any] = []
        self.late_ms: list[int] = []
        self.fails = 0

    # What timers call.

    async def ring(self, word: str = "ding") -> None:
        ENTERED.append(word)
        self.rings.append(word)

    async def note_time(self, due_ms: int) -> None:
        self.late_ms.append(time.time_ns() // 1_000_000 - due_ms)

    async def ring_slowly(self, ctx: DurableContext) -> None:
        ENTERED.append("slowly")
        self.rings.append("begun")
        await self.save()
        self.rings.append(await ctx.run("chime", _chime))
        await GATES["go"].wait()
        self.rings.append("ended")

    async def ring_when_open(self) -> None:
        ENTERED.append("when open")
        self.rings.append("waited")
        await GATES["go"].wait()

    async def ring_on(self, ctx: DurableContext, times: int) -> None:
        self.rings.append(times)
        if times > 1:
            ctx.after(0.001, self.ring_on, times - 1)

    async def ring_once_of_many(self, ctx: DurableContext) -> None:
        self.rings.append("one")
        ctx.cancel("ring_once_of_many")

    async def always_fail(self) -> None:
        ENTERED.append("always_fail")
        self.fails += 1
        raise RuntimeError("on purpose")

    async def fail_once(self) -> None:
        ENTERED.append("fail_once")
        if ENTERED.count("fail_once") == 1:
            raise RuntimeError("on purpose")
        self.rings.append("second time")

    async def save_a_new_one_and_fail(self, ctx: DurableContext) -> None:
        ctx.after(0.001, self.ring, "new", name="save_a_new_one_and_fail")
        await self.save()
        await ctx.run("nothing", _chime)
        raise RuntimeError("on purpose")

    # What tests call.

    async def set(
        self, ctx: DurableContext, delay: float, word: str = "ding", name: str | None = None
    ) -> str:
        return ctx.after(delay, self.ring, word, name=name)

    async def set_all(self, ctx: DurableContext, count: int, apart_ms: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        for k in range(count):
            due_ms = now_ms + k * apart_ms
            when = dt.datetime.fromtimestamp(due_ms / 1_000, dt.UTC)
            ctx.at(when, self.note_time, due_ms, name=f"t{k}")

    async def set_method(self, ctx: DurableContext, delay: float, method: str, *args: Any) -> str:
        return ctx.after(delay, getattr(self, method), *args)

    async def set_every(
        self, ctx: DurableContext, every: Any, tz: str | None = None, method: str = "ring"
    ) -> str:
        return ctx.every(every, getattr(self, method), tz=tz)

    async def set_and_fail(self, ctx: DurableContext, delay: float, word: str) -> None:
        ctx.after(delay, self.ring, word)
        raise RuntimeError("on purpose")

    async def set_save_and_fail(self, ctx: DurableContext, name: str, later: str) -> None:
        ctx.after(3_600, self.ring, name=name)
        await self.save()
        ctx.after(3_600, self.ring, name=later)
        raise RuntimeError("on purpose")

    async def set_save_and_wait(self, ctx: DurableContext) -> None:
        ctx.after(3_600, self.ring, name="before")
        await self.save()
        await GATES["go"].wait()
        ctx.after(3_600, self.ring, name="after")

    async def cancel(self, ctx: DurableContext, name: str) -> bool:
        return ctx.cancel(name)

    async def cancel_and_fail(self, ctx: DurableContext, name: str) -> None:
        ctx.cancel(name)
        raise RuntimeError("on purpose")

    async def list(self, ctx: DurableContext) -> Any:
        return ctx.timers()

    async def hold(self) -> None:
        await GATES["hold"].wait()

    async def hold_then_cancel(self, ctx: DurableContext, name: str) -> bool:
        await GATES["hold"].wait()
        return ctx.cancel(name)

    async def hold_then_set(self, ctx: DurableContext, delay: float, word: str) -> None:
        await GATES["hold"].wait()
        ctx.after(delay, self.ring, word)

    async def add(self) -> int:
        return len(self.rings)


def _chime() -> str:
    ENTERED.append("chime")
    return "chime"


def partition_with(node: Node, type: str, id: str = "x") -> Partition:
    """Return the partition of an object."""
    number = partition_of(ObjectKey(type, id), node.partition_count)
    return node._hosts.find(number).partition


def timers_of(node: Node, type: str = "Bell", id: str = "x") -> list[TimerSetting]:
    """Return an object's timers as they are committed, sent calls that wait among them."""
    return partition_with(node, type, id).memory.timers.of(ObjectKey(type, id))


def firings_waiting(node: Node, type: str = "Bell", id: str = "x") -> int:
    """Return how many firings wait in an object's mailbox."""
    mailbox = partition_with(node, type, id).mailboxes.get(ObjectKey(type, id))
    return 0 if mailbox is None else sum(call.firing for call in mailbox.waiting)


async def hold(node: Node, caller: Caller, method: str = "hold", *args: Any) -> asyncio.Task[Any]:
    """Call a method of the bell `x` that waits for a gate, and return when it does."""
    call = asyncio.ensure_future(caller.call("Bell", method, *args))
    mailboxes = partition_with(node, "Bell").mailboxes
    await until(lambda: (box := mailboxes.get(ObjectKey("Bell", "x"))) and box.running)
    return call


def let_fire(node: Node) -> None:
    """Let everything fire that is due by the node's clock, which a test has put forward."""
    node._ring(node._clock.wall_ms())


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that comes about by itself."""
    while not condition():
        await settled()


async def state_when(
    caller: Caller, wanted: Callable[[dict[str, Any]], object], type: str = "Bell", id: str = "x"
) -> dict[str, Any]:
    """Wait until an object's committed state is as wanted."""
    while not wanted(found := await caller.state(type, id)):
        await settled()
    return found
