"""What processes of this machine cost: CPU time and memory, looked at now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

__all__ = ["Seen", "Watch", "Watched", "file_system", "servers_here"]

_NO_WORK: Final = {"idle", "iowait", "guest", "guest_nice", "steal"}
"""Fields of CPU times in which this machine does nothing, or that others count as well."""


@dataclass(slots=True)
class Watched:
    """What a process used."""

    name: str
    cpu_s: float = 0.0
    """From the first look to the last."""
    memory: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """Seconds since the first look, and bytes of resident memory then."""

    @property
    def memory_max(self) -> int:
        """The most memory that was seen, in bytes."""
        return max((size for _, size in self.memory), default=0)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of processes, and of the machine."""

    watched: Sequence[Watched]
    gone: Sequence[str]
    """Processes that have ended in the meantime."""
    seconds: float
    """From the first look to the last."""
    busy_cores: float
    """How many cores of the machine were in use, by whomever but the process that looks."""
    cores: int
    """How many the machine has."""


class Watch:
    """Looks at some processes, and at the machine."""

    def __init__(self, pids: Mapping[str, int], own_pid: int) -> None:
        """Prepare; `look` looks.

        Args:
            pids: The processes, by name. Those that are gone are left out.
            own_pid: Of the process that watches. What it uses belongs to nobody.
        """
        self._watched: dict[str, Watched] = {}
        self._gone: list[str] = []
        self._processes: dict[str, psutil.Process] = {}
        for name, pid in pids.items():
            try:
                self._processes[name] = psutil.Process(pid)
            except psutil.Error:
                self._gone.append(name)
        self._own = psutil.Process(own_pid)
        self._began_s: dict[str, float] = {}
        self._first_s: float | None = None
        self._last_s = 0.0
        self._machine: tuple[float, float] = (0.0, 0.0)

    def look(self) -> None:
        """Look at all of them now."""
        now_s = time.monotonic()
        busy_s = _busy_s() - _used_s(self._own)
        if self._first_s is None:
            self._first_s = now_s
            self._machine = (busy_s, busy_s)
        self._machine = (self._machine[0], busy_s)
        self._last_s = now_s
        for name, process in list(self._processes.items()):
            try:
                with process.oneshot():
                    used_s, bytes_now = _used_s(process), process.memory_info().rss
            except psutil.Error:
                del self._processes[name]
                self._gone.append(name)
                continue
            watched = self._watched.setdefault(name, Watched(name))
            watched.cpu_s = used_s - self._began_s.setdefault(name, used_s)
            watched.memory.append((now_s - self._first_s, bytes_now))

    async def look_until(self, end_ns: int, interval_s: float) -> None:
        """Look now, then every so often, and at the end, a time of `time.monotonic_ns`."""
        self.look()
        while (left_s := (end_ns - time.monotonic_ns()) / 1e9) > 0:
            await asyncio.sleep(min(left_s, interval_s))
            self.look()

    def seen(self) -> Seen:
        """Return what was seen since the first look."""
        seconds = self._last_s - (self._first_s or 0.0)
        return Seen(
            list(self._watched.values()),
            gone=self._gone,
            seconds=seconds,
            busy_cores=(self._machine[1] - self._machine[0]) / seconds if seconds else 0.0,
            cores=psutil.cpu_count() or 1,
        )


def _busy_s() -> float:
    times: dict[str, float] = psutil.cpu_times()._asdict()
    return sum(used_s for name, used_s in times.items() if name not in _NO_WORK)


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def file_system(path: str) -> str:
    """Return the type of the file system that a path is on; empty if nobody says."""
    found = ("", "")
    for partition in psutil.disk_partitions(all=True):
        mounted = partition.mountpoint.rstrip("/") + "/"
        if f"{path}/".startswith(mounted) and len(mounted) > len(found[0]):
            found = (mounted, partition.fstype)
    return found[1]


def servers_here(addresses: Mapping[str, str]) -> dict[str, int]:
    """Find the processes of this machine that listen at some addresses.

    Args:
        addresses: `host:port`, by name.

    Returns:
        Process ids, by name: of those that are here and that we may see.
    """
    ours = _own_hosts()
    ports: dict[int, str] = {}
    for name, address in addresses.items():
        host, _, port = address.rpartition(":")
        if host.strip("[]") in ours:
            ports[int(port)] = name
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return {}
    return {
        ports[it.laddr.port]: it.pid
        for it in connections
        if it.status == psutil.CONN_LISTEN and it.laddr and it.laddr.port in ports and it.pid
    }


def _own_hosts() -> set[str]:
    hosts = {"localhost"}
    for addresses in psutil.net_if_addrs().values():
        hosts.update(address.address for address in addresses)
    return hosts
