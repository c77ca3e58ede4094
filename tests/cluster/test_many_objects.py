"""Far more objects than fit in memory: all values right, and the memory of the node bounded.

`PERDURE_MANY_OBJECTS=200000` takes minutes, and shows the same with twenty times as many.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterable
from itertools import islice
from pathlib import Path

import pytest
from harness.app import TestCounter
from harness.processes import Cluster, describe, rss_bytes, running_cluster

import perdure
from perdure import durable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

OBJECTS = int(os.environ.get("PERDURE_MANY_OBJECTS", "10000"))
ACTIVATIONS_MAX = 1_000
AT_ONCE = 500
RSS_GROWTH_BYTES_MAX = 192 * 1024 * 1024

APP = Path(__file__).parents[1] / "harness" / "app.py"


def test_many_objects_with_a_small_cache_keep_their_values(tmp_path: Path) -> None:
    settings = {"PERDURE_LIMITS_ACTIVATIONS_MAX": str(ACTIVATIONS_MAX)}
    with running_cluster(APP, tmp_path / "data", nodes=1, settings=settings) as cluster:
        (pid,) = cluster.pids("perdure_node")
        empty_bytes = rss_bytes(pid)

        asyncio.run(fill_and_check(cluster))

        grown_bytes = rss_bytes(pid) - empty_bytes
        print(f"{OBJECTS} objects: the node has grown by {grown_bytes / 1e6:.0f} MB")
        assert grown_bytes < RSS_GROWTH_BYTES_MAX
        assert describe(cluster.address).nodes[0].counters.resident <= 2 * ACTIVATIONS_MAX


async def fill_and_check(cluster: Cluster) -> None:
    await perdure.connect(cluster.address)

    async def create_and_add(number: int) -> None:
        counter = await TestCounter.get_or_create(f"many-{number:07}")
        await counter.add(number)

    await in_parts(map(create_and_add, range(OBJECTS)))
    # The second round finds every object out of memory, its first value on disk.
    await in_parts(durable.ref(TestCounter, f"many-{n:07}").add(1) for n in range(OBJECTS))

    handles = [handle async for handle in durable.list(TestCounter, prefix="many-")]
    assert [handle.object_id for handle in handles] == [f"many-{n:07}" for n in range(OBJECTS)]
    await in_parts(map(durable.refresh, handles))
    assert [handle.value for handle in handles] == [n + 1 for n in range(OBJECTS)]


async def in_parts(calls: Iterable[Awaitable[object]]) -> None:
    iterator = iter(calls)
    while part := list(islice(iterator, AT_ONCE)):
        await asyncio.gather(*part)
