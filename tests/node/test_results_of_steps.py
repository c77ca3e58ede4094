"""The results of steps on a slow disk and over a crash: what may leave that has seen them."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from harness.bells import partition_with, state_when, until
from harness.loop import on_loop
from harness.nodes import result_of, running, settings
from harness.tally import HeldSync, settled

from perdure import DurableContext, DurableObject, durable
from perdure.ids import ObjectKey
from perdure.origins import OriginLane
from perdure_node.core.events import Event
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node

MADE: list[str] = []
"""What was really done, in this process."""

GATES: dict[str, asyncio.Event] = {}
DICE = itertools.count(1)
KEY = ObjectKey("Gambler", "x")


@durable.service("croupier")
class Croupier:
    async def pay_out(self, payload: int) -> None:
        MADE.append(f"paid {payload}")


@durable.object
class Gambler(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.thrown: list[int] = []

    async def play(self, ctx: DurableContext) -> None:
        thrown = await ctx.run("throw", throw)
        await ctx.call("croupier", "pay_out", thrown)
        await GATES["end"].wait()
        self.thrown.append(thrown)

    async def win(self) -> int:
        await durable.ref(Purse, "p").add(7)
        await GATES["end"].wait()
        return await durable.ref(Purse, "p").add(1)


@durable.object
class Purse(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.total = 0

    async def add(self, amount: int) -> int:
        self.total += amount
        return self.total


def throw() -> int:
    """Give another number each time."""
    MADE.append("thrown")
    return next(DICE)


def begin() -> None:
    MADE.clear()
    GATES["end"] = asyncio.Event()


class HeldFromResult(HeldSync):
    """A disk that hangs as soon as there is the result of a step: the record of it is not made."""

    node: Node | None = None
    hangs = False

    def __call__(self, descriptor: int) -> None:
        if self.node is not None and any(event.tag == "d" for event in events(self.node)):
            self.node = None
            self.free.clear()
            self.hangs = True
        super().__call__(descriptor)


def events(node: Node) -> list[Event]:
    """Return the journal of the gambler's call."""
    progress = partition_with(node, *KEY).memory.progress.get(KEY)
    return [] if progress is None else [*progress.events]


def settled_calls(node: Node) -> int:
    """Return how many calls that leave partitions have outcomes which nobody will ask for again."""
    lanes = node.client._session._lanes.values()
    return sum(lane.window.settled.spans[0] for lane in lanes if isinstance(lane, OriginLane))


@on_loop
async def test_what_a_step_has_given_is_in_the_journal_before_anything_that_saw_it(
    tmp_path: Path,
) -> None:
    begin()
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Gambler")
        caller.send("Gambler", "play")
        await until(lambda: len(MADE) == 2)
    first = list(MADE)
    begin()
    GATES["end"].set()
    async with running(settings(tmp_path)) as (_, caller):
        found = await state_when(caller, lambda state: state["thrown"], "Gambler")

    assert "thrown" not in MADE
    assert first[1] == f"paid {found['thrown'][0]}"


@on_loop
async def test_nothing_that_saw_the_result_of_a_step_leaves_before_that_is_durable(
    tmp_path: Path,
) -> None:
    begin()
    disk = HeldFromResult()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal)) as (node, caller):
        await caller.create("Gambler")
        disk.node = node
        call = caller.send("Gambler", "play")
        await until(lambda: [event.tag for event in events(node)] == ["s", "d", "s"])
        await until(lambda: disk.hangs)
        await settled(200)
        assert MADE == ["thrown"], "who it is paid out to sees what was thrown"
        disk.free.set()
        GATES["end"].set()
        await call
    assert len(MADE) == 2


@on_loop
async def test_a_target_is_told_to_forget_an_outcome_when_the_caller_has_it_on_disk(
    tmp_path: Path,
) -> None:
    begin()
    disk = HeldFromResult()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal)) as (node, caller):
        await caller.create("Gambler")
        await caller.create("Purse", "p")
        disk.node = node
        call = caller.send("Gambler", "win")
        await until(lambda: disk.hangs)
        await settled(200)
        assert settled_calls(node) == 0
        disk.free.set()
        await until(lambda: settled_calls(node) == 1)
        GATES["end"].set()
        assert result_of(await call) == 8


@on_loop
async def test_a_nested_call_after_a_crash_is_another_one_than_that_before_it(
    tmp_path: Path,
) -> None:
    begin()
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("Gambler")
        await caller.create("Purse", "p")
        caller.send("Gambler", "win")
        await until(lambda: any(event.tag == "d" for event in events(node)))
        await caller.create("Purse", "later")
    begin()
    GATES["end"].set()
    async with running(settings(tmp_path)) as (_, caller):
        await state_when(caller, lambda state: state["total"] == 8, "Purse", "p")
