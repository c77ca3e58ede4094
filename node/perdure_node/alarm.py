"""Wakes somebody when a clock shows a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["Alarm"]

_LONGEST_S: Final = 60.0
"""The longest wait before the clock is looked at again: the wall clock may be set."""


class Alarm:
    """One alarm, for the earliest of the times that it is told."""

    def __init__(self, clock_ms: Callable[[], int], ring: Callable[[int], None]) -> None:
        """Make it.

        Args:
            clock_ms: The clock that counts.
            ring: Called with the time of that clock, which may be earlier than was asked for: then
                it is to be set again.
        """
        self._clock_ms = clock_ms
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._due_ms = 0

    def set(self, due_ms: int, now_ms: int) -> None:
        """Ring at a time of the clock, or earlier if that was asked for before."""
        if self._handle is not None:
            if self._due_ms <= due_ms:
                return
            self._handle.cancel()
        self._due_ms = due_ms
        delay_s = min(max(0.0, (due_ms - now_ms) / 1000), _LONGEST_S)
        self._handle = asyncio.get_running_loop().call_later(delay_s, self._now)

    def cancel(self) -> None:
        """Do not ring any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _now(self) -> None:
        self._handle = None
        self._ring(self._clock_ms())
