"""The two clocks of a node: one for durations, one for the calendar."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What a node knows of time. Milliseconds."""

    def monotonic_ms(self) -> int:
        """Never goes back; says nothing about the calendar."""
        ...

    def wall_ms(self) -> int:
        """Since 1970 in UTC. May jump."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def monotonic_ms(self) -> int:
        """Return the machine's monotonic clock."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Return the machine's wall clock."""
        return time.time_ns() // 1_000_000
