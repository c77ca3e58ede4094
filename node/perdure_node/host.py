"""One partition with its log and its store: opening, recovery, applying, trimming.

The order of things: a record is appended to the log; once it is durable the partition lets out
what waited for it; later it is applied to the store; once the store is flushed the log is
trimmed up to there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from perdure_node.clock import Clock
from perdure_node.collector import collector_paused
from perdure_node.core import rows
from perdure_node.core.batch import Batch
from perdure_node.core.calls import Catalog
from perdure_node.core.commits import pack_record
from perdure_node.core.damage import DamageFound
from perdure_node.core.events import OutboxEntry
from perdure_node.core.folding import pieces, replay_all
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.partition import Partition
from perdure_node.core.residents import Residents
from perdure_node.core.state import ObjectState
from perdure_node.log import LogDamaged, PartitionLog
from perdure_node.store import Store, StoreBusy, StoreDamaged, StoreFull, StoreResources

__all__ = ["Host", "open_store"]

_pack_record: Final = pack_record
"""Each record needs it, and so it needs no look-up where modules are compiled."""

_COMMIT_BYTES_MIN: Final = 640
"""What a commit counts against the bounds, however small: it takes memory beside its bytes, and
64 MB of them are a hundred thousand."""

_REPLAY_BYTES: Final = 8 << 20
"""Recovered records are applied whenever so many bytes of them are in memory."""


def open_store(path: Path, resources: StoreResources, *, new: bool) -> Store:
    """Open a partition's store; make it only when the partition is new.

    Raises:
        StoreDamaged: It is missing, or cannot be opened.
    """
    # A directory without it was left by a process that died before it had made the store.
    if new and not (path / "CURRENT").exists():
        return Store.create(path, resources)
    return Store.open(path, resources)


class StoreRows:
    """A store as a partition's memory reads it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        try:
            return self._store.get(key)
        except StoreDamaged as error:
            raise DamageFound(str(error)) from None

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int = 1_000
    ) -> list[tuple[bytes, bytes]]:
        """Return rows in order."""
        try:
            return self._store.scan(prefix, after, limit)
        except StoreDamaged as error:
            raise DamageFound(str(error)) from None


class Host:
    """A partition that is open on this node."""

    def __init__(  # noqa: PLR0913 - what a partition stands on
        self,
        number: int,
        epoch: int,
        store: Store,
        log: PartitionLog,
        *,
        catalog: Catalog,
        residents: Residents,
        limits: Limits,
        clock: Clock,
        server: str,
        on_work: Callable[[Host], None],
        on_durable: Callable[[Host], None],
    ) -> None:
        """Recover the partition and claim it under a new epoch.

        Raises:
            StoreDamaged, LogDamaged: Its data cannot be trusted.
        """
        self.store = store
        self.log = log
        self._clock = clock
        memory = Memory(StoreRows(store), residents, limits, store.applied)
        self._memory = memory
        self._unwritten: Batch | None = None
        """A batch that the store had no room for."""
        with collector_paused():
            for first, bodies in pieces(store.applied + 1, log.bodies(store.applied)):
                replay_all(memory, first, bodies)
                if memory.unapplied_bytes > _REPLAY_BYTES:
                    self.apply()
        claim = log.claim(epoch, server)
        self.partition = Partition(number, epoch, memory, catalog, limits, server)
        self.partition.claimed(claim)
        self._on_work = on_work
        self._on_durable = on_durable
        log.on_durable = self._became_durable

    def resume(self) -> None:
        """Put back the calls that a crash has interrupted. Before the first call arrives."""
        self._memory.now_ms = self._clock.monotonic_ms()
        for key, progress in list(self._memory.progress.items()):
            self.partition.journalled.resume(key, progress)

    def append(self, wall_ms: int) -> tuple[int, int]:
        """Append the commits made since the last time as one record.

        Args:
            wall_ms: Wall clock.

        Returns:
            Its bytes, and what it counts against the bounds of what is on its way.
        """
        made = self._memory.take_record(wall_ms)
        if made is None:
            return 0, 0
        body = _pack_record(made)
        weight = max(len(body), len(made[1]) * _COMMIT_BYTES_MIN)
        self.partition.record_made(self.log.append(body), weight)
        return len(body), weight

    def sweep(self, limit: int, partition_count: int) -> tuple[bool, list[OutboxEntry]]:
        """Let runs go whose time is over.

        Args:
            limit: As many of them at most.
            partition_count: Of the cluster.

        Returns:
            Whether there may be more; and what is to be sent, once it is durable.

        Raises:
            DamageFound: The store cannot be trusted.
        """
        memory = self._memory
        memory.time_ms = max(memory.time_ms, self._clock.wall_ms())
        found = self.partition.expiry.sweep(limit, partition_count)
        if memory.making:
            self._on_work(self)
        return found

    def commit_deferred(self, state: ObjectState) -> None:
        """Commit what calls have changed since an object's last `save()`."""
        self.partition.recorder.commit_deferred(state)
        self._on_work(self)

    def _became_durable(self, sequence: int) -> None:
        self.partition.durable(sequence)
        self._on_durable(self)

    @property
    def lacks_records(self) -> bool:
        """Tell whether `apply` may have something to write, or is to try again."""
        return self._unwritten is not None or self._memory.has_unapplied

    def apply(self) -> bool:
        """Write all durable records to the store.

        Returns:
            False when the store takes nothing now, because it has to flush or the disk is full.
            Nothing is lost.

        Raises:
            StoreDamaged: The store does not take them.
        """
        memory = self._memory
        while True:
            batch = self._unwritten or memory.take_batch()
            if batch is None:
                return True
            self._unwritten = batch
            try:
                self.store.write(batch.puts, batch.deletes, batch.applied, batch.cleared)
            except (StoreFull, StoreBusy):
                return False
            self._unwritten = None
            memory.batch_written(batch)

    @property
    def needs_checkpoint(self) -> bool:
        """Tell whether the log holds records that a flush would free."""
        return self.log.first <= self._memory.applied

    async def checkpoint(self) -> bool:
        """Flush the store, then trim the log. False: the disk is full.

        The journal's records up to the flushed one are not needed any more.

        Raises:
            StoreDamaged: The store cannot be flushed for another reason.
        """
        try:
            self._delete_expired()
            applied = await asyncio.to_thread(self.store.flush)
        except StoreFull:
            return False
        self.log.trim(applied)
        return True

    def _delete_expired(self) -> None:
        """Delete the rows of sessions and keys whose time is over."""
        memory, limits = self._memory, self.partition.memory.limits
        sessions = max(0, memory.time_ms - limits.session_window_ms).to_bytes(6, "big")
        hour = max(0, memory.time_ms - limits.key_retention_ms - rows.HOUR_MS) // rows.HOUR_MS
        # A store that is busy has to flush first: they go the next time.
        with contextlib.suppress(StoreBusy):
            self.store.delete_range(b"s", b"s" + sessions)
            self.store.delete_range(b"k", b"k" + hour.to_bytes(4, "big"))

    def reopen_store(self, store: Store) -> None:
        """Go on with the same store, opened again: bring it back to where it was.

        Raises:
            StoreDamaged, LogDamaged, StoreFull: It does not work out.
        """
        memory = self._memory
        rebuilt = Memory(StoreRows(store), Residents(Limits()), Limits(), store.applied)
        # A batch that the store has refused may be in it nevertheless.
        lacking = islice(self.log.bodies(store.applied), max(0, memory.applied - store.applied))
        for first, bodies in pieces(store.applied + 1, lacking):
            replay_all(rebuilt, first, bodies)
        while (batch := rebuilt.take_batch()) is not None:
            store.write(batch.puts, batch.deletes, batch.applied, batch.cleared)
            rebuilt.batch_written(batch)
        self.store = store
        memory.use_store(StoreRows(store))

    def close(self) -> None:
        """Close the store. What it lacks is in the log."""
        self.store.close()


Damaged = (StoreDamaged, LogDamaged, DamageFound)
"""What says that a partition's data cannot be trusted."""
