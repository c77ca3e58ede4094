"""Every promise about workflows on three nodes: undisturbed, and while nodes are killed -9.

The behaviours run side by side, so that a kill finds each of them somewhere else.
"""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.flow_rows import FLOWS
from harness.flows import Flow
from harness.processes import Cluster, running_cluster

import perdure
from perdure.runtime import current_client

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_200)]

FORMS = ("three nodes", "code dropped at every wait", "nodes killed at random points")

APP = Path(__file__).parents[1] / "harness" / "flow_app.py"

KILLS_MIN = 10

Outcomes = dict[str, str]


async def run_all(address: str) -> Outcomes:
    await perdure.connect(address)

    async def run(flow: Flow) -> str:
        try:
            await flow()
        except Exception:  # Whatever it is, it is this behaviour's outcome.
            return traceback.format_exc()
        return ""

    try:
        outcomes = await asyncio.gather(*map(run, FLOWS))
    finally:
        await current_client().close()
    return dict(zip((flow.__name__ for flow in FLOWS), outcomes, strict=True))


async def run_all_while_nodes_die(cluster: Cluster, seed: int) -> tuple[Outcomes, int]:
    """Run all again and again, until enough nodes have died in between."""
    chance = random.Random(seed)
    running = True
    kills = 0

    async def kill() -> None:
        nonlocal kills
        while running:
            kills += len(cluster.kill("perdure_node", only=chance.randrange(3)))
            # As fast as nodes come back: a cluster without nodes shows nothing.
            began_s = time.monotonic()
            await asyncio.to_thread(cluster.wait_until_served)
            # Where they come back slowly, calls take longer too.
            await asyncio.sleep(chance.uniform(0.0, max(1.0, time.monotonic() - began_s)))

    killer = asyncio.create_task(kill())
    found: Outcomes = {}
    try:
        while kills < KILLS_MIN:
            for name, outcome in (await run_all(cluster.address)).items():
                found[name] = found.get(name) or outcome
    finally:
        running = False
        await killer
    return found, kills


@pytest.fixture(scope="module", params=FORMS)
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    data = tmp_path_factory.mktemp("forms") / "data"
    settings = {}
    if request.param == "code dropped at every wait":
        settings["PERDURE_LIMITS_RUNS_IN_MEMORY_MAX"] = "0"
    with running_cluster(APP, data, settings=settings) as cluster:
        if request.param == "nodes killed at random points":
            found, kills = asyncio.run(run_all_while_nodes_die(cluster, seed=5))
            assert kills >= KILLS_MIN
        else:
            found = asyncio.run(run_all(cluster.address))
        yield found


@pytest.mark.parametrize("name", [flow.__name__ for flow in FLOWS])
def test_it_comes_out_the_same(outcomes: Outcomes, name: str) -> None:
    if outcomes[name]:
        pytest.fail(outcomes[name], pytrace=False)
