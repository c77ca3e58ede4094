"""Objects whose calls wait for ever in every way there is, until somebody ends them."""

from __future__ import annotations

import asyncio

from perdure import DurableContext, DurableObject, durable


@durable.object
class Dozer(DurableObject):
    """Counts how often it came to clean up."""

    def __init__(self, sleeper_id: str) -> None:
        super().__init__(sleeper_id)
        self.begun = 0
        self.cleaned = 0
        self.calls = 0

    async def work(self, ctx: DurableContext, how: str) -> str:
        self.begun += 1
        await self.save()
        try:
            if how == "in a nested call":
                await durable.ref(Dozer, f"{self.object_id}-below").hold()
            elif how == "in a sleep":
                await ctx.sleep(3_600)
            elif how == "in a step":
                await ctx.run("wait", _for_ever)
            else:
                await _for_ever()
        except asyncio.CancelledError:
            self.cleaned += 1
            await self.save()
            raise
        return "done"

    async def hold(self) -> None:
        self.begun += 1
        await self.save()
        await _for_ever()

    async def dive(self, name: str, depth: int) -> None:
        self.begun += 1
        await self.save()
        if depth:
            await durable.ref(Dozer, f"{name}-{depth - 1}").dive(name, depth - 1)
        else:
            await _for_ever()

    async def end(self, other: str, call_id: str) -> bool:
        return await durable.cancel(durable.ref(Dozer, other), call_id)

    async def answer(self) -> int:
        self.calls += 1
        return self.calls


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
