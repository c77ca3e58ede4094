"""Play the flights on a cluster of this machine, with kill -9 of a node in the middle.

Exits 0 only when every object has turned out equal to what pandas computes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

import flights
import uvloop
from local_cluster import LocalCluster, local_cluster

import perdure

APP = Path(__file__).resolve().parent.parent / "examples" / "flights.py"
NODES = 3
QUICK_FLIGHTS = 20_000


class Killer:
    """Kills one node, once, when so many calls have been answered."""

    def __init__(self, cluster: LocalCluster, after_calls: int) -> None:
        self._cluster = cluster
        self._after_calls = after_calls
        self.killed: int | None = None

    def on_answers(self, count: int) -> None:
        """Take note that so many calls have been answered by now."""
        if count >= self._after_calls and self.killed is None:
            self.killed = self._cluster.node_processes()[0]
            os.kill(self.killed, signal.SIGKILL)
            print(f"kill -9 {self.killed}: a node, after {count:,} calls")


async def play(cluster: LocalCluster, limit: int | None) -> None:
    """Play the flights, and compare."""
    total = 2 * sum(1 for _ in flights.read_flights(limit))
    killer = Killer(cluster, total // 2)
    await perdure.connect(cluster.address)
    await flights.run(limit, killer.on_answers)
    if killer.killed is None:
        raise SystemExit("no node was killed: nothing has been shown")


def print_partitions(cluster: LocalCluster) -> None:
    """Print how the partitions lie on the nodes."""
    for node in cluster.describe().nodes:
        epochs = sorted({partition.epoch for partition in node.partitions})
        print(f"node {node.name}: {len(node.partitions)} partitions, epoch {epochs}")


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FLIGHTS:,} flights only")
    limit = QUICK_FLIGHTS if parser.parse_args().quick else None
    with local_cluster(APP, NODES) as cluster:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(play(cluster, limit))
        print_partitions(cluster)
    print("equal")


if __name__ == "__main__":
    main()
