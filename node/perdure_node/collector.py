"""When the garbage collector looks for cycles."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["collector_paused"]


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Do not look for cycles meanwhile.

    What reads a journal makes many objects and no cycles, and looking through them again and
    again takes longer than making them. Nothing may be awaited here: it concerns the whole process.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
