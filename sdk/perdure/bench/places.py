"""Where the calls go: a node in the process that calls, servers that are started here, or others.

Everything that is started here ends with this process, and its data goes, unless there is a folder
to keep it in.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from perdure.bench.watch import file_system, servers_here
from perdure.cli.failure import CommandFailed
from perdure.cli.own_cluster import describe_when_served, own_cluster
from perdure.config import Config

__all__ = ["Place", "Routing", "Target", "open_place"]

_SERVED_S: Final = 10.0


Routing = Literal["router", "direct"]


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be called."""

    name: str
    """In tables: `one node`."""
    nodes: int = 0
    """To be started. 0: a node in the process that calls, or a running server."""
    router: bool = False
    """Whether a router is started before them."""
    address: str | None = None
    """Of a running router or node."""
    routing: Routing = "router"
    """As for `perdure.connect`."""

    @property
    def place(self) -> str:
        """What is opened for it: targets may share it and be called in different ways."""
        if self.address is not None or self.is_embedded:
            return self.address or "embedded"
        return f"router and {self.nodes} nodes" if self.router else "one node"

    @property
    def is_embedded(self) -> bool:
        """Whether the node is in the process that calls."""
        return not self.nodes and self.address is None


@dataclass(slots=True)
class Place:
    """A target that can be called now."""

    address: str | None
    """None: the process that calls opens its own node."""
    pids: Callable[[], Mapping[str, int]] = dict
    """Returns the servers' processes that are known, by name."""
    deaths: Callable[[], list[str]] = list
    """Returns how servers have ended that should not have."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """To be added to that of the processes that call."""
    notes: list[str] = field(default_factory=list[str])
    """What there is to know of it."""


@asynccontextmanager
async def open_place(
    target: Target, apps: tuple[str, ...], config: Config, data: Path | None, types: set[str]
) -> AsyncIterator[Place]:
    """Start or find a target, and end what was started afterwards.

    Args:
        target: Which.
        apps: That its nodes run.
        config: Of its nodes.
        data: A folder to keep its data in; None: one that is removed.
        types: Those that its nodes have to know.

    Raises:
        CommandFailed: It is not there, or does not start.
    """
    if target.address is not None:
        yield await _running(target.address, types)
        return
    with _folder(data) as folder:
        notes = _disk_notes(folder)
        if target.is_embedded:
            limits = {
                f"PERDURE_LIMITS_{name.upper()}": str(number)
                for name, number in config.limits.items()
            }
            yield Place(None, environment={"PERDURE_DATA": str(folder), **limits}, notes=notes)
            return
        app = _one_app(apps, folder)
        started = own_cluster(app, folder / "cluster", target.nodes, config, router=target.router)
        async with started as cluster:
            yield Place(
                cluster.address,
                pids=cluster.pids,
                deaths=lambda: [str(death) for death in cluster.deaths],
                notes=notes,
            )


async def _running(address: str, types: set[str]) -> Place:
    description = await describe_when_served(address, _SERVED_S)
    missing = sorted(types - {kind.name for kind in description.types})
    if missing:
        raise CommandFailed(
            f"the app of the cluster at {address} does not know {', '.join(missing)}: let it "
            f"`import perdure.bench.app`, or leave --address out for a cluster that is started here"
        )
    addresses = {f"node {node.name}": node.address for node in description.nodes}
    if address not in addresses.values():
        addresses = {description.role: address, **addresses}
    place = Place(address, pids=lambda: servers_here(addresses))
    unseen = sorted(addresses.keys() - place.pids().keys())
    if unseen:
        place.notes.append(
            f"CPU time and memory of {', '.join(unseen)} are not known: not on this machine, or "
            f"not to be seen by this user"
        )
    return place


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        yield data.absolute()
        return
    # /tmp lies in memory on many machines, where writing to the disk costs nothing.
    parent = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=parent) as name:
        yield Path(name)


def _disk_notes(folder: Path) -> list[str]:
    kind = file_system(str(folder))
    if kind in ("tmpfs", "ramfs"):
        return [
            f"the data lies in memory ({folder} is {kind}), where making it durable costs "
            f"nothing: give --data a folder on a disk"
        ]
    return []


def _one_app(apps: tuple[str, ...], folder: Path) -> str:
    """Return an app that is all of them: a node takes only one."""
    if len(apps) == 1:
        return apps[0]
    file = folder / "perdure_bench_apps.py"
    imports = "".join(f"import_app({app!r})\n" for app in apps)
    file.write_text(f"from perdure_node.app import import_app\n\n{imports}")
    return str(file)
