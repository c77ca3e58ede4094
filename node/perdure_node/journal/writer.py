"""The writer's thread: one group at a time, written, synced, marked, told."""

from __future__ import annotations

import os
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from perdure_node.journal.batch import Batch
from perdure_node.journal.format import (
    PAGE,
    SegmentHeader,
    group_bytes,
    group_header_bytes,
    pack_group,
    pack_segment_header,
)
from perdure_node.journal.mark import MarkFile
from perdure_node.journal.segments import (
    OpenSegment,
    delete_segments,
    is_full,
    prepare_segment,
    write_at,
)
from perdure_node.journal.settings import JournalSettings

__all__ = ["Deletion", "Placed", "Reports", "Writer"]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the body of a durable batch lies."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Deletion:
    """Segments that nobody needs any more."""

    numbers: list[int]


class _LookAgain:
    """A segment is prepared, or it is time to try again."""


class Reports(Protocol):
    """What the writer tells. Called in its thread."""

    def durable(self, batch: Batch, placed: Placed) -> None:
        """The batch is durable and marked so."""
        ...

    def room(self, has_room: bool, batch_waits: bool) -> None:
        """Whether there is a next segment, or whether the batch has to wait, has changed."""
        ...

    def failed(self, error: BaseException) -> None:
        """The disk has failed: the thread ends, and nothing becomes durable any more."""
        ...

    def stopped(self, error: OSError | None) -> None:
        """The thread ends, and all files are released, or (`error`) could not be."""
        ...


class Writer:
    """Owns the segment that is written and the next one. Its work is in its own thread.

    Segments are prepared in one more thread, because filling one takes as long as many groups.

    Invariants:
      * A group is written only after the sync of the group before has returned.
      * The mark is written after that sync, and before anyone is told.
      * `has_room` is False from the moment when the next segment cannot be allocated.
    """

    def __init__(
        self,
        directory: Path,
        identity: bytes,
        settings: JournalSettings,
        mark: MarkFile,
        *,
        next_group: int,
        next_segment: int,
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._settings = settings
        self._mark = mark
        self._next_group = next_group
        self._next_segment = next_segment
        self._present: OpenSegment | None = None
        self._next: OpenSegment | None = None
        self._preparation: Future[OpenSegment] | None = None
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="perdure-segments")
        self._doomed: list[int] = []
        self._queue: queue.SimpleQueue[Batch | Deletion | _LookAgain | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._reports: Reports | None = None
        self._batch_waits = False
        self.has_room = self._prepare(settings.segment_bytes)
        """Changed by the thread; `Reports.room` tells."""

    def start(self, reports: Reports) -> None:
        """Begin to work."""
        self._reports = reports
        # A daemon: a process whose loop has ended without closing must be able to exit.
        self._thread = threading.Thread(target=self._run, name="perdure-journal", daemon=True)
        self._thread.start()

    def put(self, work: Batch | Deletion) -> None:
        """Hand over work. At most one batch may be on its way."""
        self._queue.put(work)

    def stop(self) -> None:
        """End after the work handed over, except what waits for room, and release all files.

        `Reports.stopped` tells when that is done. The thread does it, and no other is started:
        from Python 3.12 on none can be while the process ends.
        """
        self._queue.put(None)

    def join(self) -> None:
        """Stop, and return once that is done. Blocks as long as the disk does."""
        self.stop()
        if self._thread is None:
            self._release()
        else:
            self._thread.join()

    def _run(self) -> None:
        assert self._reports is not None
        try:
            self._work()
        except BaseException as error:
            self._reports.failed(error)
        try:
            self._release()
        except OSError as error:
            self._reports.stopped(error)
        else:
            self._reports.stopped(None)

    def _release(self) -> None:
        self._preparer.shutdown()
        if self._preparation is not None and self._preparation.exception() is None:
            self._next = self._preparation.result()
        if self._next is not None:
            self._next.discard()
        if self._present is not None:
            self._present.close()
        self._mark.close()

    def _work(self) -> None:
        assert self._reports is not None
        waiting: Batch | None = None
        while (work := self._take()) is not None:
            if isinstance(work, Deletion):
                self._doomed += work.numbers
                self._delete()
            elif isinstance(work, Batch):
                waiting = work
            # After a deletion too, and each time the wait for room is over.
            if waiting is not None and (placed := self._write(waiting)) is not None:
                self._reports.durable(waiting, placed)
                waiting = None
            self._look_ahead(waiting is not None)
        if self._present is not None and waiting is None:
            # What is not used of it goes back to the file system.
            os.ftruncate(self._present.descriptor, self._present.end)

    def _take(self) -> Batch | Deletion | _LookAgain | None:
        try:
            return self._queue.get(timeout=None if self.has_room else self._settings.retry_s)
        except queue.Empty:
            return _LookAgain()

    def _delete(self) -> None:
        try:
            # From now on only the mark knows the last sequences of idle partitions.
            self._mark.write_synced()
            delete_segments(self._directory, self._doomed, self._settings)
        except OSError as error:
            if not is_full(error):
                raise
        else:
            self._doomed = []

    def _write(self, batch: Batch) -> Placed | None:
        """Make a batch durable, or return None when there is no room: to be tried again."""
        segment = self._segment_for(group_bytes(len(batch.lasts), batch.size))
        if segment is None:
            return None
        data = pack_group(segment.id, self._next_group, batch.lasts, b"".join(batch.parts))
        begins = segment.end == 0
        if begins:
            header = SegmentHeader(segment.id, segment.number, self._next_group, self._identity)
            data = pack_segment_header(header) + data
        try:
            write_at(segment.descriptor, data, segment.end)
            self._settings.sync(segment.descriptor)
        except OSError as error:
            if not is_full(error):
                raise
            # Some file systems promise less than they allocate. Trying again writes every byte
            # of the group again, so the next sync speaks for all of them.
            return None
        body_offset = segment.end + PAGE * begins + group_header_bytes(len(batch.lasts))
        segment.end += len(data)
        self._mark.write(self._next_group, batch.lasts)
        if begins:
            self._mark.write_synced()
        self._next_group += 1
        return Placed(segment.number, body_offset)

    def _segment_for(self, size: int) -> OpenSegment | None:
        """Return a segment with room for a group, or None when the disk has none."""
        present = self._present
        if present is not None and (present.end or PAGE) + size <= present.size:
            return present
        self._take_prepared()
        needed = max(PAGE + size, self._settings.segment_bytes)
        if self._next is not None and self._next.size < needed:
            self._next.discard()
            self._next = None
        if self._next is None and not self._prepare(needed):
            return None
        if present is not None:
            present.close()
        self._present, self._next = self._next, None
        return self._present

    def _look_ahead(self, batch_waits: bool) -> None:
        """Have a next segment prepared, and tell when there is none to be had, or one again."""
        assert self._reports is not None
        prepared = True
        if self._preparation is not None and (self._preparation.done() or self._half_full()):
            # Waited for, so that half a segment is left for what has been run already when
            # everyone is told that there is no room.
            prepared = self._take_prepared()
        if self._next is None and self._preparation is None:
            if self.has_room and prepared:
                self._preparation = self._submit(self._settings.segment_bytes)
                self._preparation.add_done_callback(lambda _: self._queue.put(_LookAgain()))
            elif prepared:
                prepared = self._prepare(self._settings.segment_bytes)
        if self.has_room and self._doomed:
            self._delete()
        has_room = prepared and not batch_waits
        if (has_room, batch_waits) != (self.has_room, self._batch_waits):
            self.has_room, self._batch_waits = has_room, batch_waits
            self._reports.room(has_room, batch_waits)

    def _half_full(self) -> bool:
        return self._present is None or 2 * self._present.end > self._present.size

    def _prepare(self, size: int) -> bool:
        """Allocate the next segment now. False when there is no room for it."""
        self._preparation = self._submit(size)
        return self._take_prepared()

    def _submit(self, size: int) -> Future[OpenSegment]:
        number = self._next_segment
        self._next_segment += 1
        return self._preparer.submit(prepare_segment, self._directory, number, size, self._settings)

    def _take_prepared(self) -> bool:
        """Wait for the segment that is being prepared. False when there is no room for it."""
        preparation, self._preparation = self._preparation, None
        if preparation is None:
            return True
        try:
            self._next = preparation.result()
        except OSError as error:
            if not is_full(error):
                raise
            return False
        return True
