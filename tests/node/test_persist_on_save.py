"""Objects that persist on save, and what leaves them: it knows no more than the disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import running, settings
from harness.tally import settled

from perdure import DurableContext, DurableObject, durable

MADE: list[Any] = []
"""What was really done, in both lives."""
LIFE = [1]
GATES: dict[str, asyncio.Event] = {}


def begin(life: int) -> None:
    LIFE[0] = life
    GATES["here"] = asyncio.Event()
    if life == 1:
        MADE.clear()


async def crash_here() -> None:
    """In the first life wait for its end, in the second go on."""
    if LIFE[0] == 1:
        GATES["here"].set()
        await asyncio.Event().wait()


@durable.object
class ClapperMould(DurableObject):
    """What the others tell."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0

    async def add(self, amount: int) -> int:
        self.n += amount
        return self.n


@durable.object(persist="on_save")
class Clapper(DurableObject):
    """Persists when it says so, and when something leaves it."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0

    async def add(self) -> int:
        self.n += 1
        return self.n

    async def fail(self) -> None:
        self.n += 100
        raise ValueError("on purpose")

    async def save_and_fail(self) -> None:
        self.n += 10
        await self.save()
        self.n += 100
        raise ValueError("on purpose")

    async def add_and_step(self, ctx: DurableContext) -> int:
        self.n += 1
        await ctx.run("step", MADE.append, self.n)
        await crash_here()
        self.n += 1
        return self.n

    async def save_between_steps(self, ctx: DurableContext) -> int:
        self.n += 1
        await ctx.run("step", MADE.append, self.n)
        self.n += 1
        await self.save()
        self.n += 1
        await ctx.run("step", MADE.append, self.n)
        await crash_here()
        self.n += 1
        await self.save()
        await ctx.run("step", MADE.append, self.n)
        raise ValueError("on purpose")

    async def add_and_tell(self, mould: str) -> int:
        self.n += 1
        return await durable.ref(ClapperMould, mould).add(self.n)

    async def add_and_send(self, mould: str) -> None:
        self.n += 1
        durable.send(durable.ref(ClapperMould, mould)).add(self.n)


@on_loop
async def test_a_step_of_an_object_that_persists_on_save_commits_first(tmp_path: Path) -> None:
    begin(1)
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Clapper")
        for _ in range(3):
            await caller.call("Clapper", "add")
        caller.send("Clapper", "add_and_step")
        await GATES["here"].wait()
        await caller.create("ClapperMould", "behind")
    assert MADE == [4]
    begin(2)
    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.call("Clapper", "add") == 6
    assert MADE == [4]


@pytest.mark.parametrize("method", ["add_and_tell", "add_and_send"])
@on_loop
async def test_what_leaves_such_an_object_never_knows_more_than_the_disk(
    tmp_path: Path, method: str
) -> None:
    begin(1)
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Clapper")
        await caller.create("ClapperMould", "m")
        for _ in range(3):
            await caller.call("Clapper", "add")
        await caller.call("Clapper", method, "m")
        while await caller.call("ClapperMould", "add", 0, id="m") != 4:
            await settled()
    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.state("Clapper") == {"n": 4}
        assert await caller.state("ClapperMould", "m") == {"n": 4}


@on_loop
async def test_an_exception_undoes_one_call_of_such_an_object_or_to_its_own_save(
    tmp_path: Path,
) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Clapper")
        for number in range(100):
            assert await caller.call("Clapper", "add") == number + 1
        with pytest.raises(ValueError, match="on purpose"):
            await caller.call("Clapper", "fail")
        assert await caller.call("Clapper", "add") == 101
        with pytest.raises(ValueError, match="on purpose"):
            await caller.call("Clapper", "save_and_fail")
        assert await caller.call("Clapper", "add") == 112


@on_loop
async def test_saves_between_its_steps_are_found_again_by_a_second_run(tmp_path: Path) -> None:
    begin(1)
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Clapper")
        caller.send("Clapper", "save_between_steps")
        await GATES["here"].wait()
        await caller.create("ClapperMould", "behind")
    begin(2)
    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.call("Clapper", "add") == 5, "4 was saved, and committed by the step"
    assert MADE == [1, 3, 4]
