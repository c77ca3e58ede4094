"""How long a node takes to start, and what it takes when nobody calls it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from findings import Findings, at_most
from node_calls import client_of, counter, folder, make, touch_all
from one_node import OneNode, imports_s, one_node

if TYPE_CHECKING:
    from measure_node import Scale

START_S = 0.5
IDLE_MB = 150.0
SETTLE_S = 5.0
"""In this time a node has written what it had to its stores."""


def start(scale: Scale, found: Findings) -> None:
    """Start with an empty folder, again and again; and start again with what that has left."""
    imports_s()  # Whatever was not compiled before is now.
    imports: list[float] = []
    ready: list[float] = []
    cpu: list[float] = []
    answered: list[float] = []
    again: list[float] = []
    for _ in range(scale.starts):
        imports.append(imports_s())
        with folder() as data:
            with one_node(data, partitions=scale.partitions) as node:
                ready.append(node.ready_s)
                cpu.append(sum(node.process.cpu_times()[:2]))
                answered.append(asyncio.run(_answered_s(node)))
                asyncio.run(touch_all(node.address, scale.partitions))
            with one_node(data, partitions=scale.partitions) as node:
                again.append(node.ready_s)
    found.add("ready_s", "start with an empty folder: it serves", ready, "s", at_most(START_S))
    found.add("cpu_s", "... CPU time until then", cpu, "s")
    found.add("answered_s", "... the first call is answered", answered, "s")
    found.add("imports_s", "a Python that imports a node and ends", imports, "s")
    found.add("again_s", f"start with {scale.partitions} stores that hold little", again, "s")


async def _answered_s(node: OneNode) -> float:
    async with client_of(node.address) as client:
        await make(client, counter("first"))
        return time.perf_counter() - node.began


def idle(scale: Scale, found: Findings) -> None:
    """See how much memory a node takes of which all partitions were called once."""
    rss_mb: list[float] = []
    for _ in range(scale.starts):
        with folder() as data, one_node(data, partitions=scale.partitions) as node:
            asyncio.run(touch_all(node.address, scale.partitions))
            time.sleep(scale.settle_s)
            rss_mb.append(node.rss_bytes / 1e6)
    text = f"an idle node whose {scale.partitions} partitions were called"
    found.add("rss_mb", text, rss_mb, "MB", at_most(IDLE_MB))
