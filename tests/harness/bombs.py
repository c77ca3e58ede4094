"""Objects that end their process, in every way there is, and others that live beside them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource

from perdure import DurableContext, DurableObject, durable


def explode(how: str) -> None:
    """End this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if how == "exit":
        os._exit(1)
    elif how == "segfault":
        ctypes.string_at(0)
    else:
        os.abort()


@durable.object
class Bomb(DurableObject):
    def __init__(self, bomb_id: str) -> None:
        super().__init__(bomb_id)
        self.touched = 0
        self.attempts: list[int] = []

    def explode(self, how: str) -> None:
        self.touched += 1
        explode(how)

    async def explode_later(self, how: str) -> None:
        await asyncio.sleep(0.01)
        explode(how)

    async def explode_in_step(self, ctx: DurableContext, how: str) -> None:
        await ctx.run("explode", lambda: explode(how))

    async def explode_after_step(self, ctx: DurableContext, how: str) -> None:
        self.attempts.append(await ctx.run("attempt", lambda: ctx.attempt))
        await self.save()
        # What a step does, it does when all before it is durable.
        await ctx.run("explode", lambda: explode(how))

    async def arm(self, ctx: DurableContext, how: str) -> None:
        ctx.after(0, self.explode, how, name="bomb")

    async def touch(self) -> int:
        self.touched += 1
        return self.touched


@durable.object
class Bystander(DurableObject):
    def __init__(self, bystander_id: str) -> None:
        super().__init__(bystander_id)
        self.n = 0

    async def add(self) -> int:
        self.n += 1
        return self.n


@durable.object
class Waiter(DurableObject):
    """Waits until a pipe says that it is over, and says through another one that it does."""

    def __init__(self, waiter_id: str) -> None:
        super().__init__(waiter_id)
        self.waited = 0

    async def wait(self, ctx: DurableContext, told: str, end: str) -> int:
        # When the method waits already: until then its code runs.
        asyncio.get_running_loop().call_soon(tell, told)
        await asyncio.to_thread(hear, end)
        self.waited += 1
        return ctx.attempt

    async def wait_after_step(self, ctx: DurableContext, told: str, end: str) -> int:
        await ctx.run("begin", lambda: None)
        return await self.wait(ctx, told, end)


def tell(pipe: str) -> None:
    with open(pipe, "wb", buffering=0) as out:
        out.write(b"x")


def hear(pipe: str) -> None:
    """Return when the other side has opened the pipe."""
    with open(pipe, "rb"):
        pass
