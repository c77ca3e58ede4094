"""Calls that end their process: given up after three times, and everything else goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.bombs import Bomb, Bystander, Waiter
from harness.processes import READY_S, Cluster, running_cluster

import perdure
from perdure import CallRejected, OutcomeUnknown, Parked, Poisoned, durable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

BYSTANDERS = 24
PATIENT_S = READY_S


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    app = Path(__file__).parents[1] / "harness" / "bombs.py"
    with running_cluster(app, tmp_path_factory.mktemp("poison") / "data") as running:
        yield running


class Load:
    """Calls of objects that do nothing wrong."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self._stopped = False

    async def call(self, bystander: Bystander) -> None:
        while not self._stopped:
            try:
                await bystander.add()
                self.done += 1
            except (CallRejected, OutcomeUnknown):
                self.failed += 1

    @asynccontextmanager
    async def running(self) -> Any:
        bystanders = [await Bystander.get_or_create(f"b{n}") for n in range(BYSTANDERS)]
        async with asyncio.TaskGroup() as group:
            for bystander in bystanders:
                group.create_task(self.call(bystander))
            try:
                yield
            finally:
                self._stopped = True
        assert self.done > BYSTANDERS
        assert self.done >= 0.95 * (self.done + self.failed)


def on_cluster(program: Any, cluster: Cluster, *args: Any) -> None:
    async def connected() -> None:
        await perdure.connect(cluster.address)
        await program(cluster, *args)

    asyncio.run(connected())


@pytest.mark.parametrize("how", ["exit", "segfault", "abort"])
def test_a_call_that_ends_its_process_is_given_up_after_three_times(
    cluster: Cluster, how: str
) -> None:
    on_cluster(give_up, cluster, how, "explode")


@pytest.mark.parametrize("method", ["explode_later", "explode_in_step"])
def test_so_is_one_that_has_waited_or_does_it_in_a_step(cluster: Cluster, method: str) -> None:
    on_cluster(give_up, cluster, "exit", method)


async def give_up(cluster: Cluster, how: str, method: str) -> None:
    before = cluster.deaths()
    bomb = durable.options(await Bomb.get_or_create(f"{method}-{how}"), timeout=PATIENT_S)
    async with Load().running():
        with pytest.raises(Poisoned, match="3 times"):
            await getattr(bomb, method)(how)
        # It has changed nothing, and its object is free.
        assert await bomb.touch() == 1
    await asyncio.to_thread(cluster.wait_until_served)
    assert cluster.deaths() - before == 3


def test_one_with_a_finished_step_keeps_its_object(cluster: Cluster) -> None:
    on_cluster(park, cluster)


async def park(cluster: Cluster) -> None:
    before = cluster.deaths()
    bomb = durable.options(await Bomb.get_or_create("parked"), timeout=PATIENT_S)
    async with Load().running():
        with pytest.raises(Poisoned, match="3 times"):
            await bomb.explode_after_step("exit")
        with pytest.raises(Parked, match="3 times"):
            await bomb.touch()
    await asyncio.to_thread(cluster.restart_after_kill)
    with pytest.raises(Parked, match="3 times"):
        await bomb.touch()
    assert await durable.refresh(bomb) is not None
    assert bomb.attempts == [1]
    assert cluster.deaths() - before == 3


def test_a_timer_whose_method_ends_its_process_is_parked(cluster: Cluster) -> None:
    on_cluster(arm, cluster)


async def arm(cluster: Cluster) -> None:
    before = cluster.deaths()
    bomb = durable.options(await Bomb.get_or_create("armed"), timeout=PATIENT_S)
    async with Load().running():
        await bomb.arm("exit")
        while cluster.deaths() - before < 3:
            await bomb.touch()
        await asyncio.to_thread(cluster.wait_until_served)
    # Not even after another start.
    await asyncio.to_thread(cluster.restart_after_kill)
    assert await bomb.touch() > 0
    assert cluster.deaths() - before == 3


def test_a_call_that_merely_waits_lives_through_three_kills_of_its_node(
    cluster: Cluster, tmp_path: Path
) -> None:
    on_cluster(wait, cluster, tmp_path)


async def wait(cluster: Cluster, folder: Path) -> None:
    pipes = [str(folder / name) for name in ("plain", "durable", "end of plain", "end of durable")]
    for pipe in pipes:
        os.mkfifo(pipe)
    ends = [os.open(pipe, os.O_RDWR) for pipe in pipes[:2]]
    plain, other = [
        durable.options(await Waiter.get_or_create(id), timeout=PATIENT_S)
        for id in ("plain", "durable")
    ]
    calls = [
        asyncio.ensure_future(plain.wait(pipes[0], pipes[2])),
        asyncio.ensure_future(other.wait_after_step(pipes[1], pipes[3])),
    ]
    for _ in range(3):
        for end in ends:
            assert await asyncio.to_thread(os.read, end, 1) == b"x"
        await asyncio.to_thread(cluster.kill, "perdure_node")
    for end in ends:
        assert await asyncio.to_thread(os.read, end, 1) == b"x"

    ends += [os.open(pipe, os.O_RDWR) for pipe in pipes[2:]]
    attempts = await asyncio.gather(*calls)

    # Of a plain call nothing is known before its end; of the other, that it had begun.
    assert attempts == [1, 2]
    for end in ends:
        os.close(end)
