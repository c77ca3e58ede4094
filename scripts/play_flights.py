"""Play the flights on a cluster of this machine, with kill -9 of a node in the middle.

Exits 0 only when every object has turned out equal to what pandas computes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flights
import grpc

import perdure
from perdure.wire.v1 import cluster_pb2, cluster_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent
NODES = 3
QUICK_FLIGHTS = 20_000
READY_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def describe(address: str) -> cluster_pb2.Description:
    with grpc.insecure_channel(address) as channel:
        stub = cluster_pb2_grpc.ClusterStub(channel)
        return stub.Describe(cluster_pb2.DescribeRequest(), timeout=5.0)


def is_served(description: cluster_pb2.Description) -> bool:
    served = {
        partition.partition
        for node in description.nodes
        if node.up
        for partition in node.partitions
        if partition.state == "serving"
    }
    return len(served) == description.partition_count > 0


def wait_until_served(address: str, supervisor: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up:
        if supervisor.poll() is not None:
            raise SystemExit(f"perdure up has ended with {supervisor.returncode}")
        try:
            if is_served(describe(address)):
                return
        except grpc.RpcError:
            pass  # The router does not listen yet.
        time.sleep(0.1)
    raise SystemExit(f"the cluster was not ready after {READY_S:.0f} s")


def node_processes(supervisor_pid: int) -> list[int]:
    """Find the nodes among a supervisor's children."""
    children = Path(f"/proc/{supervisor_pid}/task/{supervisor_pid}/children").read_text().split()
    return [pid for pid in map(int, children) if is_node(pid)]


def is_node(pid: int) -> bool:
    return b"perdure_node" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


class Killer:
    """Kills one node, once, when so many calls have been answered."""

    def __init__(self, supervisor_pid: int, after_calls: int) -> None:
        self._supervisor_pid = supervisor_pid
        self._after_calls = after_calls
        self.killed: int | None = None

    def on_answers(self, count: int) -> None:
        if count >= self._after_calls and self.killed is None:
            self.killed = node_processes(self._supervisor_pid)[0]
            os.kill(self.killed, signal.SIGKILL)
            print(f"kill -9 {self.killed}: a node, after {count:,} calls")


def print_partitions(address: str) -> None:
    for node in describe(address).nodes:
        epochs = sorted({partition.epoch for partition in node.partitions})
        print(f"{node.name}: {len(node.partitions)} partitions, epoch {epochs}")


async def play(address: str, supervisor_pid: int, limit: int | None) -> None:
    total = 2 * sum(1 for _ in flights.read_flights(limit))
    await perdure.connect(address)
    killer = Killer(supervisor_pid, total // 2)
    await flights.run(limit, killer.on_answers)
    if killer.killed is None:
        raise SystemExit("no node was killed: nothing has been shown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FLIGHTS:,} flights only")
    limit = QUICK_FLIGHTS if parser.parse_args().quick else None

    port = free_port()
    address = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="perdure-flights-") as data:
        command = [sys.executable, "-m", "perdure.cli.main", "up", "examples/flights.py"]
        command += ["--nodes", str(NODES), "--port", str(port), "--data", data]
        with subprocess.Popen(command, cwd=ROOT) as supervisor:
            try:
                wait_until_served(address, supervisor)
                asyncio.run(play(address, supervisor.pid, limit))
                print_partitions(address)
            finally:
                supervisor.send_signal(signal.SIGTERM)
    print("equal")


if __name__ == "__main__":
    main()
