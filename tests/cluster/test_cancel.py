"""Calls that are cancelled or killed while nodes die: they end once, and nothing of them stays."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.commands import printed
from harness.processes import READY_S, Cluster, running_cluster
from harness.sleepers import Dozer

import perdure
from perdure import Call, CallCancelled, durable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_200)]

APP = Path(__file__).parents[1] / "harness" / "sleepers.py"
WAYS = ("in a nested call", "in a sleep", "in a step", "by itself")
DEPTH = 10
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(APP, tmp_path_factory.mktemp("cancel") / "data") as running:
        yield running


async def begin(how: str) -> tuple[Dozer, Call[str]]:
    """Call a method, and wait until it waits."""
    sleeper = await Dozer.get_or_create(f"sleeper-{next(NUMBERS)}")
    below = await Dozer.get_or_create(f"{sleeper.object_id}-below")
    call = durable.options(sleeper, timeout=None).work(how)  # type: ignore[call-arg, arg-type]
    waits = below if how == "in a nested call" else sleeper
    while not waits.begun:
        await durable.refresh(waits)
    return sleeper, call


async def check_ended(sleeper: Dozer, call: Call[str]) -> None:
    with pytest.raises(CallCancelled):
        await asyncio.wait_for(call, READY_S)
    assert await durable.options(sleeper, timeout=READY_S).answer() == 1
    assert (sleeper.begun, sleeper.cleaned) == (1, 1)


@pytest.mark.parametrize("killed", ["before", "after", "before and after", "never"])
def test_a_cancelled_call_cleans_up_once_whenever_its_node_dies(
    cluster: Cluster, killed: str
) -> None:
    async def play() -> None:
        await perdure.connect(cluster.address)
        calls = [await begin(how) for how in WAYS]
        if "before" in killed:
            await kill_nodes(cluster)
        for _, call in calls:
            assert await durable.cancel(call)
        if "after" in killed:
            await kill_nodes(cluster)
        for sleeper, call in calls:
            await check_ended(sleeper, call)
            assert not await durable.cancel(call)

    asyncio.run(play())


def test_an_object_cancels_a_call_of_another_one_although_nodes_die(cluster: Cluster) -> None:
    async def play() -> None:
        await perdure.connect(cluster.address)
        helper = await Dozer.get_or_create(f"helper-{next(NUMBERS)}")
        for how in WAYS:
            sleeper, call = await begin(how)
            await kill_nodes(cluster)
            assert call.id is not None
            assert await helper.end(sleeper.object_id, call.id)
            await check_ended(sleeper, call)

    asyncio.run(play())


@pytest.mark.parametrize("node", [None, 0, 1, 2])
def test_every_object_of_a_killed_tree_answers_although_a_node_dies(
    cluster: Cluster, node: int | None
) -> None:
    async def play() -> None:
        await perdure.connect(cluster.address)
        name = f"tree-{next(NUMBERS)}"
        objects = [await Dozer.get_or_create(f"{name}-{depth}") for depth in range(DEPTH)]
        call = durable.options(objects[-1], timeout=None).dive(name, DEPTH - 1)
        while not objects[0].begun:
            await durable.refresh(objects[0])
        assert len({durable.partition(o) for o in objects}) > 1
        cancelling = asyncio.create_task(durable.cancel(call, kill=True))
        if node is not None:
            await kill_nodes(cluster, only=node)
        # A node that dies may have ended the call, and not have said so.
        assert await cancelling or node is not None
        with pytest.raises(CallCancelled):
            await call
        # The node that was killed is there again.
        await asyncio.to_thread(cluster.wait_until_served)
        patient = [durable.options(o, timeout=READY_S) for o in objects]
        assert await asyncio.gather(*(o.answer() for o in patient)) == [1] * DEPTH
        assert not [id for id in await in_progress(cluster) if id.startswith(f"{name}-")]

    asyncio.run(play())


async def in_progress(cluster: Cluster) -> list[str]:
    """Return the ids of objects that a call holds or waits for."""
    words = ("calls", "--type", "Dozer", "--older", "0", "--json")
    page = json.loads(await asyncio.to_thread(printed, *words, address=cluster.address))
    return [call["id"] for call in page["calls"]]


async def kill_nodes(cluster: Cluster, only: int | None = None) -> None:
    assert await asyncio.to_thread(cluster.kill, "perdure_node", only=only)
