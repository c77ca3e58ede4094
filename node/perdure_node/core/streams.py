"""The streams of a partition's runs: chunks that are appended, read and followed.

Invariants:
  * An index is used once. What a failed attempt of a step has written stays where it is; a
    marker behind it says from which index on it is void.
  * What records above `applied` have written is in memory, the rest is in the store.
  * Of a run that has gone nothing is read any more, although the store may still have it: another
    run of its id begins with no streams.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from perdure.ids import ObjectKey
from perdure_node.core import stream_rows as rows
from perdure_node.core.events import Chunk

if TYPE_CHECKING:
    from perdure_node.core.store_reader import StoreReader

__all__ = ["Page", "Streams"]

_PAGE_BYTES: Final = 1 << 20
_PAGE: Final = 1_000


class Page(NamedTuple):
    """A part of a stream."""

    chunks: list[tuple[int, bytes | None, int]]
    """Index, and a payload; or None, and the first index of what is void up to here."""
    next: int
    """Where to read on."""


class _Stream:
    """What is known of one stream."""

    def __init__(self, length: int, void: list[int]) -> None:
        self.length = length
        self.void = void
        """`[first, at, first, at, ...]`: from `first` up to the marker at `at` nothing counts."""
        self.recent: deque[tuple[int, Chunk]] = deque()
        """What the store may not have, with the records that it is in."""
        self.is_dirty = False
        """The summary in the store is an older one."""


class Streams:
    """The streams of one partition."""

    def __init__(self, store: StoreReader) -> None:
        self._store = store
        self._known: dict[str, dict[str, _Stream]] = {}
        """By run and name."""
        self._gone: dict[str, int] = {}
        """Runs that have gone, and the records that say so, which the store does not have."""

    def use_store(self, store: StoreReader) -> None:
        """Read from this store from now on. It holds what the one before it held."""
        self._store = store

    def length(self, run: str, stream: str) -> int:
        """Return the next index of a stream."""
        return self._of(run, stream).length

    def names(self, run: str) -> list[str]:
        """Return the streams of a run."""
        found = set(self._known.get(run, ()))
        after = b""
        while run not in self._gone:
            page = self._store.scan(rows.summary_prefix(run), after, _PAGE)
            found |= {rows.stream_of(run, key) for key, _ in page}
            if len(page) < _PAGE:
                break
            after = page[-1][0]
        return sorted(name for name in found if self.length(run, name))

    def add(self, key: ObjectKey, chunk: Chunk, record: int) -> None:
        """Take over what a commit has written."""
        stream = self._of(key.id, chunk.stream)
        stream.length = max(stream.length, chunk.at + 1)
        if chunk.rewound >= 0:
            stream.void = [*stream.void, chunk.rewound, chunk.at]
        stream.recent.append((record, chunk))
        stream.is_dirty = True

    def forget(self, run: str, record: int) -> None:
        """Take over that a run has gone."""
        self._known.pop(run, None)
        self._gone[run] = record

    def read(self, run: str, name: str, start: int, limit: int) -> Page:
        """Return chunks from an index on, without what is void.

        A reader that has got a part of what is void is told so by its marker; others never see it.
        """
        stream = self._of(run, name)
        found: list[tuple[int, bytes | None, int]] = []
        at, size = max(0, start), 0
        while at < stream.length and len(found) < limit and size < _PAGE_BYTES:
            skipped = self._skip(stream, at, start)
            if skipped > at:
                at = skipped
                continue
            chunk = self._chunk(run, stream, name, at)
            at += 1
            if chunk is None:
                continue
            if chunk.rewound < 0:
                found.append((chunk.at, chunk.payload, -1))
                size += len(chunk.payload)
            elif chunk.rewound < start:
                found.append((chunk.at, None, chunk.rewound))
        return Page(found, at)

    @staticmethod
    def _skip(stream: _Stream, at: int, start: int) -> int:
        """Return where to go on: behind what is void, or at its marker if the reader needs that."""
        void = stream.void
        for i in range(0, len(void), 2):
            first, marker = void[i], void[i + 1]
            if first <= at < marker:
                return marker if start > first else marker + 1
        return at

    def _chunk(self, run: str, stream: _Stream, name: str, index: int) -> Chunk | None:
        recent = stream.recent
        if recent and index >= recent[0][1].at:
            return recent[index - recent[0][1].at][1]
        key = rows.chunk_key(run, name, index)
        row = self._store.get(key)
        return None if row is None else rows.unpack_chunk(name, key, row)

    # To the store.

    def summaries(self, applied: int) -> list[tuple[bytes, bytes]]:
        """Return the rows of summaries that have changed, as of a record."""
        puts: list[tuple[bytes, bytes]] = []
        for run, streams in self._known.items():
            if self._gone.get(run, 0) > applied:
                continue  # They are those of another run: the store still has the one before it.
            for name, stream in streams.items():
                if stream.is_dirty:
                    row = self._summary(stream, applied)
                    puts.append((rows.summary_key(run, name), row))
        return puts

    @staticmethod
    def _summary(stream: _Stream, applied: int) -> bytes:
        later = [chunk for record, chunk in stream.recent if record > applied]
        length = later[0].at if later else stream.length
        # A marker lies behind all that it is about.
        void = zip(stream.void[::2], stream.void[1::2], strict=True)
        kept = [n for pair in void if pair[1] < length for n in pair]
        return rows.pack_summary(length, kept)

    def written(self, applied: int) -> None:
        """Let go of what the store has now."""
        for run in [run for run, record in self._gone.items() if record <= applied]:
            del self._gone[run]
        for run, streams in list(self._known.items()):
            for name, stream in list(streams.items()):
                while stream.recent and stream.recent[0][0] <= applied:
                    stream.recent.popleft()
                if not stream.recent:
                    # The next look reads the summary.
                    del streams[name]
            if not streams:
                del self._known[run]

    def _of(self, run: str, name: str) -> _Stream:
        streams = self._known.setdefault(run, {})
        stream = streams.get(name)
        if stream is None:
            row = None if run in self._gone else self._store.get(rows.summary_key(run, name))
            stream = _Stream(*(rows.unpack_summary(row) if row is not None else (0, [])))
            streams[name] = stream
        return stream
