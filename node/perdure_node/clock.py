"""The two clocks of a node: one for durations, one for the calendar."""

from __future__ import annotations

import time
from typing import Final, Protocol

__all__ = ["Clock", "SystemClock"]

# Each call needs them, and so they need no look-up where modules are compiled.
_monotonic_ns: Final = time.monotonic_ns
_time_ns: Final = time.time_ns


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
        return _monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Return the machine's wall clock."""
        return _time_ns() // 1_000_000
