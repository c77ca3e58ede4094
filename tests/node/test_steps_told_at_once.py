"""Results that a method hears before the loop comes round, and what they share a record with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from harness.bells import partition_with, until
from harness.loop import on_loop
from harness.nodes import running, settings

from perdure import DurableContext, DurableObject, durable
from perdure.errors import ServiceError
from perdure.ids import ObjectKey
from perdure_node.core.commits import Commit, unpack_record
from perdure_node.core.events import Done, Saved, Scheduled
from perdure_node.core.limits import Limits
from perdure_node.core.replay import Replay
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node

TASKS: list[object] = []
"""What the services ran in."""
GATES: dict[str, asyncio.Event] = {}


@durable.service("prompt")
class Prompt:
    async def now(self, number: int) -> int:
        TASKS.append(asyncio.current_task())
        return number

    async def later(self, number: int) -> int:
        TASKS.append(asyncio.current_task())
        await asyncio.sleep(0)
        return number

    async def fail_at_once(self) -> None:
        raise ValueError("no")

    async def fail_twice(self) -> str:
        TASKS.append(None)
        if len(TASKS) < 3:
            raise ValueError("not yet")
        return "at last"


@durable.object
class Teller(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.heard: list[int] = []

    async def two_steps(self, ctx: DurableContext, method: str) -> list[int]:
        self.heard.append(await ctx.call("prompt", method, 1))
        await self.save()
        self.heard.append(await ctx.call("prompt", method, 2))
        return self.heard

    async def waits_in_between(self, ctx: DurableContext) -> list[int]:
        first = await ctx.call("prompt", "now", 1)
        await GATES["go on"].wait()
        self.heard.append(first)
        return self.heard

    async def fails(self, ctx: DurableContext) -> str:
        try:
            await ctx.call("prompt", "fail_at_once")
        except ServiceError as error:
            return f"{error.type}: {asyncio.current_task() is not None}"
        return "no error"

    async def makes_a_task(self, ctx: DurableContext) -> list[int]:
        await ctx.call("prompt", "now", 1)
        beside = asyncio.get_running_loop().create_task(self._beside(ctx))
        await ctx.call("prompt", "now", 2)
        self.heard.append(await ctx.run("third", lambda: 3))
        await beside
        await GATES["go on"].wait()
        return self.heard

    async def _beside(self, ctx: DurableContext) -> None:
        for _ in range(12):
            await asyncio.sleep(0)
        self.heard.append(await ctx.run("beside", lambda: 4))


@durable.object(retries=3)
class TellerAgain(DurableObject):
    async def work(self, ctx: DurableContext) -> str:
        try:
            return str(await ctx.call("prompt", "fail_twice"))
        except ServiceError:
            ctx.now()
            raise


def commits(node: Node, id: str = "x") -> list[list[Commit]]:
    """Return the commits of an object's calls, by their records."""
    key = ObjectKey("Teller", id)
    host = node._hosts.find(partition_with(node, *key).number)
    found = []
    for record in host.log.read(0):
        of_object = [] if record.is_claim else unpack_record(record.body)[1]
        if mine := [commit for commit in of_object if commit.key == key and not commit.created]:
            found.append(mine)
    return found


async def all_is_durable(node: Node) -> None:
    for host in node._hosts:
        durable_now = asyncio.Event()
        host.partition.hold_all(durable_now.set)
        node._note(host)
        await durable_now.wait()


@on_loop
async def test_a_service_that_never_waits_is_called_without_a_task(tmp_path: Path) -> None:
    TASKS.clear()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Teller")
        assert await caller.call("Teller", "two_steps", "now") == [1, 2]
        assert TASKS == [None, None]
        await caller.call("Teller", "two_steps", "later")
        assert None not in TASKS[2:]


@pytest.mark.parametrize("method", ["now", "later"])
@on_loop
async def test_a_result_is_recorded_with_the_save_and_the_step_that_follow_it(
    tmp_path: Path, method: str
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Teller")
        await caller.call("Teller", "two_steps", method)
        found = commits(node)

    assert [len(record) for record in found] == [1, 1, 1]
    [[first], [second], [third]] = found
    assert [type(event) for event in first.events] == [Scheduled]
    assert [type(event) for event in second.events] == [Done, Saved, Scheduled]
    assert second.values
    assert third.outcomes
    assert not third.events, "the outcome says all"


@on_loop
async def test_a_result_after_which_the_method_waits_for_something_else_is_recorded_by_itself(
    tmp_path: Path,
) -> None:
    GATES["go on"] = asyncio.Event()
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("Teller")
        caller.send("Teller", "waits_in_between")
        partition = partition_with(node, "Teller")
        progress = partition.memory.progress
        key = ObjectKey("Teller", "x")
        await until(lambda: key in progress and len(progress[key].events) == 2)
        await all_is_durable(node)
    TASKS.clear()
    GATES["go on"].set()
    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.call("Teller", "waits_in_between") == [1, 1]
    assert len(TASKS) == 1, "the result of the first life is in the journal"


@on_loop
async def test_what_a_service_raises_at_once_is_raised_in_the_methods_task(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Teller")
        assert await caller.call("Teller", "fails") == "ValueError: True"


@on_loop
async def test_a_method_that_has_made_a_task_hears_nothing_before_that_has_done_its_part(
    tmp_path: Path,
) -> None:
    ids = [f"t{n}" for n in range(30)]
    GATES["go on"] = asyncio.Event()
    # So fast that results come while the task is still on its way.
    disk = JournalSettings(segment_bytes=1 << 20, sync=lambda _: None)
    async with running(settings(tmp_path, journal=disk), crash=True) as (node, caller):
        for id in ids:
            await caller.create("Teller", id)
            caller.send("Teller", "makes_a_task", id=id)

        def journals() -> list[int]:
            partitions = {id: partition_with(node, "Teller", id) for id in ids}
            keys = {id: ObjectKey("Teller", id) for id in ids}
            return [
                len(partitions[id].memory.progress[keys[id]].events)
                if keys[id] in partitions[id].memory.progress
                else 0
                for id in ids
            ]

        await until(lambda: journals() == [8] * len(ids))
        await all_is_durable(node)
    GATES["go on"].set()
    async with running(settings(tmp_path)) as (node, caller):
        for id in ids:
            # Behind the call that goes on; one that has gone another way would hold its object.
            await caller.call("Teller", "two_steps", "now", id=id)
            assert (await caller.state("Teller", id))["heard"][-2:] == [1, 2]


@on_loop
async def test_a_step_that_has_failed_is_made_again_whatever_was_decided_after_it(
    tmp_path: Path,
) -> None:
    TASKS.clear()
    soon = Limits(method_retry_ms=1, method_retry_max_ms=2)
    async with running(settings(tmp_path, limits=soon)) as (_, caller):
        await caller.create("TellerAgain")
        assert await caller.call("TellerAgain", "work") == "at last"


def test_what_was_heard_ahead_is_not_told_again() -> None:
    replay = Replay([Scheduled(1, "run", "a", None)])
    replay.ask("run", "a")
    assert replay.next() is None
    done = Done(1, 0, b"1")

    assert replay.hear_ahead(done)
    assert replay.is_done(1)
    replay.events += [done, Scheduled(2, "run", "b", None), Done(2, 0, b"22")]
    replay.grown()
    replay.ask("run", "b")

    assert replay.next() == Done(2, 0, b"22")
    assert replay.next() is None
    assert replay.result_bytes == 3


def test_nothing_is_heard_ahead_of_what_the_journal_has() -> None:
    replay = Replay([Scheduled(1, "run", "a", None), Scheduled(2, "run", "b", None)])
    replay.ask("run", "a")
    replay.ask("run", "b")
    assert replay.next() is None
    replay.events.append(Done(2, 0, b"2"))
    replay.grown()

    assert not replay.hear_ahead(Done(1, 0, b"1"))
    assert replay.next() == Done(2, 0, b"2")
    assert replay.hear_ahead(Done(1, 0, b"1"))
