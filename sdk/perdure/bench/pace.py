"""When the calls of an open loop are due, whatever becomes of the earlier ones.

Callers who wait for an answer before they call again stop calling while a server stalls, and the
stall shows up as one slow call (coordinated omission). Here calls are due at a rate, and each
one's latency counts from when it was due: a stall costs every call that was due in it.

Invariants:
  * After `t` seconds `t` times the rate have been due, to a call.
  * A call is handed out once, not before it is due, and however late, with the time when it was.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

_TICK_NS: Final = 1_000_000
"""Calls are due on a grid. It is not finer than this: waking up has a price, too."""


class Pace:
    """The calls of one process that is to make so many in a second."""

    def __init__(self, start_ns: int, rate: float) -> None:
        """Begin.

        Args:
            start_ns: When the first call is due.
            rate: Calls in a second.
        """
        if rate <= 0:
            raise ValueError(f"a rate is over 0, not {rate}")
        self._start_ns = start_ns
        self._rate = rate
        self._tick_ns = max(_TICK_NS, 1e9 / rate)
        self._tick = 0
        self._taken = 0

    @property
    def next_ns(self) -> int:
        """When the next call is due."""
        return self._start_ns + round(self._tick * self._tick_ns)

    def take(self, now_ns: int) -> list[int]:
        """Return when each of the calls was due that have become due since the last time."""
        due: list[int] = []
        while (point_ns := self.next_ns) <= now_ns:
            # From the start each time, so that rounding errors do not add up.
            count = 1 + int(self._tick * self._tick_ns * self._rate / 1e9 + 1e-6)
            due += [point_ns] * (count - self._taken)
            self._taken = count
            self._tick += 1
        return due
