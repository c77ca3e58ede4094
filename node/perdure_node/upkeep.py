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
        self._appended = self._appended_weight = 0
        """What the journal has been given since the last checkpoint."""
        self._unapplied = 0
        """Bytes of records that the stores do not have, or a little more."""
        self._room = True
        self.is_paused = False
        """Calls are kept from starting."""
        self._has_room = True
        """Calls that write are let in."""
        self._apply_now = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        await self._open_rest()
        checkpoint = False
        while True:
            # A store that has failed stays broken, even when it has nothing to take just now.
            full = not await self._tend_stores(checkpoint=checkpoint) or not self._room
            if full:
                full = not await self._make_room()
            self._room = not full
            checkpoint = not full and self._journal_is_long
            if checkpoint:
                self._appended = self._appended_weight = 0
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
        self._appended_weight += weight
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
        if paused != self.is_paused or room != self._has_room:
            self.is_paused, self._has_room = paused, room
            self._hosts.limit(paused=paused, room=room)

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

    @property
    def _journal_is_long(self) -> bool:
        settings = self._settings
        return (
            self._appended > settings.checkpoint_bytes
            or self._appended_weight > settings.checkpoint_weight
            or not self._journal.has_room
        )

    async def _tend_stores(self, *, checkpoint: bool) -> bool:
        """Write to each store what it lacks, and let `apply_interval_s` pass meanwhile.

        One after the other, at even distances: calls that come then wait for one store, and not
        for all of them, and memory is let go of as evenly as it is taken.

        Args:
            checkpoint: Flush those, too, that hold the journal back.

        Returns:
            False when the disk is full.
        """
        if checkpoint:
            await self._open_unopened()
        interval_s = self._settings.apply_interval_s
        hosts = self._to_be_tended(checkpoint)
        # Where the journal has no room left, calls wait for this; but it is tried now and then.
        hurried = not self._journal.has_room
        if hurried or not hosts:
            await self._rest(interval_s)
            hosts = self._to_be_tended(checkpoint)
        there_is_room = True
        for host in hosts:
            # The more there is, the sooner: without an end in haste.
            share = 0.0 if hurried else 1 - self._unapplied / self._settings.apply_bytes
            await self._rest(max(0.0, share) * interval_s / len(hosts))
            there_is_room &= await self._tend(host, checkpoint=checkpoint)
        self._apply_now.clear()
        return there_is_room

    def _to_be_tended(self, checkpoint: bool) -> list[Host]:
        return [
            host for host in self._hosts
            if host.lacks_records or (checkpoint and host.needs_checkpoint)
        ]  # fmt: skip

    async def _tend(self, host: Host, *, checkpoint: bool) -> bool:
        if host.partition.stopped is not None:
            return True
        memory = host.partition.memory
        lacked = memory.unapplied_bytes
        try:
            there_is_room = host.apply()
            self._unapplied -= lacked - memory.unapplied_bytes
            if there_is_room and checkpoint and host.needs_checkpoint:
                there_is_room = await host.checkpoint()
        except Damaged as error:
            self._hosts.stop(host, error)
            return True
        return there_is_room

    async def _open_unopened(self) -> None:
        """Open what nobody has called since the start: the journal is kept for it, too."""
        for number in self._journal.unopened:
            with contextlib.suppress(DataLoss, DiskFull):
                self._hosts.find(number)
                await asyncio.sleep(0)

    async def _rest(self, seconds: float) -> None:
        """Let others work, for so long or until there is too much to apply."""
        if self._apply_now.is_set():
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._apply_now.wait(), seconds)

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
