"""The files of a journal and what is done to them durably."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perdure_node.journal.format import PAGE, SegmentHeader, pack_group, pack_segment_header
from perdure_node.journal.settings import JournalSettings

__all__ = [
    "OpenSegment",
    "delete_segments",
    "is_full",
    "list_segments",
    "prepare_segment",
    "read_whole",
    "segment_path",
    "sync_directory",
    "write_at",
    "write_group_alone",
]


def segment_path(directory: Path, number: int) -> Path:
    """Return the name of a segment's file."""
    return directory / f"{number:012d}.seg"


def list_segments(directory: Path) -> list[int]:
    """Return the numbers of all segment files, in order."""
    return sorted(int(path.stem) for path in directory.glob("*.seg") if path.stem.isdecimal())


def is_full(error: OSError) -> bool:
    """Tell whether an error only says that there is no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync_directory(directory: Path, sync: Callable[[int], None]) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data`."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)


def read_whole(path: Path) -> bytes:
    """Read a file. Pages that the disk cannot read come as 0xFF, which no checksum accepts."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        return b"".join(_read_page(descriptor, offset) for offset in range(0, size, PAGE))
    finally:
        os.close(descriptor)


def _read_page(descriptor: int, offset: int) -> bytes:
    try:
        return os.pread(descriptor, PAGE, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b"\xff" * PAGE


@dataclass(slots=True)
class OpenSegment:
    """A segment file that is written, or will be next."""

    number: int
    path: Path
    descriptor: int
    size: int
    id: bytes
    end: int = 0
    """Where the next group goes. 0: the header is not written yet."""

    def close(self) -> None:
        """Release the file."""
        os.close(self.descriptor)

    def discard(self) -> None:
        """Release the file, which was never used, and delete it."""
        os.close(self.descriptor)
        self.path.unlink(missing_ok=True)


def prepare_segment(
    directory: Path, number: int, size: int, settings: JournalSettings
) -> OpenSegment:
    """Allocate the file of a segment, durably, so that groups written into it find room.

    Raises:
        OSError: `is_full` when there is no room; then no file is left.
    """
    path = segment_path(directory, number)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        settings.allocate(descriptor, size)
        settings.sync(descriptor)
        sync_directory(directory, settings.sync)
    except BaseException:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        raise
    return OpenSegment(number, path, descriptor, size, os.urandom(16))


def write_group_alone(
    directory: Path,
    header: SegmentHeader,
    lasts: dict[int, int],
    body: bytes,
    settings: JournalSettings,
) -> None:
    """Write a segment of one group, durably: after a crash it is whole or not there."""
    path = segment_path(directory, header.number)
    temporary = path.with_suffix(".tmp")
    data = pack_segment_header(header) + pack_group(header.id, header.first_group, lasts, body)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_at(descriptor, data, 0)
        settings.sync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    sync_directory(directory, settings.sync)


def delete_segments(directory: Path, numbers: list[int], settings: JournalSettings) -> None:
    """Delete segments, durably."""
    for number in numbers:
        segment_path(directory, number).unlink(missing_ok=True)
    sync_directory(directory, settings.sync)
