"""One check, from the first call to the verdict."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure.check.callers import Callers
from perdure.check.connections import Connections
from perdure.check.faults import FaultCount, Faults
from perdure.check.history import History, Operation
from perdure.check.report import Run
from perdure.check.verdict import judge
from perdure.check.workload import ENABLED, TYPES, Objects
from perdure.cli.failure import CommandFailed
from perdure.cli.own_cluster import OwnCluster, describe_when_served, own_cluster
from perdure.config import Config
from perdure.wire.v1 import cluster_pb2

__all__ = ["Settings", "run_check"]

_APP: Final = "perdure.check.app"
_ACTIVATIONS_MAX: Final = 8
"""Of each node. Objects leave memory all the time, and come back from the store."""

_AS_TOLD: Final = ("was ended by SIGKILL", "was ended by SIGTERM", "ended with status 0")
"""How a process ends that a fault has ended."""

_SERVED_S: Final = 10.0
_HEAL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What to check, and how."""

    address: str | None
    """Of a running cluster; None: one of the check's own."""
    nodes: int
    faults: tuple[str, ...]
    load_s: float
    callers: int
    objects: int
    """At a time."""
    seed: int
    kinds: tuple[str, ...] = ENABLED


async def run_check(settings: Settings, say: Callable[[str], None]) -> tuple[Run, list[Operation]]:
    """Run a check, and return what came of it with all that was done.

    Args:
        settings: What to do.
        say: Takes lines about what happens now.

    Raises:
        CommandFailed: There is no cluster to be checked.
    """
    history = History(time.monotonic)
    cluster: OwnCluster | None = None
    async with AsyncExitStack() as stack:
        address = settings.address
        if address is None:
            say(f"starting {settings.nodes} nodes and a router")
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-check-"))
            config = Config(limits={"activations_max": _ACTIVATIONS_MAX})
            cluster = await stack.enter_async_context(
                own_cluster(_APP, Path(folder), settings.nodes, config)
            )
            address = cluster.address
        description = await describe_when_served(address, _SERVED_S)
        _check_types(description, settings.kinds, address)
        connections = _connect(address, description, straight=cluster is not None)
        stack.push_async_callback(connections.close)
        places = max(1, settings.objects // len(settings.kinds))
        name = f"{settings.seed}-{uuid.uuid4().hex[:8]}"
        objects = Objects(name, settings.kinds, places)
        callers = Callers(connections, objects, history, settings.seed, settings.callers)
        say(f"{settings.callers} callers for {settings.load_s:g} s, seed {settings.seed}")
        began_s = time.monotonic()
        faults, ended_s = await _load(settings, callers, cluster, history)
        say("reading every object")
        try:
            await describe_when_served(address, _HEAL_S)
        except CommandFailed as failure:
            callers.unread.append(f"the cluster: {failure}")
        else:
            await callers.read_all()
        healed_s = time.monotonic()
    say(f"judging {len(history):,} calls")
    wrong = [problem for found in callers.problems().values() for problem in found]
    deaths = [] if cluster is None else cluster.deaths
    findings = judge(
        history.operations,
        settings.kinds,
        wrong_effects=wrong,
        unread=callers.unread,
        deaths=[str(death) for death in deaths if death.how not in _AS_TOLD],
        faults=faults,
    )
    judged_s = time.monotonic() - healed_s
    run = Run(findings, faults, settings.seed, ended_s - began_s, healed_s - ended_s, judged_s)
    return run, history.operations


def _check_types(
    description: cluster_pb2.Description, kinds: tuple[str, ...], address: str
) -> None:
    known = {kind.name for kind in description.types}
    missing = sorted({TYPES[kind] for kind in kinds} - known)
    if missing:
        raise CommandFailed(
            f"the app of the cluster at {address} does not know {', '.join(missing)}: "
            f"let it `import perdure.check.app`, or check a cluster of its own without --address"
        )


def _connect(address: str, description: cluster_pb2.Description, *, straight: bool) -> Connections:
    owners = {
        partition.partition: node.name
        for node in description.nodes
        for partition in node.partitions
    }
    nodes = {node.name: node.address for node in description.nodes} if straight else {}
    return Connections(address, nodes, owners)


async def _load(
    settings: Settings, callers: Callers, cluster: OwnCluster | None, history: History
) -> tuple[dict[str, FaultCount], float]:
    """Let the callers call and the faults hit, for so long or until Ctrl-C.

    Returns:
        How often faults hit, and when the end was decided: calls were still open then.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    timer = loop.call_later(settings.load_s, stop.set)
    faults = None
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(callers.run(stop))
            if cluster is not None and settings.faults:
                faults = Faults(cluster, settings.faults, settings.seed, lambda: history.open_count)
                group.create_task(faults.run(stop))
            await stop.wait()
            ended_s = time.monotonic()
        return {} if faults is None else faults.counts, ended_s
    finally:
        timer.cancel()
        # A second Ctrl-C ends the command at once.
        loop.remove_signal_handler(signal.SIGINT)
