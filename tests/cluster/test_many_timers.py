"""Timers by the hundred thousand that are not due: what they cost a node that starts, and later.

`PERDURE_PENDING_TIMERS=1000000` takes minutes, and shows the same with ten times as many.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from harness.busy import how_busy
from harness.processes import Cluster, rss_bytes, running_cluster
from harness.storm_app import StormBell

import perdure

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1_800)]

TIMERS = int(os.environ.get("PERDURE_PENDING_TIMERS", "100000"))
EACH = 500
AT_ONCE = 16
FAR_MS = 30 * 24 * 3_600_000
START_GROWTH_S_MAX = 30.0
"""The journal behind the last checkpoint is read, however many timers there are: at most 64 MB."""
RSS_GROWTH_BYTES_MAX = 256 * 1024 * 1024
LATE_MS_MAX = 1_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_timers_that_are_not_due_cost_hardly_any_memory_and_no_time_at_the_start(
    tmp_path: Path,
) -> None:
    app = Path(__file__).parents[1] / "harness" / "storm_app.py"
    with running_cluster(app, tmp_path / "data", nodes=1) as cluster:
        cluster.stop()
        empty_s = start(cluster)
        empty_bytes = rss(cluster)

        began = time.monotonic()
        asyncio.run(set_all(cluster))
        setting_s = time.monotonic() - began
        set_bytes = rss(cluster)

        cluster.kill_all()
        killed_s = start(cluster)
        cluster.stop()
        stopped_s = start(cluster)
        full_bytes = rss(cluster)
        with how_busy(tmp_path) as busy:
            late_ms = asyncio.run(fire_one(cluster))

        print(f"\n{TIMERS} timers were set in {setting_s:.1f} s")
        print(f"start: empty {empty_s:.1f} s, after kill -9 {killed_s:.1f} s", end=", ")
        print(f"after a stop {stopped_s:.1f} s")
        print(f"memory: empty {empty_bytes >> 20} MiB, when they were set {set_bytes >> 20} MiB")
        print(f"after a start {full_bytes >> 20} MiB; a new timer was {late_ms} ms late")
        assert stopped_s - empty_s < START_GROWTH_S_MAX
        assert full_bytes - empty_bytes < RSS_GROWTH_BYTES_MAX
        assert 0 <= late_ms < LATE_MS_MAX + busy.longest_ms


def start(cluster: Cluster) -> float:
    """Start the cluster; return after how many seconds all of it was served."""
    began = time.monotonic()
    cluster.start()
    return time.monotonic() - began


def rss(cluster: Cluster) -> int:
    (pid,) = cluster.pids("perdure_node")
    return rss_bytes(pid)


async def set_all(cluster: Cluster) -> None:
    await perdure.connect(cluster.address)
    few = asyncio.Semaphore(AT_ONCE)
    due_ms = now_ms() + FAR_MS

    async def set_some(k: int) -> None:
        async with few:
            bell = await StormBell.get_or_create(f"pending-{k}")
            numbers = range(k * EACH, (k + 1) * EACH)
            await bell.plan([(number, due_ms + number) for number in numbers], "nobody")

    await asyncio.gather(*(set_some(k) for k in range(TIMERS // EACH)))


async def fire_one(cluster: Cluster) -> int:
    """Set one more timer, and return how many milliseconds it was late."""
    await perdure.connect(cluster.address)
    bell = await StormBell.get_or_create("pending-0")
    await bell.plan([(1, now_ms() + 200)], "nobody")
    while not (fired := (await bell.read())[0]):
        pass
    return fired[0][1]
