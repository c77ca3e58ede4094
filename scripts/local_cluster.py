"""A cluster of this machine for the other scripts: started, waited for, and ended."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from processes import free_port, started

from perdure.wire.v1 import cluster_pb2, cluster_pb2_grpc

READY_S = 60.0


@dataclass(frozen=True)
class LocalCluster:
    """A running cluster."""

    address: str
    """Of the router."""
    supervisor: subprocess.Popen[str]
    data: Path
    """Where the nodes have their folders."""

    def describe(self) -> cluster_pb2.Description:
        """Ask the router what there is."""
        with grpc.insecure_channel(self.address) as channel:
            stub = cluster_pb2_grpc.ClusterStub(channel)
            return stub.Describe(cluster_pb2.DescribeRequest(), timeout=5.0)

    def node_processes(self) -> list[int]:
        """Find the nodes among the supervisor's children."""
        return self._children("perdure_node")

    def router_processes(self) -> list[int]:
        """Find the router among the supervisor's children."""
        return self._children("perdure_router")

    def _children(self, module: str) -> list[int]:
        pid = self.supervisor.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if module in _arguments(child)]


@contextmanager
def local_cluster(
    app: Path | str,
    nodes: int,
    *,
    arguments: Sequence[str] = (),
    data: Path | None = None,
    quiet: bool = False,
) -> Iterator[LocalCluster]:
    """Start a cluster, and end it afterwards.

    Args:
        app: A file, or the name of a module.
        nodes: How many.
        arguments: More ones for `perdure up`.
        data: A folder that stays; without it the cluster has one of its own, which is forgotten.
        quiet: What `perdure up` says to people on stdout is dropped.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="perdure-") as temporary:
        directory = data or Path(temporary)
        command = [sys.executable, "-m", "perdure.cli.main", "up", str(app)]
        command += ["--nodes", str(nodes), "--port", str(port)]
        command += ["--data", str(directory), *arguments]
        with started(command, stdout=subprocess.DEVNULL if quiet else None) as supervisor:
            cluster = LocalCluster(f"127.0.0.1:{port}", supervisor, directory)
            _wait_until_served(cluster)
            yield cluster


def _arguments(pid: str) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


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
