"""Methods with steps, on a real node that crashes: what is finished is not made again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, deafen, running, settings
from harness.tally import HeldSync, settled

from perdure import DurableContext, DurableObject, ServiceError, codec, durable
from perdure.errors import Code, NonDeterministic, Parked, ServiceNotFound
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node

GATES: dict[str, asyncio.Event] = {}
MADE: list[str] = []
"""What was really done, in this process."""


@durable.service("till")
class Till:
    async def charge(self, payload: dict[str, Any]) -> dict[str, Any]:
        MADE.append(f"charge {payload['amount']}")
        return {"success": True, "amount": payload["amount"]}

    async def refuse(self) -> None:
        MADE.append("refuse")
        raise ValueError("closed")


@durable.object
class Pot(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0

    async def add(self, amount: int) -> int:
        self.n += amount
        return self.n

    async def hold(self) -> None:
        await GATES["never"].wait()

    async def give(self, other: str, amount: int) -> int:
        self.n -= amount
        await self.save()
        return await durable.ref(Pot, other).add(amount)


@durable.object
class Works(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.status = "idle"
        self.steps: list[Any] = []

    async def roll(self, ctx: DurableContext) -> list[Any]:
        self.steps.append("begun")
        self.steps.append(await ctx.run("dice", self._dice))
        await GATES["go"].wait()
        self.steps.append("ended")
        return self.steps

    def _dice(self) -> int:
        MADE.append("dice")
        return len(MADE)

    async def pay(self, ctx: DurableContext, amount: int) -> list[Any]:
        self.status = "paying"
        self.steps.append("pay")
        await self.save()
        result = await ctx.call("till", "charge", {"amount": amount})
        self.status = "paid" if result["success"] else "failed"
        self.steps.append(result["amount"])
        await self.save()
        await GATES["go"].wait()
        again = await ctx.call("till", "charge", {"amount": amount + 1})
        self.steps.append(again["amount"])
        return self.steps

    async def fill(self, pot: str) -> int:
        self.steps.append("fill")
        filled = await durable.ref(Pot, pot).add(5)
        await GATES["go"].wait()
        self.steps.append(filled)
        return filled

    async def climb(self) -> None:
        for gate in ("go", "slow", "never"):
            self.steps.append(gate)
            await self.save()
            await GATES[gate].wait()

    async def wait_between(self, ctx: DurableContext) -> None:
        try:
            await ctx.run("one", lambda: MADE.append("one"))
            await GATES["go"].wait()
            await ctx.run("two", self._wait_for)
        finally:
            await ctx.run("tidy", lambda: MADE.append("tidy"))

    async def guard(self, ctx: DurableContext, how: str) -> list[Any]:
        await ctx.run("one", lambda: MADE.append("one"))
        GATES["slow"].set()
        try:
            await GATES["go"].wait()
        except asyncio.CancelledError:
            self.steps.append("stopped")
            if how == "saves":
                await self.save()
            elif how == "asks":
                await ctx.run("tidy", lambda: MADE.append("tidy"))
            return self.steps
        await ctx.run("two", lambda: MADE.append("two"))
        self.steps.append("ended")
        return self.steps

    async def ask_stubborn(self, ctx: DurableContext) -> None:
        self.steps.append(await ctx.run("stubborn", self._stubborn))

    async def _stubborn(self) -> str:
        GATES["slow"].set()
        try:
            await GATES["go"].wait()
        except asyncio.CancelledError:
            return "stopped"
        return "went"

    async def leave_open(self, pot: str) -> None:
        durable.ref(Pot, pot).add(7)
        self.steps.append("left")

    async def race(self, ctx: DurableContext) -> str:
        first = asyncio.ensure_future(ctx.run("slow", self._wait_for))
        second = asyncio.ensure_future(ctx.run("fast", self._fast))
        done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
        self.steps.append("slow" if first in done else "fast")
        await first
        await GATES["go"].wait()
        return self.steps[-1]

    async def _wait_for(self) -> str:
        await GATES["slow"].wait()
        return "slow"

    async def _fast(self) -> str:
        return "fast"

    async def change_mind(self, ctx: DurableContext) -> str:
        await ctx.run(MIND[0], lambda: MADE.append(MIND[0]))
        await GATES["go"].wait()
        return MIND[0]

    async def unknown(self, ctx: DurableContext) -> None:
        await ctx.call("nobody", "there")

    async def refused(self, ctx: DurableContext) -> str:
        try:
            await ctx.call("till", "refuse")
        except ServiceError as error:
            return f"{error.type}: {error.message}"
        return "no error"

    async def nap(self, ctx: DurableContext, seconds: float) -> float:
        before = ctx.now()
        await ctx.sleep(seconds)
        return (ctx.now() - before).total_seconds()

    async def add(self) -> str:
        self.steps.append("add")
        return "added"


MIND = ["one"]


def fresh() -> None:
    GATES.clear()
    GATES.update({name: asyncio.Event() for name in ("go", "slow", "never")})
    MADE.clear()


async def until(condition: Any) -> None:
    while not condition():
        await settled()


async def until_events(node: Node, tag: str, count: int = 1) -> None:
    """Wait until there are so many events of one kind in the journal of a call of `Works`."""
    await until(lambda: sum(event.tag == tag for event in events_of_works(node)) >= count)


def events_of_works(node: Node) -> list[Any]:
    for host in node._hosts:
        for key, progress in host.partition.memory.progress.items():
            if key.type == "Works":
                return progress.events
    return []


@contextlib.asynccontextmanager
async def first_life(path: Path, *, crash: bool = False) -> AsyncIterator[tuple[Node, Caller]]:
    """Run a new node on which there are `Works` and the pot `p1`; all gates are shut."""
    fresh()
    async with running(settings(path), crash=crash) as (node, caller):
        await caller.create("Works")
        await caller.create("Pot", "p1")
        yield node, caller


@contextlib.asynccontextmanager
async def next_life(
    path: Path, *, crash: bool = False, go: bool = True
) -> AsyncIterator[tuple[Node, Caller]]:
    """Run the node again, with nothing in memory; what waited to `go` on does, or does not."""
    fresh()
    if go:
        GATES["go"].set()
    async with running(settings(path), crash=crash) as (node, caller):
        yield node, caller


async def until_steps(caller: Caller) -> None:
    """Wait until `Works` has noted a step."""
    while not (await caller.state("Works"))["steps"]:
        await settled()


async def state_when(caller: Caller, type: str, **wanted: Any) -> dict[str, Any]:
    """Wait until an object's committed state has these values."""
    while True:
        found = await caller.state(type)
        if all(found[name] == value for name, value in wanted.items()):
            return found
        await settled()


@on_loop
async def test_a_finished_step_is_answered_from_the_journal_after_a_crash(tmp_path: Path) -> None:
    async with first_life(tmp_path, crash=True) as (node, caller):
        caller.send("Works", "roll")
        await until_events(node, "d")
        await caller.create("Pot")  # A later record: the one before it is durable too.
    fresh()
    GATES["go"].set()
    MADE.append("not the first")
    async with running(settings(tmp_path)) as (_, caller):
        found = await state_when(caller, "Works", steps=["begun", 1, "ended"])
    assert found["steps"] == ["begun", 1, "ended"]
    assert MADE == ["not the first"], "the dice were rolled before the crash only"


@on_loop
async def test_saves_and_service_calls_are_skipped_by_a_second_run(tmp_path: Path) -> None:
    async with first_life(tmp_path, crash=True) as (node, caller):
        caller.send("Works", "pay", 10)
        await until_events(node, "v", 2)
        await caller.create("Pot")
        assert (await caller.state("Works"))["status"] == "paid"
    assert MADE == ["charge 10"]
    async with next_life(tmp_path, go=False) as (_, caller):
        assert (await caller.state("Works"))["status"] == "paid", "it never goes back in time"
        GATES["go"].set()
        found = await state_when(caller, "Works", steps=["pay", 10, 11])
    assert MADE == ["charge 11"]
    assert found["status"] == "paid"


@on_loop
async def test_a_second_run_that_waits_after_its_first_save_does_not_undo_the_next_one(
    tmp_path: Path,
) -> None:
    async with first_life(tmp_path, crash=True) as (node, caller):
        GATES["go"].set()
        caller.send("Works", "climb")
        await until_events(node, "v", 2)
        await caller.create("Pot")
    async with next_life(tmp_path, crash=True, go=False) as (node, caller):
        await settled(200)
        assert (await caller.state("Works"))["steps"] == ["go", "slow"]
        GATES["go"].set()
        GATES["slow"].set()
        await state_when(caller, "Works", steps=["go", "slow", "never"])


@on_loop
async def test_a_second_run_hears_that_it_is_cancelled_where_the_first_one_did(
    tmp_path: Path,
) -> None:
    async with first_life(tmp_path, crash=True) as (node, caller):
        GATES["go"].set()
        answer = caller.send("Works", "wait_between", timeout_s=None)
        await until_events(node, "s", 2)
        await settled(100)
        deafen(node)
        await cancel(caller, answer)
        answer.cancel()
    async with next_life(tmp_path, go=False) as (node, caller):
        await settled(200)
        assert MADE == [], "it is not there yet"
        GATES["go"].set()
        await until(lambda: MADE == ["tidy"])


@pytest.mark.parametrize("how", ["saves", "asks", "returns"])
@on_loop
async def test_nothing_counts_that_a_method_does_because_its_node_stops(
    tmp_path: Path, how: str
) -> None:
    fresh()
    async with running(settings(tmp_path, drain_s=0.0)) as (_, caller):
        await caller.create("Works")
        caller.send("Works", "guard", how, timeout_s=None)
        await GATES["slow"].wait()
        await caller.client.close(0.0)
    assert MADE == ["one"]
    async with next_life(tmp_path) as (_, caller):
        assert await state_when(caller, "Works", steps=["ended"])
    assert MADE == ["two"]


@on_loop
async def test_a_step_that_ends_because_its_node_stops_is_made_again(tmp_path: Path) -> None:
    fresh()
    async with running(settings(tmp_path, drain_s=0.0)) as (_, caller):
        await caller.create("Works")
        caller.send("Works", "ask_stubborn", timeout_s=None)
        await GATES["slow"].wait()
        await caller.client.close(0.0)
    async with next_life(tmp_path) as (_, caller):
        await until_steps(caller)
        assert (await caller.state("Works"))["steps"] == ["went"]


@on_loop
async def test_a_cancellation_is_answered_when_it_is_durable(tmp_path: Path) -> None:
    fresh()
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal)) as (node, caller):
        await caller.create("Works")
        answer = caller.send("Works", "wait_between")
        await until_events(node, "d")
        await caller.create("Pot")
        disk.free.clear()
        cancelling = asyncio.ensure_future(cancel(caller, answer))
        await until_events(node, "c")
        await settled(200)
        assert not cancelling.done()
        disk.free.set()
        await cancelling
        assert (await answer).code == Code.CANCELLED


async def cancel(caller: Caller, answer: Any) -> None:
    call_id = codec.encode(str(answer.call_id))
    target = ObjectKey("Works", "x")
    assert (await caller.client.call(target, Kind.CANCEL, "cancel", arguments=call_id)).code == 0


@on_loop
async def test_a_nested_call_is_applied_once_whatever_crashes(tmp_path: Path) -> None:
    async with first_life(tmp_path, crash=True) as (node, caller):
        caller.send("Works", "fill", "p1")
        await until_events(node, "s")
        assert await caller.call("Pot", "add", 0, id="p1") in (0, 5)
    async with next_life(tmp_path) as (_, caller):
        await state_when(caller, "Works", steps=["fill", 5])
        assert await caller.call("Pot", "add", 0, id="p1") == 5


@on_loop
async def test_a_call_that_waits_for_another_one_is_in_the_store_as_in_the_journal(
    tmp_path: Path,
) -> None:
    async with first_life(tmp_path, crash=True) as (node, caller):
        caller.send("Works", "fill", "p1")
        await until_events(node, "d")
        await caller.call("Pot", "add", 1, id="p1")
        for host in node._hosts:
            assert host.apply()
    async with next_life(tmp_path) as (_, caller):
        await state_when(caller, "Works", steps=["fill", 5])
        assert await caller.call("Pot", "add", 0, id="p1") == 6


@on_loop
async def test_a_nested_call_left_open_is_delivered_after_the_method_has_returned(
    tmp_path: Path,
) -> None:
    async with first_life(tmp_path, crash=True) as (_, caller):
        await caller.call("Works", "leave_open", "p1")
    async with running(settings(tmp_path)) as (node, caller):
        await until_pot(caller, "p1", 7)
        await until(lambda: not any(h.partition.memory.underway.outbox for h in node._hosts))
    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.call("Pot", "add", 0, id="p1") == 7


@on_loop
async def test_a_nested_call_left_open_whose_target_was_busy_is_delivered_after_a_crash(
    tmp_path: Path,
) -> None:
    async with first_life(tmp_path, crash=True) as (_, caller):
        caller.send("Pot", "hold", id="p1")
        await caller.call("Works", "leave_open", "p1")
    async with next_life(tmp_path) as (_, caller):
        await until_pot(caller, "p1", 7)


async def until_pot(caller: Caller, pot: str, amount: int) -> None:
    while await caller.call("Pot", "add", 0, id=pot) != amount:
        await settled()


@on_loop
async def test_a_race_has_the_same_winner_in_every_run(tmp_path: Path) -> None:
    async with first_life(tmp_path, crash=True) as (node, caller):
        caller.send("Works", "race")
        await until_events(node, "d")
        GATES["slow"].set()
        await until_events(node, "d", 2)
        await caller.create("Pot")
    async with next_life(tmp_path) as (_, caller):
        await state_when(caller, "Works", steps=["fast"])


@on_loop
async def test_other_steps_than_those_in_the_journal_park_the_call(tmp_path: Path) -> None:
    MIND[0] = "one"
    async with first_life(tmp_path, crash=True) as (node, caller):
        caller.send("Works", "change_mind")
        await until_events(node, "d")
        await caller.create("Pot")
    MIND[0] = "two"
    async with next_life(tmp_path, crash=True, go=False) as (node, caller):
        await until_events(node, "p")
        assert MADE == [], "nothing of the other code was done"
        with pytest.raises(Parked, match="step 1 is run one in the journal"):
            await caller.call("Works", "add")
        await caller.call("Pot", "add", 1)
    MIND[0] = "one"
    async with next_life(tmp_path) as (node, caller):
        [host] = [h for h in node._hosts if h.partition.journalled.parked_calls]
        [call] = host.partition.journalled.parked_calls.values()
        assert host.partition.journalled.retry(call.key)
        node._ran(host.partition)
        while True:
            try:
                assert await caller.call("Works", "add") == "added"
                break
            except Parked:
                await settled()


@on_loop
async def test_other_steps_without_anything_done_fail_the_call_and_free_the_object(
    tmp_path: Path,
) -> None:
    async with first_life(tmp_path) as (_, caller):
        answer = await caller.send("Works", "unknown")
        assert answer.code == Code.SERVICE_NOT_FOUND
        with pytest.raises(ServiceNotFound):
            await caller.call("Works", "unknown")
        assert await caller.call("Works", "add") == "added"
    assert issubclass(NonDeterministic, Exception)


@on_loop
async def test_an_error_that_a_service_gives_as_its_answer_is_recorded(tmp_path: Path) -> None:
    async with first_life(tmp_path) as (_, caller):
        assert await caller.call("Works", "refused") == "ValueError: closed"
    assert MADE == ["refuse"]


@on_loop
async def test_a_sleep_lasts_as_long_as_it_says(tmp_path: Path) -> None:
    async with first_life(tmp_path) as (_, caller):
        assert 0.05 <= await caller.call("Works", "nap", 0.05) < 5


@on_loop
async def test_objects_that_give_to_one_another_keep_the_sum(tmp_path: Path) -> None:
    async with first_life(tmp_path) as (_, caller):
        await caller.create("Pot", "p2")
        assert await caller.call("Pot", "give", "p2", 3, id="p1") == 3
        assert await caller.call("Pot", "add", 0, id="p1") == -3
