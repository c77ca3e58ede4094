"""A journal that is memory: for simulations, and for tests that hold a sync back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from perdure_node.log import LogDamaged, LogRecord

__all__ = ["MemoryJournal", "MemoryLog"]


def _ignore(durable: int) -> None:
    """Nobody has asked to be told."""


class MemoryLog:
    """A `PartitionLog` in memory."""

    def __init__(self, journal: MemoryJournal, partition: int, after: int) -> None:
        self._journal = journal
        self._records: list[LogRecord] = []
        self.partition = partition
        self.first = after + 1
        self.last = after
        self.durable = after
        self.epoch = 0
        self.on_durable: Callable[[int], None] = _ignore

    def append(self, body: bytes) -> int:
        """See `PartitionLog.append`."""
        return self._add(body, is_claim=False)

    def claim(self, epoch: int, owner: str) -> int:
        """See `PartitionLog.claim`."""
        if epoch <= self.epoch:
            raise ValueError(f"epoch {epoch} is not above {self.epoch}")
        self.epoch = epoch
        return self._add(owner.encode(), is_claim=True)

    def _add(self, body: bytes, *, is_claim: bool) -> int:
        self.last += 1
        self._records.append(LogRecord(self.last, self.epoch, is_claim, body))
        self._journal.undurable_bytes += len(body)
        return self.last

    def barrier(self) -> bool:
        """See `PartitionLog.barrier`."""
        return True

    def read(self, after: int) -> Iterator[LogRecord]:
        """See `PartitionLog.read`."""
        if after + 1 < self.first:
            text = f"records {after + 1} to {self.first - 1} are not there"
            raise LogDamaged(self.partition, text)
        return iter(self._records[after + 1 - self.first : self.durable + 1 - self.first])

    def bodies(self, after: int) -> Iterator[bytes | None]:
        """See `PartitionLog.bodies`."""
        return (None if record.is_claim else record.body for record in self.read(after))

    def trim(self, up_to: int) -> None:
        """See `PartitionLog.trim`."""
        up_to = min(up_to, self.durable)
        if up_to >= self.first:
            del self._records[: up_to + 1 - self.first]
            self.first = up_to + 1

    def survivor(self, journal: MemoryJournal) -> MemoryLog:
        """Return what a crash leaves of this log."""
        log = MemoryLog(journal, self.partition, self.first - 1)
        log._records = list(self.read(self.first - 1))
        log.last = log.durable = self.durable
        log.epoch = log._records[-1].epoch if log._records else 0
        return log


class MemoryJournal:
    """Takes the place of a `NodeJournal`. `crash` returns one that has what was durable."""

    def __init__(self, *, holds_syncs: bool = False) -> None:
        self.holds_syncs = holds_syncs
        """Nothing becomes durable before `sync` is called."""
        self.has_room = True
        self.undurable_bytes = 0
        self.disk_bytes = 0
        self.damaged: dict[int, str] = {}
        self._logs: dict[int, MemoryLog] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sync_ordered = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to make records durable."""
        self._loop = loop

    def log(self, partition: int, after: int = 0) -> MemoryLog:
        """Return the log of a partition, always the same one."""
        log = self._logs.get(partition)
        if log is None:
            log = self._logs[partition] = MemoryLog(self, partition, after)
        elif not log.first <= after + 1 <= log.last + 1:
            text = f"it has records {log.first} to {log.last}, the store ends at {after}"
            raise LogDamaged(partition, text)
        return log

    def flush(self) -> None:
        """Make everything appended so far durable, soon."""
        if self._loop is not None and not self._sync_ordered and not self.holds_syncs:
            self._sync_ordered = True
            self._loop.call_soon(self.sync)

    def sync(self) -> None:
        """Make everything appended so far durable, now."""
        self._sync_ordered = False
        self.undurable_bytes = 0
        risen = [log for log in self._logs.values() if log.durable < log.last]
        for log in risen:
            log.durable = log.last
        for log in risen:
            log.on_durable(log.durable)

    def crash(self) -> MemoryJournal:
        """Return the journal that the next process finds. This one must not be used again."""
        survivor = MemoryJournal(holds_syncs=self.holds_syncs)
        survivor._logs = {n: log.survivor(survivor) for n, log in self._logs.items()}
        return survivor

    async def close(self) -> None:
        """Make everything appended durable."""
        self.sync()

    def abandon(self) -> None:
        """Drop what is not durable."""
