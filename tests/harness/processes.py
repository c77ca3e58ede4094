"""Processes of Perdure on this machine: started, asked, killed with -9 and started again."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc

from perdure.ids import ObjectKey, partition_of
from perdure.wire.v1 import cluster_pb2, cluster_pb2_grpc

READY_S = 300.0
"""Nothing that works takes so long, on a machine however slow and busy."""

SETTINGS = {"PERDURE_RESTART_WAIT_MAX": "0.2"}
"""Tests kill on purpose what works, again and again: there is nothing to wait for."""


def free_port() -> int:
    """Return a port that nobody listens on, and that no one else is given by chance.

    It is kept until this process ends: a server may die and come back to it. Whoever is told it
    can listen there, because servers reuse addresses and this socket does not listen.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    port = int(keeper.getsockname()[1])
    keeper.detach()
    return port


def wait_for_end(pids: list[int]) -> None:
    """Return once none of these processes lives; they need not be our children."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], READY_S)[0], f"process {pid} lives on"
        finally:
            os.close(descriptor)


def describe(address: str, timeout_s: float = READY_S) -> cluster_pb2.Description:
    """Ask a router or a node what it knows."""
    with grpc.insecure_channel(address) as channel:
        stub = cluster_pb2_grpc.ClusterStub(channel)
        return stub.Describe(cluster_pb2.DescribeRequest(), timeout=timeout_s, wait_for_ready=True)


def served_partitions(description: cluster_pb2.Description) -> dict[int, str]:
    """Return which node serves each partition that is served."""
    return {
        partition.partition: node.name
        for node in description.nodes
        if node.up
        for partition in node.partitions
        if partition.state == "serving"
    }


class Cluster:
    """A router and nodes as `perdure up` starts them, in a process group of their own."""

    def __init__(
        self, app: Path, data: Path, *, nodes: int = 3, settings: Mapping[str, str] | None = None
    ) -> None:
        self._app = app
        self._data = data
        self._nodes = nodes
        self._settings = {**SETTINGS, **(settings or {})}
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._described: cluster_pb2.Description | None = None
        self._log = data.with_name(data.name + ".log")
        self._log_start_bytes = 0
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start all, and return once every partition is served."""
        command = [sys.executable, "-m", "perdure.cli.main", "up", str(self._app)]
        command += ["--nodes", str(self._nodes), "--port", str(self.port)]
        command += ["--data", str(self._data)]
        with self._log.open("ab") as log:
            self._log_start_bytes = log.tell()
            self._supervisor = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._settings},
                start_new_session=True,
            )
        self.wait_until_served()
        # Until the supervisor has seen it too, it takes deaths for starts that fail.
        self._wait_until("the supervisor has seen nothing", self._has_said_so)

    def wait_until_served(self) -> None:
        """Return once every partition is served."""
        self._wait_until("not served", self._is_served)

    def wait_until_printed(self, text: str) -> None:
        """Return once a process has printed this: it comes by way of the supervisor."""
        self._wait_until(f"{text!r} is not printed", lambda: text in self.output())

    def _wait_until(self, what: str, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + READY_S
        while not condition():
            assert time.monotonic() < give_up, f"{what} after {READY_S} s:\n{self.output()}"
            self._check_that_it_lives()

    def _is_served(self) -> bool:
        try:
            description = describe(self.address, timeout_s=5.0)
        except grpc.RpcError:
            return False
        if not len(served_partitions(description)) == description.partition_count > 0:
            return False
        self._described = description
        return True

    def _check_that_it_lives(self) -> None:
        assert self._supervisor is not None
        try:
            self._supervisor.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"perdure up has ended:\n{self.output()}")

    def _has_said_so(self) -> bool:
        return b"PERDURE_ADDRESS=" in self._log.read_bytes()[self._log_start_bytes :]

    def output(self) -> str:
        """Return the end of what all the processes have printed."""
        return self._log.read_text(errors="replace")[-8_000:]

    def deaths(self) -> int:
        """Return how often a process has ended and was started again."""
        return self._log.read_bytes().count(b"; starts again")

    def node_addresses(self) -> dict[str, str]:
        """Return where each node listens."""
        return {node.name: node.address for node in self._placement().nodes}

    def owner_address(self, type: str, id: str) -> str:
        """Return where the node that owns an object listens."""
        description = self._placement()
        partition = partition_of(ObjectKey(type, id), description.partition_count)
        owner = served_partitions(description)[partition]
        return self.node_addresses()[owner]

    def other_address(self, type: str, id: str) -> str:
        """Return where some node that does not own an object listens."""
        owner = self.owner_address(type, id)
        return next(a for a in self.node_addresses().values() if a != owner)

    def _placement(self) -> cluster_pb2.Description:
        # It does not change while the same supervisor runs. Asked now, a busy node is left out.
        assert self._described is not None
        return self._described

    def pids(self, module: str) -> list[int]:
        """Return the living processes of one kind: `perdure_node` or `perdure_router`."""
        return [child for child in self._children() if module in _command(child)]

    def _children(self) -> list[int]:
        assert self._supervisor is not None
        pid = self._supervisor.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def kill(
        self, module: str, *, only: int | None = None, by: signal.Signals = signal.SIGKILL
    ) -> list[int]:
        """Signal all processes of one kind, or only one of them by its index.

        By SIGKILL they have ended when this returns, and are started again by themselves.
        """
        pids = self.pids(module)
        chosen = pids if only is None or not pids else [pids[only % len(pids)]]
        _signal(chosen, by)
        return chosen

    def pid_of_node(self, address: str) -> int:
        """Return the process of the node that listens there, once there is one."""
        found: list[int] = []

        def is_found() -> bool:
            found[:] = [pid for pid in self.pids("perdure_node") if _listens_at(pid, address)]
            return bool(found)

        self._wait_until(f"no node at {address}", is_found)
        (pid,) = found
        return pid

    def kill_node(self, address: str) -> None:
        """Kill -9 the node that listens there. It is started again by itself."""
        _signal([self.pid_of_node(address)])

    @contextmanager
    def without_node(self, address: str) -> Iterator[None]:
        """Kill -9 the node that listens there, and keep it dead for the time of the block."""
        with self._without([self.pid_of_node(address)]):
            yield

    @contextmanager
    def without_router(self) -> Iterator[None]:
        """Kill -9 the router, and keep it dead for the time of the block."""
        with self._without(self.pids("perdure_router")):
            yield

    @contextmanager
    def _without(self, pids: list[int]) -> Iterator[None]:
        assert self._supervisor is not None
        (pid,) = pids
        # A stopped supervisor starts nothing again.
        self._supervisor.send_signal(signal.SIGSTOP)
        try:
            _signal([pid])
            yield
        finally:
            self._supervisor.send_signal(signal.SIGCONT)
        self.wait_until_served()

    def kill_all(self) -> None:
        """Kill -9 the whole process group, and wait for its end."""
        assert self._supervisor is not None
        servers = self._children()
        os.killpg(self._supervisor.pid, signal.SIGKILL)
        self._supervisor.wait()
        # Until then they hold their ports and data.
        wait_for_end(servers)
        self._supervisor = None

    def restart_after_kill(self) -> None:
        """Kill -9 everything, and start it again on the same data and port."""
        self.kill_all()
        self.start()

    def stop(self) -> int:
        """Stop politely; return the exit code."""
        assert self._supervisor is not None
        self._supervisor.send_signal(signal.SIGTERM)
        try:
            return self._supervisor.wait(timeout=READY_S)
        finally:
            self._supervisor = None

    def close(self) -> None:
        """End whatever still runs."""
        if self._supervisor is not None and self._supervisor.poll() is None:
            self.kill_all()


@contextmanager
def running_cluster(
    app: Path, data: Path, *, nodes: int = 3, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Give a started cluster, and end it afterwards, however."""
    cluster = Cluster(app, data, nodes=nodes, settings=settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def rss_bytes(pid: int) -> int:
    """Return the memory that a process holds now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []  # It has ended; of one that nobody has waited for, nothing is left to read.


def _listens_at(pid: int, address: str) -> bool:
    return ("--listen", address) in itertools.pairwise(_command(pid))


def _signal(pids: list[int], by: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # It may have ended by itself.
            os.kill(pid, by)
    if by is signal.SIGKILL:
        # Until then it is there for whoever looks, and its port for whoever connects.
        wait_for_end(pids)
