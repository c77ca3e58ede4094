"""Every behaviour in three forms: embedded, on one node, and on three that are killed all the time.

In the third form a node keeps one activation in memory, and between any two calls everything
is killed with -9 and started again. The behaviours run side by side: one restart serves all
that wait for one.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from pathlib import Path

import harness.stories  # noqa: F401  (adds its behaviours to the others)
import pytest
from harness.behaviours import BEHAVIOURS, Behaviour
from harness.processes import Cluster, running_cluster

import perdure

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

FORMS = ("embedded", "one node", "three nodes, killed between calls")

APP = Path(__file__).parents[1] / "harness" / "app.py"

Outcomes = dict[str, str]
"""What went wrong, by behaviour: empty for nothing."""


class Restarts:
    """Lets all behaviours come to their next restart, then restarts once for all of them."""

    def __init__(self, cluster: Cluster | None, running: int) -> None:
        self._cluster = cluster
        self._running = running
        self._waiting: list[asyncio.Future[None]] = []
        self.count = 0

    async def wait(self) -> None:
        if self._cluster is None:
            return
        restarted = asyncio.get_running_loop().create_future()
        self._waiting.append(restarted)
        await self._restart_when_all_wait()
        await restarted

    async def leave(self) -> None:
        """Wait no longer for one behaviour, which has ended."""
        self._running -= 1
        await self._restart_when_all_wait()

    async def _restart_when_all_wait(self) -> None:
        if self._cluster is None or not self._waiting or len(self._waiting) < self._running:
            return
        waiting, self._waiting = self._waiting, []
        self.count += 1
        await asyncio.to_thread(self._cluster.restart_after_kill)
        for restarted in waiting:
            restarted.set_result(None)


async def run_all(address: str | None, cluster: Cluster | None) -> tuple[Outcomes, int]:
    if address is not None:
        await perdure.connect(address)
    restarts = Restarts(cluster, len(BEHAVIOURS))

    async def run(behaviour: Behaviour) -> str:
        try:
            await behaviour(restarts.wait)
        except Exception:  # Whatever it is, it is this behaviour's outcome.
            return traceback.format_exc()
        finally:
            await restarts.leave()
        return ""

    outcomes = await asyncio.gather(*map(run, BEHAVIOURS))
    return dict(zip(names(), outcomes, strict=True)), restarts.count


def names() -> list[str]:
    return [behaviour.__name__ for behaviour in BEHAVIOURS]


@pytest.fixture(scope="module", params=FORMS)
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    data = tmp_path_factory.mktemp("forms") / "data"
    if request.param == "embedded":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PERDURE_DATA", str(data))
            patch.delenv("PERDURE_ADDRESS", raising=False)
            yield asyncio.run(run_all(None, None))[0]
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
