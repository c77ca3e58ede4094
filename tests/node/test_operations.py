"""What operators ask of a real node, and what they decide."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, running, settings
from harness.tally import settled

from perdure import DurableContext, DurableObject, durable
from perdure.cli.wording import call_name
from perdure.errors import NotOwner
from perdure.ids import ObjectKey, partition_of
from perdure.service_settings import ServiceSettings
from perdure.wire.v1 import cluster_pb2
from perdure_node.core.limits import Limits
from perdure_node.node import Node

GATES: dict[str, asyncio.Event] = {}
FAILS: list[str] = []

X = ObjectKey("OpsWorker", "x")
RETRY_TIMER = cluster_pb2.DECISION_RETRY_TIMER
DROP_TIMER = cluster_pb2.DECISION_DROP_TIMER


@durable.service("ops-till")
class OpsTill:
    async def charge(self) -> str:
        await GATES["till"].wait()
        return "paid"


@durable.object
class OpsWorker(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.billed = 0

    async def pay(self, ctx: DurableContext) -> Any:
        return await ctx.call("ops-till", "charge")

    async def nap(self, ctx: DurableContext) -> None:
        await ctx.sleep(3_600)

    async def ask(self, other: str) -> int:
        return await durable.ref(OpsWorker, other).stay()

    async def stay(self) -> int:
        await GATES["stay"].wait()
        return 1

    async def leave(self, other: str) -> None:
        durable.ref(OpsWorker, other).stay()

    async def bill_at_once(self, ctx: DurableContext) -> None:
        ctx.after(0, self.bill)

    async def bill_other(self, other: str) -> None:
        durable.send(durable.ref(OpsWorker, other)).bill()

    async def have_stay(self, other: str) -> None:
        durable.send(durable.ref(OpsWorker, other)).stay()

    async def bill(self) -> None:
        if FAILS:
            raise ValueError(FAILS[0])
        self.billed += 1


def fresh() -> None:
    GATES.clear()
    GATES.update(till=asyncio.Event(), stay=asyncio.Event())
    FAILS.clear()


async def step_of(node: Node, key: ObjectKey = X) -> cluster_pb2.OpenStep:
    """Wait until a call of an object is at a step, and return that."""
    while True:
        found = node.operations.inspect(key)
        if found.running and found.running[0].steps:
            return found.running[0].steps[0]
        await settled()


async def calls_when(node: Node, count: int, **asked: Any) -> cluster_pb2.CallPage:
    while True:
        page = node.operations.list_calls(cluster_pb2.ListCallsRequest(**asked))
        if len(page.calls) == count:
            return page
        await settled()


async def parked_timer(node: Node) -> cluster_pb2.OpenTimer:
    while True:
        page = node.operations.list_calls(cluster_pb2.ListCallsRequest(parked_only=True))
        if page.timers:
            return page.timers[0]
        await asyncio.sleep(0.001)


@on_loop
async def test_a_step_tells_its_attempt_what_went_wrong_and_when_the_next_one_is(
    tmp_path: Path,
) -> None:
    fresh()
    impatient = ServiceSettings(timeout_s=0.01, attempts=50, backoff_min_s=60, backoff_max_s=60)
    made = settings(tmp_path, services={"ops-till": impatient})
    async with running(made, crash=True) as (node, caller):
        await caller.create("OpsWorker")
        caller.send("OpsWorker", "pay")
        while not (step := await step_of(node)).HasField("next_ms"):
            await asyncio.sleep(0.001)

    assert (step.number, step.kind, step.name) == (1, "service", "ops-till.charge")
    assert (step.attempt, step.HasField("age_ms")) == (1, True)
    assert "0.01" in step.failure
    assert 20_000 < step.next_ms <= 60_000


@on_loop
async def test_a_sleep_tells_how_long_it_still_lasts(tmp_path: Path) -> None:
    fresh()
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("OpsWorker")
        caller.send("OpsWorker", "nap")
        step = await step_of(node)

    assert step.kind == "sleep"
    assert 3_590_000 < step.next_ms <= 3_600_001


@on_loop
async def test_a_call_to_another_object_names_it(tmp_path: Path) -> None:
    fresh()
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("OpsWorker")
        await caller.create("OpsWorker", "y")
        asked = caller.send("OpsWorker", "ask", "y")
        step = await step_of(node)
        while not (held := node.operations.inspect(ObjectKey("OpsWorker", "y"))).running:
            await settled()
        GATES["stay"].set()
        await asked

    assert (step.type, step.id, step.attempt, step.failure) == ("OpsWorker", "y", 1, "")
    assert list(held.running[0].chain) == ["OpsWorker/x.ask"]


@on_loop
async def test_a_call_that_leaves_says_why_it_has_not_arrived(tmp_path: Path) -> None:
    fresh()
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("OpsWorker")
        await caller.create("OpsWorker", "y")
        await caller.call("OpsWorker", "leave", "y")
        page = await calls_when(node, 2)
        GATES["stay"].set()
        await calls_when(node, 0)

    runs, leaves = page.calls
    assert (runs.state, runs.id, leaves.state, leaves.id) == ("running", "y", "leaving", "y")
    assert runs.call_id == leaves.call_id
    assert leaves.reason == "it was sent, and its target has not answered yet"


@on_loop
async def test_the_type_and_the_place_of_an_object_are_told(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, _):
        found = node.operations.inspect(X)
        unknown = node.operations.inspect(ObjectKey("OpsWroker", "x"))

    assert (found.node, found.partition) == ("n1", partition_of(X, 4))
    assert (found.reachable, found.type_known, found.exists) == (True, True, False)
    assert not unknown.type_known


@on_loop
async def test_a_node_tells_nothing_of_objects_that_are_not_its_own(tmp_path: Path) -> None:
    made = settings(tmp_path, nodes={"n1": "", "n2": ""}, partition_count=4)
    async with running(made) as (node, _):
        theirs = next(
            key
            for key in (ObjectKey("OpsWorker", str(number)) for number in range(100))
            if partition_of(key, 4) not in node.owned
        )
        with pytest.raises(NotOwner):
            node.operations.inspect(theirs)
        with pytest.raises(NotOwner):
            await node.operations.decide(theirs, DROP_TIMER, "bill")


@on_loop
async def test_a_partition_that_was_stopped_is_named(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, _):
        number = partition_of(X, 4)
        host = node._hosts.find(number)
        node._hosts.stop(host, ValueError("a row is torn"))
        found = node.operations.inspect(X)
        page = node.operations.list_calls(cluster_pb2.ListCallsRequest())

    assert (found.reachable, found.stopped) == (True, "a row is torn")
    assert list(page.missing) == [f"partition {number} of n1 (damaged)"]


async def park_a_timer(caller: Caller, node: Node) -> cluster_pb2.OpenTimer:
    FAILS.append("no paper")
    await caller.create("OpsWorker")
    await caller.call("OpsWorker", "bill_at_once")
    return await parked_timer(node)


ONE_ATTEMPT = Limits(timer_attempts_max=1)


@on_loop
async def test_a_parked_timer_fires_when_it_is_retried(tmp_path: Path) -> None:
    fresh()
    async with running(settings(tmp_path, limits=ONE_ATTEMPT)) as (node, caller):
        timer = await park_a_timer(caller, node)
        assert (timer.type, timer.id, timer.name, timer.attempts) == (*X, "bill", 1)
        [shown] = node.operations.inspect(X).timers
        assert shown.parked

        assert not await node.operations.decide(X, RETRY_TIMER, "other")
        FAILS.clear()
        assert await node.operations.decide(X, RETRY_TIMER, "bill")
        while (await caller.state("OpsWorker"))["billed"] == 0:
            await settled()
        assert not await node.operations.decide(X, RETRY_TIMER, "bill")
        assert not node.operations.inspect(X).timers


@on_loop
async def test_a_call_that_was_sent_and_is_parked_is_retried_like_a_timer(tmp_path: Path) -> None:
    fresh()
    FAILS.append("no paper")
    async with running(settings(tmp_path, limits=ONE_ATTEMPT)) as (node, caller):
        await caller.create("OpsWorker")
        await caller.create("OpsWorker", "y")
        await caller.call("OpsWorker", "bill_other", "y")
        timer = await parked_timer(node)
        FAILS.clear()
        assert timer.name.startswith("send:")
        page = node.operations.list_calls(cluster_pb2.ListCallsRequest(parked_only=True))
        asked = cluster_pb2.ListCallsRequest(parked_only=True, after=page.next)
        assert not node.operations.list_calls(asked).timers
        y = ObjectKey("OpsWorker", "y")
        assert await node.operations.decide(y, RETRY_TIMER, timer.name)
        while (await caller.state("OpsWorker", "y"))["billed"] == 0:
            await settled()


@on_loop
async def test_a_call_that_was_sent_and_runs_is_named_by_the_call_that_sent_it(
    tmp_path: Path,
) -> None:
    fresh()
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("OpsWorker")
        await caller.create("OpsWorker", "y")
        await caller.call("OpsWorker", "have_stay", "y")
        while not (held := node.operations.inspect(ObjectKey("OpsWorker", "y"))).running:
            await settled()
        GATES["stay"].set()

    assert re.fullmatch(r"sent as call [0-9a-f]{32}:\d+:[1-9]\d*", call_name(held.running[0]))


@on_loop
async def test_a_parked_timer_is_dropped_for_good(tmp_path: Path) -> None:
    fresh()
    async with running(settings(tmp_path, limits=ONE_ATTEMPT), crash=True) as (node, caller):
        await park_a_timer(caller, node)
        assert await node.operations.decide(X, DROP_TIMER, "bill")
    async with running(settings(tmp_path, limits=ONE_ATTEMPT)) as (node, _):
        assert not node.operations.inspect(X).timers
        page = node.operations.list_calls(cluster_pb2.ListCallsRequest(parked_only=True))
        assert not page.timers


@on_loop
async def test_pages_go_on_behind_the_last_place(tmp_path: Path) -> None:
    fresh()
    async with running(settings(tmp_path)) as (node, caller):
        ids = [f"w{number}" for number in range(7)]
        for id in ids:
            await caller.create("OpsWorker", id)
        sent = [caller.send("OpsWorker", "stay", id=id) for id in ids]
        await calls_when(node, 7)
        seen, after, more = [], "", True
        while more:
            asked = cluster_pb2.ListCallsRequest(limit=3, after=after)
            page = node.operations.list_calls(asked)
            seen += [call.id for call in page.calls]
            after, more = page.next, page.more
        GATES["stay"].set()
        await asyncio.gather(*sent)

    assert seen == ids
