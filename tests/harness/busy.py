"""How busy this machine is with other things: what tests of times have to allow for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE_S = 0.02


class Busy:
    """Somebody who does hardly anything all the time, and notes how long that takes."""

    def __init__(self) -> None:
        self.longest_ms = 0
        """So long, at most, it has taken more to sleep a moment and to sync a byte."""
        self._ended = threading.Event()

    def work(self, file: Path) -> None:
        """Sleep and sync until it is to end."""
        with file.open("wb", buffering=0) as out:
            while not self._ended.is_set():
                began_s = time.monotonic()
                time.sleep(PAUSE_S)
                out.write(b"x")
                os.fdatasync(out.fileno())
                late_s = time.monotonic() - began_s - PAUSE_S
                self.longest_ms = max(self.longest_ms, int(late_s * 1_000))

    def end(self) -> None:
        self._ended.set()


@contextmanager
def how_busy(folder: Path) -> Iterator[Busy]:
    """Give what is known of it, from the begin of the block to its end."""
    busy = Busy()
    worker = threading.Thread(target=busy.work, args=[folder / "busy"])
    worker.start()
    try:
        yield busy
    finally:
        busy.end()
        worker.join()
