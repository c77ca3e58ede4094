"""Objects whose timers fire by the thousand, and say how late."""

from __future__ import annotations

import time

from perdure import DurableContext, DurableObject, durable

JOURNALLED_EVERY = 20
SENT_EVERY = 10


@durable.object
class StormBell(DurableObject):
    """Sets many timers, and notes each firing."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.fired: list[tuple[int, int]] = []
        """Number of the timer, and how many milliseconds it was late."""
        self.heard: list[int] = []
        """Numbers of the timers of another one, which it has sent."""

    async def plan(self, ctx: DurableContext, timers: list[tuple[int, int]], other: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        for number, due_ms in timers:
            delay_s = (due_ms - now_ms) / 1_000
            ctx.after(delay_s, self.fire, number, due_ms, other, name=f"t{number}")

    async def fire(self, ctx: DurableContext, number: int, due_ms: int, other: str) -> None:
        self.fired.append((number, time.time_ns() // 1_000_000 - due_ms))
        if number % SENT_EVERY == 0:
            durable.send(durable.ref(StormBell, other)).hear(number)
        if number % JOURNALLED_EVERY == 0:
            await self.save()
            await ctx.run("a step", list)

    async def hear(self, number: int) -> None:
        self.heard.append(number)

    @durable.shared
    async def count(self) -> tuple[int, int]:
        return len(self.fired), len(self.heard)

    @durable.shared
    async def read(self) -> tuple[list[tuple[int, int]], list[int]]:
        return self.fired, self.heard
