"""Where there are no steps: shared methods and `on_activate`, embedded and on a node."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from harness.world import Embedded, Served, World

from perdure import DurableContext, DurableObject, ctx, durable


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


MADE: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_made():
    MADE.clear()


@durable.object
class GlassBook(DurableObject):
    """Whom the others would write to."""

    def __init__(self, book_id: str) -> None:
        super().__init__(book_id)
        self.lines: list[str] = []

    async def write(self, line: str) -> None:
        self.lines.append(line)

    @durable.shared
    async def read(self) -> list[str]:
        return self.lines


@durable.object
class Glass(DurableObject):
    """Asks for steps where there are none."""

    def __init__(self, glass_id: str) -> None:
        super().__init__(glass_id)
        self.full = False

    async def fill(self) -> None:
        self.full = True

    @durable.shared
    async def ask(self, ctx: DurableContext, what: str) -> Any:
        return await ask_for(ctx, self, what)


@durable.object
class GlassWindow(DurableObject):
    """Asks for a step whenever it comes into memory."""

    def __init__(self, window_id: str) -> None:
        super().__init__(window_id)

    async def on_activate(self) -> None:
        if self.object_id != "none":
            await ask_for(ctx, self, self.object_id)

    async def look(self) -> str:
        return "seen"

    async def fill(self) -> None:
        pass


async def ask_for(ctx: DurableContext, this: Any, what: str) -> Any:
    match what:
        case "call":
            return await ctx.call("scriptorium", "copy")
        case "run":
            return await ctx.run("made", MADE.append, "made")
        case "sleep":
            return await ctx.sleep(0.001)
        case "nested":
            return await durable.ref(GlassBook, "s1").write("x")
        case "send":
            return await durable.send(durable.ref(GlassBook, "s1")).write("x")
        case "after":
            return ctx.after(1, this.fill)
        case "every":
            return ctx.every(dt.timedelta(hours=1), this.fill)
        case "cancel":
            return ctx.cancel("fill")
        case "delete":
            return await durable.delete(durable.ref(GlassBook, "s1"))
        case _:
            return await GlassBook.get_or_create("new")


ASKED = ["call", "run", "sleep", "nested", "send", "after", "every", "cancel", "delete", "create"]


@pytest.mark.parametrize("what", ASKED)
def test_a_shared_method_has_no_steps(world, what):
    async def main():
        await GlassBook.get_or_create("s1")
        glass = await Glass.get_or_create("g1")
        with pytest.raises(RuntimeError, match="shared"):
            await glass.ask(what)
        assert MADE == []
        assert await durable.ref(GlassBook, "s1").read() == []
        assert not await durable.exists(GlassBook, "new")
        await glass.fill()

    world.run(main)


@pytest.mark.parametrize("what", ASKED)
def test_on_activate_has_no_steps(world, what):
    async def main():
        await GlassBook.get_or_create("s1")
        with pytest.raises(RuntimeError, match="on_activate"):
            await GlassWindow.get_or_create(what)
        assert MADE == []
        assert not await durable.exists(GlassWindow, what)
        assert await durable.ref(GlassBook, "s1").read() == []
        assert not await durable.exists(GlassBook, "new")
        assert await (await GlassWindow.get_or_create("none")).look() == "seen"

    world.run(main)
