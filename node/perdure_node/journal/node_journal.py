"""The node journal: every tick's records of all partitions in one write and one sync.

    the event loop                          the writer's thread
      log.append ... append -> batch
      journal.flush() -> the batch goes  ->   one write, one sync, the mark
      on_durable of each log            <-    durable
      (what was flushed meanwhile is the next batch)

Invariants:
  * One batch is on its way at a time, so records become durable in their order.
  * After the disk has failed `on_durable` is never called again.
  * A partition whose records are damaged is refused by `log`; all others are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from perdure.ids import PARTITIONS_MAX
from perdure_node.journal.analysis import PartitionRecords, find_damage
from perdure_node.journal.batch import Batch, Waiting
from perdure_node.journal.format import IDENTITY_BYTES_MAX, LOST, UNNAMED
from perdure_node.journal.node_log import NodeLog
from perdure_node.journal.recovery import JournalUnusable, Recovered, recover
from perdure_node.journal.segments import list_segments, segment_path
from perdure_node.journal.settings import JournalSettings
from perdure_node.journal.writer import Deletion, Placed, Writer
from perdure_node.log import LogDamaged

__all__ = ["JournalSettings", "JournalUnusable", "NodeJournal"]


class NodeJournal:
    """The journal of one node. Everything is called on the event loop."""

    def __init__(
        self,
        directory: Path,
        recovered: Recovered,
        writer: Writer,
        settings: JournalSettings,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.directory = directory
        self._recovered = recovered
        self._writer = writer
        self._on_fatal = on_fatal
        self._loop: asyncio.AbstractEventLoop | None = None
        self._logs: dict[int, NodeLog] = {}
        self._segments = recovered.segments
        self._present = 0
        self._on_its_way: Batch | None = None
        self._flush_wanted = False
        self._failed = False
        self._batch_waits = False
        self._idle: asyncio.Event | None = None
        self.extents = recovered.extents
        self.waiting = Waiting(self.extents.end, settings.group_bytes_max)
        """Takes the records that are appended now. For `NodeLog` only."""
        self.has_room = writer.has_room
        """Whether new writes may be run. False: the next segment could not be allocated; it is
        tried again each `retry_s`. What was appended is kept and written as soon as there is
        room, at once as far as the present segment goes."""
        self.damaged: dict[int, str] = _surely_damaged(recovered)
        """Partitions that lack records at their end, and why, whatever their store holds, and
        those that `log` has refused."""

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        identity: bytes,
        settings: JournalSettings | None = None,
        on_fatal: Callable[[BaseException], None],
        new: bool | None = None,
    ) -> NodeJournal:
        """Read the journal of a directory and prepare to go on with it.

        Reads all of it, and writes and syncs; blocks accordingly.

        Args:
            directory: Made when it is missing. Nobody else may use it.
            identity: Of the node, at most 64 bytes. A journal belongs to one for ever.
            settings: Sizes, and system calls for tests.
            on_fatal: Called once, on the loop, when the disk has failed. The process must exit.
            new: True: there must be no journal yet. False: there must be one. None: either.

        Raises:
            JournalUnusable: There is none or one, against `new`, or it belongs to another node.
            OSError: The disk fails, or is so full that not even the last group can be copied.
        """
        if len(identity) > IDENTITY_BYTES_MAX:
            raise ValueError(f"an identity has at most {IDENTITY_BYTES_MAX} bytes")
        settings = settings or JournalSettings()
        exists = (directory / "mark").exists() or bool(list_segments(directory))
        if new is not None and exists is new:
            state = "already holds a journal" if exists else "holds no journal"
            raise JournalUnusable(f"{directory} {state}")
        recovered = recover(directory, identity, settings)
        writer = Writer(
            directory,
            identity,
            settings,
            recovered.mark,
            next_group=recovered.next_group,
            next_segment=recovered.next_segment,
        )
        return cls(directory, recovered, writer, settings, on_fatal)

    @property
    def undurable_bytes(self) -> int:
        """Bytes of records that were appended and are not durable yet."""
        return self.waiting.position - self.extents.end

    @property
    def disk_bytes(self) -> int:
        """Bytes of all segment files. Trimming makes them fewer."""
        return sum(
            segment_path(self.directory, number).stat().st_size
            for number in list_segments(self.directory)
        )

    @property
    def unopened(self) -> list[int]:
        """Partitions that have records here and whose `log` nobody has asked for.

        No segment that they need, and none after it, is deleted before that.
        """
        partitions = self._recovered.partitions
        return sorted(p for p in partitions if p not in self.damaged)

    @property
    def epoch(self) -> int:
        """The highest epoch of all partitions whose `log` nobody has asked for yet."""
        return max((records.epoch for records in self._recovered.partitions.values()), default=0)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to make records durable. `on_durable` is called on this loop."""
        self._loop = loop
        self._stopped: asyncio.Future[OSError | None] = loop.create_future()
        self._writer.start(_ToLoop(loop, self))

    def log(self, partition: int, after: int = 0) -> NodeLog:
        """Return the log of a partition, always the same one.

        Args:
            partition: Its number, below `PARTITIONS_MAX`.
            after: What the partition's store holds, durably: the log is readable from the next
                record on, and begins there if it has none.

        Raises:
            LogDamaged: Records above `after` were durable and cannot be read, or the store holds
                more than the journal ever did.
        """
        log = self._logs.get(partition)
        if log is not None:
            return log
        if not 0 <= partition < PARTITIONS_MAX:
            raise ValueError(f"a partition is a number below {PARTITIONS_MAX}, not {partition}")
        recovered = self._recovered
        records = recovered.partitions.pop(partition, None)
        reach = recovered.lasts.get(partition, recovered.lasts.get(UNNAMED))
        damage = find_damage(records, reach, after=after, mark_readable=recovered.mark_readable)
        if damage is not None:
            if records is not None:
                records.bodies = []
                recovered.partitions[partition] = records
            self.damaged[partition] = damage
            raise LogDamaged(partition, damage)
        self.damaged.pop(partition, None)
        if records is None or records.last < after:
            # All of it is in the store. The chain begins anew.
            epoch = records.epoch if records is not None else 0
            records = PartitionRecords(first=after + 1, last=after, epoch=epoch)
        log = self._logs[partition] = NodeLog(
            self,
            partition,
            first=records.first,
            last=records.last,
            chain=records.chain,
            epoch=records.epoch,
            places=records.places,
            kept=records.bodies,
        )
        return log

    def flush(self) -> None:
        """Make everything appended so far durable, as one group if it is not too long.

        To be called at the end of a tick. While a group is on its way this only makes sure that
        the next one follows it at once.
        """
        if self._on_its_way is not None:
            self._flush_wanted = True
        elif not self._failed and self._loop is not None:
            self._send_next()

    def _send_next(self) -> None:
        batch = self.waiting.take()
        if batch is None:
            return
        self._on_its_way = batch
        self._flush_wanted = bool(self.waiting)
        self._writer.put(batch)

    def became_durable(self, batch: Batch, placed: Placed) -> None:
        """Tell the logs of a batch. Called by the writer, on the loop."""
        if self._failed:
            return
        self._on_its_way = None
        self.extents.add(placed.segment, placed.offset, batch.size)
        self._present = placed.segment
        self._segments.setdefault(placed.segment, {}).update(batch.lasts)
        if self._flush_wanted:
            self._send_next()
        told = [(self._logs[partition], last) for partition, last in batch.lasts.items()]
        for log, last in told:
            log.durable = last
        for log, last in told:
            log.on_durable(last)
        if self._idle is not None and self._on_its_way is None:
            self._idle.set()

    def room_changed(self, has_room: bool, batch_waits: bool) -> None:
        """Note whether there is room. Called by the writer, on the loop."""
        self.has_room = has_room
        self._batch_waits = batch_waits
        if self._idle is not None and batch_waits:
            self._idle.set()

    def failed(self, error: BaseException) -> None:
        """Give up for good. Called by the writer, on the loop."""
        self._failed = True
        if self._idle is not None:
            self._idle.set()
        self._on_fatal(error)

    def stopped(self, error: OSError | None) -> None:
        """Take word that the writer has let go of all files. Called by it, on the loop."""
        if not self._stopped.done():
            self._stopped.set_result(error)

    def trimmed(self) -> None:
        """Delete the segments that nobody needs any more. For `NodeLog` only."""
        free: list[int] = []
        for number in sorted(self._segments):
            if number == self._present:
                break
            holders = [p for p, last in self._segments[number].items() if self._needs(p, last)]
            if not holders:
                free.append(number)
            elif not all(p in self.damaged or p == UNNAMED for p in holders):
                # In order, so that only damage can leave a hole in the count of groups.
                break
        if free:
            for number in free:
                del self._segments[number]
            self.extents.forget(set(free))
            self._writer.put(Deletion(free))

    def _needs(self, partition: int, last: int) -> bool:
        log = self._logs.get(partition)
        return log is None or log.first <= last

    async def close(self) -> None:
        """Make everything appended durable, as far as there is room, and release the files.

        Raises:
            OSError: The disk fails as they are released.
        """
        if self._loop is None:
            self._writer.join()
            return
        self._idle = asyncio.Event()
        self.flush()
        if self._on_its_way is not None and not (self._batch_waits or self._failed):
            await self._idle.wait()
        self._writer.stop()
        if (error := await self._stopped) is not None:
            raise error

    def abandon(self) -> None:
        """Release the files, from any thread, when the loop has ended without `close`.

        What was appended and not durable is dropped: nobody was told about it. Blocks as long
        as the disk does.
        """
        self._failed = True
        self._writer.join()


class _ToLoop:
    """Carries the writer's reports from its thread to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, journal: NodeJournal) -> None:
        self._loop = loop
        self._journal = journal

    def durable(self, batch: Batch, placed: Placed) -> None:
        self._call(self._journal.became_durable, batch, placed)

    def room(self, has_room: bool, batch_waits: bool) -> None:
        self._call(self._journal.room_changed, has_room, batch_waits)

    def failed(self, error: BaseException) -> None:
        self._call(self._journal.failed, error)

    def stopped(self, error: OSError | None) -> None:
        self._call(self._journal.stopped, error)

    def _call(self, what: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            # The loop has ended without closing the journal: nobody is there to be told.
            if not self._loop.is_closed():
                raise


def _surely_damaged(recovered: Recovered) -> dict[int, str]:
    """Return the partitions that cannot be served whatever their stores hold."""
    damaged: dict[int, str] = {}
    for partition, last in recovered.lasts.items():
        if last == LOST and partition != UNNAMED:
            damage = find_damage(None, last, after=0, mark_readable=recovered.mark_readable)
            assert damage is not None
            damaged[partition] = damage
    return damaged
