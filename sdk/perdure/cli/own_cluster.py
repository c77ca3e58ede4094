"""A cluster of a command's own: as `perdure up` runs it, under this process.

Its nodes and router end with this process, however that ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from perdure.cli.connection import Connection, RequestFailed
from perdure.cli.failure import CommandFailed
from perdure.cli.held_ports import HeldPorts
from perdure.cli.plan import open_plan
from perdure.cli.printing import served_partitions
from perdure.cli.supervisor import Supervisor
from perdure.cli.up import cluster_programs
from perdure.config import Config
from perdure.directory import DirectoryLock
from perdure.wire.v1 import cluster_pb2

__all__ = ["Death", "OwnCluster", "describe_when_served", "own_cluster"]

_START_S: Final = 60.0

_LINES_KEPT: Final = 1_000
_LINES_SHOWN: Final = 20
_AGAIN: Final = "; starts again"

_ASK_S: Final = 1.0
_ASK_AGAIN_S: Final = 0.1


class Death(NamedTuple):
    """How a process has ended before the cluster was to end."""

    name: str
    """`router`, `node n1`."""
    how: str
    """As the supervisor says: `ended with status 1`, `was ended by SIGKILL`."""
    last_line: str
    """That it has printed."""

    def __str__(self) -> str:
        return f"{self.name} {self.how}: {self.last_line}"


class _Output:
    """What the processes print, and what the supervisor says of their ends."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self.deaths: list[Death] = []
        self._last: dict[str, str] = {}

    def add(self, name: str, line: str) -> None:
        """Take a line of a program, or one about it."""
        self.lines.append(f"{name} | {line}")
        if line.endswith(_AGAIN):
            how = line.removesuffix(_AGAIN)
            self.deaths.append(Death(name, how, self._last.get(name, "")))
        self._last[name] = line


class OwnCluster:
    """A running cluster."""

    def __init__(self, address: str, supervisor: Supervisor, deaths: Sequence[Death]) -> None:
        self.address = address
        """Where it takes calls."""
        self.deaths = deaths
        """All so far."""
        self._supervisor = supervisor

    def pids(self) -> dict[str, int]:
        """Return the process ids of the router and the nodes that run now, by name."""
        return self._supervisor.pids


@asynccontextmanager
async def own_cluster(
    app: str, folder: Path, nodes: int, config: Config, *, router: bool = True
) -> AsyncIterator[OwnCluster]:
    """Start a cluster, and end it afterwards.

    Args:
        app: What its nodes run.
        folder: Where its data is, or is to be.
        nodes: How many.
        config: As for `cluster_programs`.
        router: False: none is started, and calls go to the only node.

    Raises:
        CommandFailed: It does not start.
    """
    lock = DirectoryLock(folder, make=True)
    ports = HeldPorts()
    try:
        plan = open_plan(folder, nodes, config.partitions)
        [address, *listen] = ports.find(1 + nodes)
        addresses = dict(zip(plan.nodes, listen, strict=True))
        groups = cluster_programs(config, app, folder, plan, address, addresses)
        if not router:
            [address] = listen
            del groups[0]
        output = _Output()
        lines = output.lines
        supervisor = Supervisor(groups, output.add)
        stop = asyncio.Event()
        served = asyncio.Event()
        running = asyncio.create_task(supervisor.run(_wait(served), stop))
        try:
            await _until_served(address, running, lines)
            served.set()
            yield OwnCluster(address, supervisor, output.deaths)
        finally:
            stop.set()
            await asyncio.wait([running])
            supervisor.kill()
    finally:
        ports.close()
        lock.close()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _until_served(address: str, running: asyncio.Task[None], lines: deque[str]) -> None:
    asking = asyncio.create_task(describe_when_served(address, _START_S))
    await asyncio.wait([asking, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        asking.cancel()
        why = running.exception() or "the cluster has ended"
        raise CommandFailed("\n".join([str(why), *list(lines)[-_LINES_SHOWN:]]))
    asking.result()


async def describe_when_served(address: str, at_most_s: float) -> cluster_pb2.Description:
    """Ask a router or node until every partition is served, and return what it says.

    Raises:
        CommandFailed: Not all are, after so long.
    """
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + at_most_s
    with Connection(address, _ASK_S) as connection:
        while True:
            try:
                description = await asyncio.to_thread(connection.describe)
            except RequestFailed as failure:
                why = str(failure)
            else:
                served, count = len(served_partitions(description)), description.partition_count
                if served == count > 0:
                    return description
                why = f"{served} of {count} partitions are served"
            if loop.time() > give_up_s:
                raise CommandFailed(why)
            await asyncio.sleep(_ASK_AGAIN_S)
