"""A cluster of this machine for the other scripts: started, waited for, and ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from perdure.wire.v1 import cluster_pb2, cluster_pb2_grpc

READY_S = 60.0
STOP_S = 30.0


@dataclass(frozen=True)
class LocalCluster:
    """A running cluster."""

    address: str
    """Of the router."""
    supervisor: subprocess.Popen[bytes]

    def describe(self) -> cluster_pb2.Description:
        """Ask the router what there is."""
        with grpc.insecure_channel(self.address) as channel:
            stub = cluster_pb2_grpc.ClusterStub(channel)
            return stub.Describe(cluster_pb2.DescribeRequest(), timeout=5.0)

    def node_processes(self) -> list[int]:
        """Find the nodes among the supervisor's children."""
        pid = self.supervisor.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [child for child in map(int, children) if _is_node(child)]


@contextmanager
def local_cluster(app: Path, nodes: int) -> Iterator[LocalCluster]:
    """Start a cluster with data of its own, and end and forget it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="perdure-") as data:
        command = [sys.executable, "-m", "perdure.cli.main", "up", str(app)]
        command += ["--nodes", str(nodes), "--port", str(port), "--data", data]
        with subprocess.Popen(command) as supervisor:
            cluster = LocalCluster(f"127.0.0.1:{port}", supervisor)
            try:
                _wait_until_served(cluster)
                yield cluster
            finally:
                supervisor.terminate()
                try:
                    supervisor.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    # Its children die with it.
                    supervisor.kill()


def _wait_until_served(cluster: LocalCluster) -> None:
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up:
        if cluster.supervisor.poll() is not None:
            raise SystemExit(f"perdure up has ended with {cluster.supervisor.returncode}")
        try:
            if _is_served(cluster.describe()):
                return
        except grpc.RpcError:
            pass  # The router does not listen yet.
        time.sleep(0.1)
    raise SystemExit(f"the cluster was not ready after {READY_S:.0f} s")


def _is_served(description: cluster_pb2.Description) -> bool:
    served = {
        partition.partition
        for node in description.nodes
        if node.up
        for partition in node.partitions
        if partition.state == "serving"
    }
    return len(served) == description.partition_count > 0


def _is_node(pid: int) -> bool:
    return b"perdure_node" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
