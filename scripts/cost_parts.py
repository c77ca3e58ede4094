"""What `fit_costs.py` measures: what partitions, objects, clients and messages cost a server."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from local_cluster import LocalCluster, local_cluster
from measuring import Round
from processes import started
from rounds import work as one_round

from perdure.ring import place
from perdure.wire.v1 import calls_pb2, cluster_pb2

APP = str(Path(__file__).with_name("cost_app.py"))
WORKER = Path(__file__).with_name("cost_worker.py")

SETTLE_S = 3.0
"""Records are applied to the stores every two seconds: then memory is what it stays."""

OBJECTS_EACH = 16
"""In each partition, on average: then hardly any is left out."""

IDLE_S = 10.0
SYNC_S = 2.0
BATCHES = (1, 4, 16, 64, 256)
REPEATS = 3
SHARED = ((4, 1), (4, 16), (16, 1), (16, 4), (16, 16))
"""Streams, and calls in a message of each."""

Row = dict[str, Any]


def partitions(counts: Sequence[int]) -> Iterator[Row]:
    """Start a node with so many partitions, call them all, and look at it while it does nothing."""
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="perdure-") as folder:
            data = Path(folder)
            began_s = time.perf_counter()
            with _cluster(1, partitions=count, data=data) as cluster:
                started_s = time.perf_counter() - began_s
                # A partition has its store made by its first call.
                _make(cluster, 0, OBJECTS_EACH * count)
                time.sleep(SETTLE_S)
                node, router = _servers(cluster)
                row: Row = {
                    "partitions": count,
                    "start_s": started_s,
                    "node_mb": _megabytes(node),
                    "router_mb": _megabytes(router),
                    "files": node.num_fds(),
                    "threads": node.num_threads(),
                    "disk_mb": _disk_bytes(data) / 1e6,
                    **_idle(node, router),
                }
            began_s = time.perf_counter()
            with _cluster(1, partitions=count, data=data):
                row["restart_s"] = time.perf_counter() - began_s
            yield row


def objects(counts: Sequence[int]) -> Iterator[Row]:
    """Make records, and look at memory, at the disk and at what calls cost then."""
    resident_max = max(counts)
    with tempfile.TemporaryDirectory(prefix="perdure-") as folder:
        data = Path(folder)
        made = 0
        for count in counts:
            # All stay in memory: what does not is no cost of memory.
            with _cluster(1, data=data, resident_max=resident_max) as cluster:
                node, _ = _servers(cluster)
                before_mb = _megabytes(node)
                seconds = _make(cluster, made, count)
                time.sleep(SETTLE_S)
                row: Row = {
                    "objects": count,
                    "made_per_s": (count - made) / seconds,
                    "made": count - made,
                    "grown_mb": _megabytes(node) - before_mb,
                }
                made = count
            row["disk_mb"] = _disk_bytes(data, "/partitions/") / 1e6
            began_s = time.perf_counter()
            with _cluster(1, data=data) as cluster:
                row["restart_s"] = time.perf_counter() - began_s
                node, _ = _servers(cluster)
                row["empty_mb"] = _megabytes(node)
                for name, among in (("few", min(1_000, count)), ("all", count)):
                    touched = _touch(cluster, among)
                    row[name] = {
                        "per_s": touched["rate"],
                        "node_us": touched["cpu_us"]["node"],
                        "p50_ms": touched["p50_ms"],
                    }
            yield row


def clients(counts: Sequence[int]) -> Iterator[Row]:
    """Connect clients that have called each partition once, and look at them while they wait."""
    for by, count in [(by, count) for by in ("node", "router") for count in counts]:
        with _cluster(1) as cluster:
            node, router = _servers(cluster)
            address = _node_address(cluster) if by == "node" else cluster.address
            _make(cluster, 0, 1_000)
            before = {"node": _megabytes(node), "router": _megabytes(router)}
            command = [sys.executable, str(WORKER), "connect", "--address", address]
            command += ["--count", str(count)]
            with started(command, stdout=subprocess.PIPE) as worker:
                assert worker.stdout is not None
                worker.stdout.readline()
                time.sleep(SETTLE_S)
                yield {
                    "clients": count,
                    "by": by,
                    "partitions": cluster.describe().partition_count,
                    "node_mb": _megabytes(node) - before["node"],
                    "router_mb": _megabytes(router) - before["router"],
                    "node_files": node.num_fds(),
                    **_idle(node, router),
                }


def messages(nodes: Sequence[int], seconds: float) -> Iterator[Row]:
    """Call in step, so that a message holds just so many calls, and see what each costs.

    The rows of 0 nodes are calls straight to a node, without a router.
    """
    for count in nodes:
        with _cluster(count) as cluster:
            roles = {"router": cluster.router_processes(), "node": cluster.node_processes()}
            time.sleep(SETTLE_S)
            idle = _idle(*(psutil.Process(pids[0]) for pids in (roles["node"], roles["router"])))
            yield {"nodes": count, "batch": 0, **idle}
            for batch in BATCHES:
                how = ("--in-step", "--in-flight", str(batch))
                to = ("--address", cluster.address)
                yield _message_row(count, batch, _work(seconds, *to, *how, roles=roles))
                if count == 1:
                    to = ("--address", _node_address(cluster))
                    straight = {"node": roles["node"]}
                    done = _work(seconds, *to, *how, roles=straight)
                    yield _message_row(0, batch, done)
            if count == 1:
                yield from _shared_groups(cluster, seconds)


def _shared_groups(cluster: LocalCluster, seconds: float) -> Iterator[Row]:
    """Let several streams send at the same time: their messages share a group of the journal."""
    roles = {"node": cluster.node_processes()}
    for streams, batch in SHARED:
        arguments = ["--address", _node_address(cluster), "--streams", str(streams)]
        arguments += ["--in-flight", str(streams * batch)]
        done = _work(seconds, *arguments, roles=roles, way="streams")
        yield {**_message_row(0, batch, done), "streams": streams}


def loads(nodes: Sequence[int], in_flight: Sequence[int], seconds: float) -> Iterator[Row]:
    """Call as callers do who wait for nobody else: what a model has to foretell.

    The rows of 0 routers are calls straight to the only node.
    """
    for count in nodes:
        with _cluster(count) as cluster:
            roles = {"router": cluster.router_processes(), "node": cluster.node_processes()}
            for many in in_flight:
                how = ("--in-flight", str(many))
                to = ("--address", cluster.address)
                done = _work(seconds, *to, *how, roles=roles)
                yield {"nodes": count, "routers": 1, "in_flight": many, **dataclasses.asdict(done)}
                if count == 1:
                    to = ("--address", _node_address(cluster))
                    done = _work(seconds, *to, *how, roles={"node": roles["node"]})
                    yield {"nodes": 1, "routers": 0, "in_flight": many, **dataclasses.asdict(done)}


def _work(
    seconds: float,
    *arguments: str,
    roles: Mapping[str, Sequence[int]],
    way: str = "sessions",
) -> Round:
    """Call counters some times over, and return the round in which others had the least CPU."""
    rounds = [one_round(way, seconds, *arguments, roles=roles) for _ in range(REPEATS)]
    return min(rounds, key=lambda done: done.others_cores)


def _message_row(nodes: int, batch: int, done: Round) -> Row:
    return {
        "nodes": nodes,
        "streams": 1,
        "batch": batch,
        "per_s": done.rate,
        "p50_ms": done.p50_ms,
        "cpu_us": dict(done.cpu_us),
        "others_cores": done.others_cores,
    }


def maps(shapes: Sequence[tuple[int, int]]) -> Iterator[Row]:
    """Place partitions on nodes, and see how large the map is that clients are given."""
    for nodes, partition_count in shapes:
        names = [f"n{number}" for number in range(nodes)]
        began_s = time.process_time()
        owners = place(partition_count, names)
        placed_s = time.process_time() - began_s
        owned: dict[str, list[int]] = {name: [] for name in names}
        for partition, name in enumerate(owners):
            owned[name].append(partition)
        answer = cluster_pb2.PartitionMap(
            cluster_id="c" * 32,
            partition_count=partition_count,
            nodes=[
                cluster_pb2.MappedNode(
                    name=name,
                    address="10.100.100.100:7401",
                    owned=[
                        calls_pb2.Ownership(partition=partition, epoch=100)
                        for partition in owned[name]
                    ],
                )
                for name in names
            ],
        )
        most = max(map(len, owned.values()))
        yield {
            "nodes": nodes,
            "partitions": partition_count,
            "placed_s": placed_s,
            "map_kb": answer.ByteSize() / 1e3,
            "most_on_a_node": most,
        }


def disk(rounds: int) -> Iterator[Row]:
    for _ in range(rounds):
        done = one_round("fdatasync", SYNC_S)
        yield {"p50_ms": done.p50_ms, "p99_ms": done.p99_ms, "others_cores": done.others_cores}


@contextmanager
def _cluster(
    nodes: int,
    *,
    partitions: int | None = None,
    data: Path | None = None,
    resident_max: int | None = None,
) -> Iterator[LocalCluster]:
    arguments: list[str] = []
    if partitions is not None:
        arguments += ["--partitions", str(partitions)]
    if resident_max is not None:
        arguments += ["--limit", f"activations_max={resident_max}"]
        arguments += ["--limit", f"activation_bytes_max={1 << 40}"]
    with local_cluster(APP, nodes, arguments=arguments, data=data, quiet=True) as cluster:
        yield cluster


def _servers(cluster: LocalCluster) -> tuple[psutil.Process, psutil.Process]:
    [node], [router] = cluster.node_processes(), cluster.router_processes()
    return psutil.Process(node), psutil.Process(router)


def _node_address(cluster: LocalCluster) -> str:
    return str(cluster.describe().nodes[0].address)


def _make(cluster: LocalCluster, first: int, count: int) -> float:
    """Make records; return how many seconds that took."""
    arguments = ("--first", str(first), "--count", str(count))
    return float(_ask("make", "--address", _node_address(cluster), *arguments)["seconds"])


def _touch(cluster: LocalCluster, count: int) -> Row:
    arguments = ["--count", str(count)]
    for pid in cluster.node_processes():
        arguments += ["--pid", str(pid)]
    return _ask("touch", "--address", _node_address(cluster), *arguments)


def _ask(*arguments: str) -> Row:
    with started([sys.executable, str(WORKER), *arguments], stdout=subprocess.PIPE) as worker:
        printed, _ = worker.communicate()
    if worker.returncode:
        raise SystemExit(f"{arguments[0]} has ended with {worker.returncode}")
    found: Row = json.loads(printed)
    return found


def _idle(node: psutil.Process, router: psutil.Process) -> Row:
    """Return how much of a core servers take that have nothing to do."""

    def used_s(process: psutil.Process) -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    before = used_s(node), used_s(router)
    time.sleep(IDLE_S)
    after = used_s(node), used_s(router)
    node_s, router_s = (b - a for a, b in zip(before, after, strict=True))
    return {
        "node_idle_percent": node_s / IDLE_S * 100,
        "router_idle_percent": router_s / IDLE_S * 100,
    }


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def _disk_bytes(folder: Path, within: str = "") -> int:
    """Return how much the files below a folder take on the disk."""
    return sum(
        path.stat().st_blocks * 512
        for path in folder.rglob("*")
        if path.is_file() and within in str(path)
    )
