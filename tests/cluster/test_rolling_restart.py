"""Servers that are told to end, one after the other, while callers are at work."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections import Counter
from pathlib import Path

import pytest
from harness.processes import READY_S, Cluster, running_cluster

from perdure import codec
from perdure.client import Client
from perdure.frames import Kind
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey

pytestmark = pytest.mark.cluster

APP = Path(__file__).parents[1] / "harness" / "app.py"
CALLERS = 16


def end_politely(cluster: Cluster, module: str, index: int) -> None:
    """Send SIGTERM to one process, and return when another one serves in its place."""
    ending = os.pidfd_open(cluster.pids(module)[index])
    try:
        signal.pidfd_send_signal(ending, signal.SIGTERM)
        ended, _, _ = select.select([ending], [], [], READY_S)
    finally:
        os.close(ending)
    assert ended, cluster.output()
    cluster.wait_until_served()


async def count_while_restarting(cluster: Cluster) -> tuple[Counter[int], list[int]]:
    """Return how the calls ended, and how often each counter was raised."""
    client = Client(GrpcTransport(cluster.address))
    keys = [ObjectKey("TestCounter", f"rolling-{n}") for n in range(CALLERS)]
    arguments = codec.encode([[1], {}])
    codes: Counter[int] = Counter()
    restarted = asyncio.Event()

    async def caller(key: ObjectKey) -> int:
        await client.call(key, Kind.GET_OR_CREATE)
        raised = 0
        while not restarted.is_set():
            answer = await client.call(key, Kind.CALL, "add", arguments=arguments)
            codes[answer.code] += 1
            raised += 1
            assert codec.decode(answer.reply.payload) == raised
        return raised

    callers = [asyncio.ensure_future(caller(key)) for key in keys]
    for module, index in (("perdure_node", 0), ("perdure_router", 0), ("perdure_node", 1)):
        await asyncio.to_thread(end_politely, cluster, module, index)
    restarted.set()
    counts = list(await asyncio.gather(*callers))
    await client.close()
    return codes, counts


def test_callers_do_not_notice_that_servers_are_restarted_one_by_one(tmp_path: Path) -> None:
    with running_cluster(APP, tmp_path / "data", nodes=2) as cluster:
        codes, counts = asyncio.run(count_while_restarting(cluster))

        assert set(codes) == {0}
        assert min(counts) > 0
        assert cluster.stop() == 0
