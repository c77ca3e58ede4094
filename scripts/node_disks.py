"""What a node reads when it starts, and what full stores and slow disks cost its calls."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from findings import Findings, at_least, at_most
from measuring import Round
from node_calls import (
    IN_FLIGHT,
    MADE_AT_ONCE,
    OBJECTS,
    STRIDE,
    add,
    client_of,
    counter,
    each,
    folder,
    make,
    parcel,
)
from one_node import OneNode, one_node
from rounds import Way, alternate, work

from perdure_node.collector import collector_paused
from perdure_node.core.folding import pieces, replay_all
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.residents import Residents
from perdure_node.host import StoreRows
from perdure_node.journal.node_journal import NodeJournal
from perdure_node.node import Node
from perdure_node.settings import NodeSettings
from perdure_node.store import Store, StoreResources

if TYPE_CHECKING:
    from measure_node import Scale

REPLAYED_PER_S = 200_000.0
DELAY_US = 2_000
SLOW_DISK_RATIO = 20.0
FULL_RATIO = 0.9
RESTART_S = 3.0
NEVER = 1 << 40


def replay(scale: Scale, found: Findings) -> None:
    """Let a node die whose stores have nothing of its journal; read that again and again."""
    rates: list[float] = []
    by_cpu: list[float] = []
    with folder() as data:
        uvloop.run(_write_journal(data, scale)).abandon()
        for _ in range(scale.starts):
            with folder() as copy:
                shutil.copytree(data, copy)
                wall_s, cpu_s = _replayed(copy, scale)
            rates.append(scale.replayed / wall_s)
            by_cpu.append(scale.replayed / cpu_s)
    text = "commits of a journal that are replayed in a second"
    found.add("commits_per_s", text, rates, "", at_least(REPLAYED_PER_S))
    found.add("commits_per_cpu_s", "... of CPU time", by_cpu)
    found.notes |= {"commits": scale.replayed}


async def _write_journal(data: Path, scale: Scale) -> Node:
    never = NodeSettings(
        name="n1",
        data=data,
        cluster_id="measured",
        partition_count=scale.partitions,
        new=True,
        limits=Limits(unapplied_bytes_max=NEVER),
        apply_interval_s=1e6,
        apply_bytes=NEVER,
        checkpoint_bytes=NEVER,
        checkpoint_weight=NEVER,
    )
    node = Node(never)
    await node.start()
    async with client_of(node.transport()) as client:
        await each(OBJECTS, lambda n: make(client, counter(n)))
        calls = scale.replayed - OBJECTS
        await each(calls, lambda n: add(client, counter(n * STRIDE % OBJECTS)))
    return node


def _replayed(data: Path, scale: Scale) -> tuple[float, float]:
    """Return how long reading the journal and replaying it take; and how much CPU time.

    Stores are opened before: how long that takes depends on the disk alone.
    """
    resources = StoreResources()
    paths = {n: data / "partitions" / str(n) for n in range(scale.partitions)}
    stores = {n: Store.open(path, resources) for n, path in paths.items() if path.exists()}
    residents = Residents(Limits())
    memories = {n: _memory(store, residents) for n, store in stores.items()}
    wall_s, cpu_s = -time.perf_counter(), -time.process_time()
    journal = NodeJournal.open(
        data / "journal", identity=b"measured/n1", on_fatal=_raise, new=False
    )
    with collector_paused():
        for number, memory in memories.items():
            for first, bodies in pieces(1, journal.log(number).bodies(0)):
                replay_all(memory, first, bodies)
    wall_s, cpu_s = wall_s + time.perf_counter(), cpu_s + time.process_time()
    journal.abandon()
    for store in stores.values():
        store.close()
    return wall_s, cpu_s


def _memory(store: Store, residents: Residents) -> Memory:
    assert store.applied == 0, "its store has something of the journal"
    return Memory(StoreRows(store), residents, Limits(), 0)


def _raise(error: BaseException) -> None:
    raise error


def slow_disk(scale: Scale, found: Findings) -> None:
    """Make each fdatasync of a node take 2 ms longer: one call at a time, and 64."""
    delay_us = DELAY_US
    with folder() as data, one_node(data, fdatasync_delay_us=delay_us) as node:
        ways = [
            Way(str(count), f"{count} in flight, slow disk", _counters(node, count))
            for count in (1, IN_FLIGHT)
        ]
        one, many = rates_of(ways, scale)
    text = f"counter with {delay_us / 1e3:g} ms more for each fdatasync: {IN_FLIGHT} in flight to 1"
    found.add("ratio", text, quotients(many, one), "", at_least(SLOW_DISK_RATIO))
    found.add("calls_per_s_1", "... calls a second, 1 in flight", one)
    found.add("calls_per_s_64", f"... calls a second, {IN_FLIGHT} in flight", many)


def _counters(node: OneNode, in_flight: int) -> Callable[[float], Round]:
    calls = ("--address", node.address, "--in-flight", str(in_flight))
    return lambda seconds: work("sessions", seconds, *calls)


def million(scale: Scale, found: Findings) -> None:
    """Fill a store; call a thousand of its objects, and as many where there are no others."""
    with folder(scale.data) as data, folder() as other:
        # Beside it, so that what was interrupted is not taken for all of it.
        filled = data.with_name(f"{data.name}.filled")
        if not filled.exists() or filled.read_text() != str(scale.objects):
            with one_node(data, partitions=scale.partitions) as node:
                found.notes["filled_s"] = uvloop.run(_fill(node, scale.objects))
            filled.write_text(str(scale.objects))
        files = [path for path in data.rglob("*") if path.is_file()]
        found.notes |= {"disk_mb": sum(path.stat().st_size for path in files) / 1e6}
        found.notes |= {"objects": scale.objects}
        stopped: list[float] = []
        killed: list[float] = []
        for _ in range(scale.starts):
            with one_node(data, partitions=scale.partitions) as node:
                stopped.append(node.ready_s)
            with one_node(data, partitions=scale.partitions, kill=True):
                pass
            with one_node(data, partitions=scale.partitions) as node:
                killed.append(node.ready_s)
        with ExitStack() as nodes:
            full, empty = (
                nodes.enter_context(one_node(where, partitions=scale.partitions))
                for where in (data, other)
            )
            ways = [
                Way("full", "a full store", _parcels(full, scale.objects // OBJECTS)),
                Way("empty", "an empty store", _parcels(empty, 1)),
            ]
            done = alternate(ways, scale.rounds, scale.round_s)
            memory = {"full": full.rss_bytes / 1e6, "empty": empty.rss_bytes / 1e6}
            found.notes["rss_mb"] = memory
    full_rates, empty_rates = ([each.rate for each in done[way]] for way in ("full", "empty"))
    full_us, empty_us = ([each.cpu_us["node"] for each in done[way]] for way in ("full", "empty"))
    objects = f"{scale.objects:,} objects of 300 bytes"
    text = f"1,000 of {objects}: calls a second, by those with an empty store"
    found.add("ratio", text, quotients(full_rates, empty_rates), "", at_least(FULL_RATIO))
    text = "... CPU time of the node for a call, by that with an empty store"
    found.add("cpu_ratio", text, quotients(full_us, empty_us), "", at_most(1 / FULL_RATIO))
    found.add("calls_per_s_full", "... calls a second", full_rates)
    found.add("calls_per_s_empty", "... calls a second with an empty store", empty_rates)
    found.add("restart_s", f"{objects}: restart", stopped, "s", at_most(RESTART_S))
    found.add("restart_after_kill_s", "... after kill -9", killed, "s", at_most(RESTART_S))


def _parcels(node: OneNode, apart: int) -> Callable[[float], Round]:
    calls = ("--address", node.address, "--apart", str(apart))
    roles = {"node": [node.process.pid]}
    return lambda seconds: work("parcels", seconds, *calls, roles=roles)


async def _fill(node: OneNode, count: int) -> float:
    began = time.perf_counter()
    async with client_of(node.address) as client:
        await each(count, lambda n: make(client, parcel(n)), at_once=MADE_AT_ONCE)
    return time.perf_counter() - began


def rates_of(ways: Sequence[Way], scale: Scale) -> list[list[float]]:
    """Return the calls a second of each way, by round."""
    done = alternate(ways, scale.rounds, scale.round_s)
    return [[each.rate for each in done[way.name]] for way in ways]


def quotients(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """Divide, round by round."""
    return [a / b for a, b in zip(upper, lower, strict=True)]
