"""Every behaviour in three forms: embedded, on one node, and on three that are killed all the time.

In the third form a node keeps one activation in memory, and between any two calls everything
is killed with -9 and started again. The behaviours run side by side: one restart serves all
that wait for one.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.forms import Outcomes, names, run_all
from harness.processes import running_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_200)]

FORMS = ("embedded", "one node", "three nodes, killed between calls")

APP = Path(__file__).parents[1] / "harness" / "app.py"


def run_without_a_server(data: Path) -> Outcomes:
    # In a process of its own: this one may have been connected to a cluster by other tests.
    environment = {**os.environ, "PERDURE_DATA": str(data), "PERDURE_ADDRESS": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "harness.forms"]
    ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    found: Outcomes = json.loads(ran.stdout)
    return found


@pytest.fixture(scope="module", params=FORMS)
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    data = tmp_path_factory.mktemp("forms") / "data"
    if request.param == "embedded":
        yield run_without_a_server(data)
    elif request.param == "one node":
        with running_cluster(APP, data, nodes=1) as cluster:
            (address,) = cluster.node_addresses().values()
            yield asyncio.run(run_all(address, None))[0]
    else:
        settings = {"PERDURE_LIMITS_ACTIVATIONS_MAX": "1"}
        with running_cluster(APP, data, settings=settings) as cluster:
            found, restart_count = asyncio.run(run_all(cluster.address, cluster))
            assert restart_count >= 3
            yield found


@pytest.mark.parametrize("name", names())
def test_behaviour(outcomes: Outcomes, name: str) -> None:
    if outcomes[name]:
        pytest.fail(outcomes[name], pytrace=False)
