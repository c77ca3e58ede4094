"""The journal's settings: sizes, and the system calls that tests replace."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["JournalSettings"]

_ZEROS: Final = bytes(1 << 20)


def _allocate(descriptor: int, size_bytes: int) -> None:
    os.posix_fallocate(descriptor, 0, size_bytes)
    # Blocks that were never written cost the file system a commit of its own in each later
    # sync, which makes that take twice as long. In steps, so as not to hold up other syncs.
    for offset in range(0, size_bytes, len(_ZEROS)):
        os.pwrite(descriptor, _ZEROS[: size_bytes - offset], offset)
        os.fdatasync(descriptor)


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """How a journal uses its disk."""

    segment_bytes: int = 8 << 20
    """Size of a segment file. Two are allocated while the node runs, so this much twice is what
    an idle node takes. A record that does not fit gets a segment of its own size."""

    group_bytes_max: int = 1 << 20
    """Records beyond this go into the next group, so that the first ones of a long queue do not
    wait for all. One record larger than this is a group of its own."""

    kept_bytes: int = 64 << 20
    """So much of a journal stays in memory from its reading until its partitions are opened. Of a
    longer one they read the rest from the disk again, each for itself."""

    retry_s: float = 1.0
    """How long to wait after a full disk before trying again."""

    sync: Callable[[int], None] = os.fdatasync
    """Makes a file or directory durable. Runs in the journal's threads."""

    allocate: Callable[[int, int], None] = _allocate
    """Reserves room for a new file, so that later writes into it cannot find the disk full.
    Runs in a thread of its own."""
