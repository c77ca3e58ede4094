"""Objects that call one another: in a row, in a circle, across, and both ways at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure import CallCycle, DurableContext, DurableObject, NotStarted, durable


@durable.object
class ChainLink(DurableObject):
    def __init__(self, link_id: str) -> None:
        super().__init__(link_id)
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.touched = 0

    async def pass_on(self, ctx: DurableContext, number: int, rest: list[str]) -> list[str]:
        """Call the next of the rest, and so on; the last has somebody paid."""
        self.begun.append(number)
        await self.save()
        if rest:
            passed = await durable.ref(ChainLink, rest[0]).pass_on(number, rest[1:])
        else:
            paid = await ctx.call("witness", "charge", {"chain": number})
            passed = [str(paid["echo"]["chain"])]
        self.ended.append(number)
        return [self.object_id, *passed]

    async def circle(self, rest: list[str]) -> None:
        self.begun.append(len(rest))
        await durable.ref(ChainLink, rest[0]).circle(rest[1:])

    async def cross(
        self, ctx: DurableContext, other: str, folder: str | None = None
    ) -> tuple[str, float]:
        """Call an object that does the same to this one; return how that ended, after how long.

        With a folder, each has begun before one of them calls.
        """
        self.begun.append(0)
        await self.save()
        if folder is not None:
            await ctx.run("meet", lambda: _meet(Path(folder), self.object_id, other))
        await ctx.sleep(0.3)
        began = ctx.now()
        try:
            await durable.ref(ChainLink, other).touch()
            how = "came through"
        except (CallCycle, NotStarted) as error:
            how = str(error)
        took = ctx.now() - began
        self.ended.append(0)
        return how, took.total_seconds()

    async def touch(self) -> int:
        self.touched += 1
        return self.touched


async def _meet(folder: Path, mine: str, other: str) -> None:
    (folder / mine).touch()
    while not (folder / other).exists():
        await asyncio.sleep(0.005)


@durable.object
class Staffer(DurableObject):
    def __init__(self, staffer_id: str) -> None:
        super().__init__(staffer_id)
        self.employers: list[str] = []

    async def start_at(self, company: str) -> None:
        self.employers.append(company)


@durable.object
class Company(DurableObject):
    def __init__(self, company_id: str) -> None:
        super().__init__(company_id)
        self.staff: list[str] = []

    async def hire(self, ctx: DurableContext, name: str) -> None:
        """Change two objects; what comes in between takes a while."""
        self.staff.append(name)
        await self.save()
        await ctx.sleep(0.5)
        await (await Staffer.get_or_create(name)).start_at(self.object_id)

    async def roster(self) -> list[str]:
        return self.staff
