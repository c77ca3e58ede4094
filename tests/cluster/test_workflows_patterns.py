"""Counters and orders as workflows, with everything killed between any two lines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.flow_steps import flow_parent
from harness.flows import flow_counter, fresh
from harness.processes import Cluster, running_cluster

import perdure
from perdure import get_run, resume_hook, start
from perdure.runtime import current_client

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_200)]

APP = Path(__file__).parents[1] / "harness" / "flow_app.py"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(APP, tmp_path / "data") as running:
        yield running


def test_a_counter_goes_on_when_everything_is_killed_between_two_lines(cluster: Cluster) -> None:
    async def program() -> None:
        await perdure.connect(cluster.address)

        async def line(awaitable: Any) -> Any:
            result = await awaitable
            await asyncio.to_thread(cluster.restart_after_kill)
            return result

        run = await line(start(flow_counter, id=fresh("counter")))
        token = f"counter:{run.id}"
        assert await line(resume_hook(token, {"type": "increment"})) == {"count": 1}
        assert await line(resume_hook(token, {"type": "increment", "amount": 4})) == {"count": 5}
        # Sent before the kill, answered after it.
        late = asyncio.create_task(resume_hook(token, {"type": "decrement"}, timeout=None))
        await line(asyncio.sleep(0))
        assert await late == {"count": 4}
        assert (await get_run(run.id).status()).status == "running"
        assert await line(run.cancel()) is True
        assert (await run.status()).status == "cancelled"
        await current_client().close()

    asyncio.run(program())


def test_orders_over_objects_end_although_everything_is_killed_meanwhile(
    cluster: Cluster,
) -> None:
    async def program() -> None:
        await perdure.connect(cluster.address)
        tallies = [fresh("killed") for _ in range(20)]

        async def order(tally: str) -> Any:
            # A cluster that starts on a busy machine takes longer than calls wait by themselves.
            return await (await start(flow_parent, tally, timeout=None)).result()

        runs = [asyncio.ensure_future(order(tally)) for tally in tallies]
        await asyncio.sleep(0)
        for _ in range(2):
            await asyncio.to_thread(cluster.restart_after_kill)
        # Each object was called once: its count is 1.
        assert await asyncio.gather(*runs) == [[1, 0, 2, 4]] * len(tallies)
        await current_client().close()

    asyncio.run(program())
