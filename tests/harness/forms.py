"""Runs every behaviour in one form, and says how each went.

As a program it runs them without a server: `python -m harness.forms` prints the outcomes as JSON.
"""

from __future__ import annotations

import asyncio
import json
import traceback

import harness.gate_behaviours
import harness.stories  # noqa: F401  (both add their behaviours to the others)
from harness.behaviours import BEHAVIOURS, Behaviour
from harness.processes import Cluster

import perdure

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


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run_all(None, None))[0]))
