"""The mark file: what was durable, kept outside the segments.

Three slots. Slots 1 and 2 are written in turn after every sync, through a mapping and without a
sync of their own: the page cache keeps them over the death of the process, and after a power
cut they are at worst older. Slot 0 is written and synced when a segment is begun and before one
is deleted, so that a readable mark is always there and names every partition.

Mapped and not written, because a write would release the interpreter lock in the writer's
thread once more for each group, and getting it back can take milliseconds.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from perdure_node.journal.format import (
    LAST_BYTES,
    SLOT_BYTES,
    Mark,
    pack_last,
    pack_last_into,
    pack_mark,
    unpack_mark,
)
from perdure_node.journal.settings import JournalSettings

__all__ = ["MarkFile", "read_mark"]

_SLOTS = 3


def read_mark(path: Path) -> Mark | None:
    """Return the newest readable mark, or None."""
    return _read(path)[0]


def _read(path: Path) -> tuple[Mark | None, int]:
    """Return the newest readable mark and its slot."""
    try:
        data = path.read_bytes()
    except OSError:
        return None, 0
    newest: Mark | None = None
    newest_slot = 0
    for slot in range(_SLOTS):
        mark = unpack_mark(data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES])
        if mark is not None and (newest is None or mark.group > newest.group):
            newest, newest_slot = mark, slot
    return newest, newest_slot


class MarkFile:
    """The open mark file. Used by one thread at a time."""

    def __init__(self, descriptor: int, mapping: mmap.mmap, sync: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._mapping = mapping
        self._sync = sync
        self._group = 0
        self._entries = bytearray()
        self._entry_offsets: dict[int, int] = {}
        self._turn = 1

    @classmethod
    def open(cls, path: Path, mark: Mark, settings: JournalSettings) -> MarkFile:
        """Open the mark file, or make one, and write `mark` into it durably.

        The caller syncs the directory.
        """
        newest, slot = _read(path)
        if newest is None:
            return cls._create(path, mark, settings)
        # In place, because a full disk has no room for another one.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            mapping = mmap.mmap(descriptor, _SLOTS * SLOT_BYTES)
        except BaseException:
            os.close(descriptor)
            raise
        file = cls(descriptor, mapping, settings.sync)
        # The next slot written must not be the one that holds the newest mark.
        file._turn = slot or 1
        file.write(mark.group, mark.lasts)
        file.write_synced()
        return file

    @classmethod
    def _create(cls, path: Path, mark: Mark, settings: JournalSettings) -> MarkFile:
        temporary = path.with_suffix(".tmp")
        size = _SLOTS * SLOT_BYTES
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Allocated, because a mapped page that finds the disk full kills the process.
            settings.allocate(descriptor, size)
            mapping = mmap.mmap(descriptor, size)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            raise
        file = cls(descriptor, mapping, settings.sync)
        file.write(mark.group, mark.lasts)
        file.write_synced()
        temporary.rename(path)
        return file

    def write(self, group: int, lasts: Mapping[int, int]) -> None:
        """Note that everything up to `group` is durable. `lasts` are the sequences that rose."""
        self._group = group
        offsets = self._entry_offsets
        for partition, last in lasts.items():
            offset = offsets.get(partition)
            if offset is None:
                offsets[partition] = len(self._entries)
                self._entries += pack_last(partition, last)
            else:
                pack_last_into(self._entries, offset, partition, last)
        self._turn = 3 - self._turn
        self._put(self._turn)

    def write_synced(self) -> None:
        """Make the present mark durable."""
        self._put(0)
        self._sync(self._descriptor)

    def _put(self, slot: int) -> None:
        data = pack_mark(self._group, len(self._entries) // LAST_BYTES, self._entries)
        start = slot * SLOT_BYTES
        self._mapping[start : start + len(data)] = data

    def close(self) -> None:
        """Release the file."""
        self._mapping.close()
        os.close(self._descriptor)
