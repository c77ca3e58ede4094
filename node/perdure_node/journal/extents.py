"""Where the bodies of groups lie on the disk, and reading them again."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from perdure_node.journal.segments import segment_path

__all__ = ["BodyReader", "Extents"]


@dataclass(slots=True)
class Extents:
    """Where bodies lie: positions count the bytes of all bodies, whatever file they are in."""

    starts: array[int] = field(default_factory=lambda: array("Q"))
    where: list[tuple[int, int, int]] = field(default_factory=list)
    """(segment, offset, length) of each."""
    end: int = 0

    def add(self, segment: int, offset: int, length: int) -> int:
        """Note the next body, and return its position."""
        start = self.end
        self.starts.append(start)
        self.where.append((segment, offset, length))
        self.end += length
        return start

    def forget(self, segments: set[int]) -> None:
        """Drop the bodies of deleted segments."""
        kept = [i for i, place in enumerate(self.where) if place[0] not in segments]
        self.starts = array("Q", [self.starts[i] for i in kept])
        self.where = [self.where[i] for i in kept]


class BodyReader:
    """Reads bodies in the order of their positions. Use it with `with`."""

    def __init__(self, directory: Path, extents: Extents) -> None:
        self._directory = directory
        self._extents = extents
        self._segment = -1
        self._descriptor = -1
        self._start = 0
        self._body = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def at(self, position: int) -> tuple[bytes, int]:
        """Return the body that holds a position, and the position's offset in it.

        Raises:
            OSError: The disk cannot read it, or the segment is deleted.
        """
        if not self._start <= position < self._start + len(self._body):
            # Looked up each time: segments may be deleted while somebody reads.
            index = max(bisect_right(self._extents.starts, position) - 1, 0)
            segment, offset, length = self._extents.where[index]
            if not self._extents.starts[index] <= position < self._extents.starts[index] + length:
                raise FileNotFoundError("its segment is deleted")
            if segment != self._segment:
                self._close()
                flags = os.O_RDONLY | os.O_CLOEXEC
                self._descriptor = os.open(segment_path(self._directory, segment), flags)
                self._segment = segment
            self._start = self._extents.starts[index]
            self._body = os.pread(self._descriptor, length, offset)
        return self._body, position - self._start

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = self._segment = -1
