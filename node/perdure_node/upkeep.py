"""What a node does beside answering: applying records, flushing stores, making room, sweeping."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from perdure.errors import DataLoss, DiskFull
from perdure_node.clock import Clock
from perdure_node.core.events import OutboxEntry
from perdure_node.core.partition import Partition
from perdure_node.core.residents import Residents
from perdure_node.host import Damaged, Host
from perdure_node.hosts import Hosts
from perdure_node.journal.node_journal import NodeJournal
from perdure_node.settings import NodeSettings
from perdure_node.store import StoreDamaged, StoreFull

__all__ = ["Upkeep"]

_ROOM_BYTES = 4 << 20
"""What a disk must have free before a store is closed that would have to be opened again."""

_PIECE_RUNS = 20
"""Runs that go at once."""

_PIECES_MAX = 25
"""Such pieces of one partition between two looks at the others, and at the stores."""

_FULL_RETRY_S = 1.0
"""How long to wait before looking again whether somebody has made room on the disk."""

_OPEN_REST_S = 0.25
"""How long a node that opens its partitions when they are called waits before it opens the rest."""


class Upkeep:
    """Keeps the stores close behind the journal, and the journal short."""

    def __init__(
        self,
        settings: NodeSettings,
        hosts: Hosts,
        journal: NodeJournal,
        residents: Residents,
        clock: Clock,
        depart: Callable[[Partition, list[OutboxEntry]], None],
    ) -> None:
        """Begin.

        Args:
            settings: Of the node.
            hosts: Its partitions.
            journal: Theirs.
            residents: The objects in memory.
            clock: The node's.
            depart: Sends calls of a partition, once they are durable.
        """
        self._settings = settings
        self._depart = depart
        self._sweep_ms = 0
        self._hosts = hosts
        self._journal = journal
        self._residents = residents
        self._clock = clock
        self._appended = 0
        self._unapplied = 0
        """Bytes of records that the stores do not have, or a little more."""
        self._room = True
        self._said = (False, True)
        self._apply_now = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        await self._open_rest()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._apply_now.wait(), self._settings.apply_interval_s)
            self._apply_now.clear()
            # A store that has failed stays broken, even when it has nothing to take just now.
            full = not self._room
            for host in self._hosts:
                full |= not self._apply(host)
                await asyncio.sleep(0)
            short = self._appended > self._settings.checkpoint_bytes or not self._journal.has_room
            if short and not full:
                self._appended = 0
                full = not await self._checkpoint()
            if full:
                full = not await self._make_room()
            self._room = not full
            if not full and self._clock.monotonic_ms() >= self._sweep_ms:
                await self._sweep()
            self._unapplied = sum(host.partition.memory.unapplied_bytes for host in self._hosts)
            self.passivate()
            self.watch_limits()
            if full:
                await asyncio.sleep(_FULL_RETRY_S)

    def appended(self, bytes: int, weight: int) -> None:
        """Note what was appended to the journal: its bytes, and what it counts on its way."""
        self._appended += bytes
        self._unapplied += weight

    def watch_limits(self) -> None:
        """Let no further call start while too much is on its way to the disk."""
        limits = self._settings.limits
        unapplied = self._unapplied
        if unapplied > self._settings.apply_bytes:
            self._apply_now.set()
        paused = (
            self._journal.undurable_bytes > limits.undurable_bytes_max
            or unapplied > limits.unapplied_bytes_max
        )
        room = self._room and self._journal.has_room
        if (paused, room) != self._said:
            self._said = (paused, room)
            self._hosts.limit(paused=paused, room=room)

    @property
    def is_paused(self) -> bool:
        """Tell whether calls are kept from starting."""
        return self._said[0]

    def passivate(self) -> None:
        """Take objects out of memory that have been there longest without use."""
        for state, memory in self._residents.surplus(self._clock.monotonic_ms()):
            if state.deferred:
                self._hosts.of_memory(memory).commit_deferred(state)
            memory.passivate(state)

    async def _open_rest(self) -> None:
        """Open what nobody has called yet: timers are due there, and calls were interrupted."""
        if self._hosts.unopened:
            # Short programs do without: they end sooner.
            await asyncio.sleep(_OPEN_REST_S)
        for number in self._hosts.unopened:
            with contextlib.suppress(DataLoss, DiskFull):
                self._hosts.find(number)
            await asyncio.sleep(0)

    async def _sweep(self) -> None:
        """Let runs go whose time is over, a few at a time: calls go on in between."""
        self._sweep_ms = self._clock.monotonic_ms() + int(1_000 * self._settings.sweep_interval_s)
        for host in self._hosts:
            for _ in range(_PIECES_MAX):
                partition = host.partition
                if partition.stopped is not None or partition.draining or partition.paused:
                    break
                try:
                    more, entries = host.sweep(_PIECE_RUNS, self._settings.partition_count)
                except Damaged as error:
                    self._hosts.stop(host, error)
                    break
                self._depart(partition, entries)
                if not more:
                    break
                await asyncio.sleep(0)
            else:
                self._sweep_ms = 0  # There is more: it goes on the next time.

    def _apply(self, host: Host) -> bool:
        """Write durable records to a store. False: it takes none now."""
        try:
            return host.partition.stopped is not None or host.apply()
        except Damaged as error:
            self._hosts.stop(host, error)
            return True

    async def _checkpoint(self) -> bool:
        """Flush all stores that hold the journal back. False: the disk is full."""
        there_is_room = True
        for number in self._journal.unopened:
            # Nobody has called it since the start, but the journal is kept for it.
            with contextlib.suppress(DataLoss, DiskFull):
                self._hosts.find(number)
                await asyncio.sleep(0)
        for host in self._hosts:
            if host.partition.stopped is None and host.needs_checkpoint:
                try:
                    there_is_room &= await host.checkpoint()
                except Damaged as error:
                    self._hosts.stop(host, error)
        return there_is_room

    async def _make_room(self) -> bool:
        """Once a full disk has room, bring back the stores, which stay broken until reopened.

        A broken store can still be read, and one that is closed cannot be opened on a full disk:
        so none is closed before there is room.
        """
        disk = os.statvfs(self._settings.data)
        if disk.f_bavail * disk.f_frsize < _ROOM_BYTES:
            return False
        for host in self._hosts:
            if host.partition.stopped is not None:
                continue
            with contextlib.suppress(*Damaged):
                # A store that is only busy takes writes again once it is flushed.
                if await host.checkpoint() and host.apply():
                    continue
            try:
                with contextlib.suppress(StoreFull, StoreDamaged):
                    # It cannot flush any more; what it lacks is in the journal.
                    host.close()
                host.reopen_store(self._hosts.open_store_again(host.partition.number))
                if not (host.apply() and await host.checkpoint()):
                    return False
            except StoreFull:
                return False
            except Damaged as error:
                self._hosts.stop(host, error)
        return True
