"""How long calls took: HDR histograms, which add up over processes, moments and rounds.

A percentile of percentiles means nothing. What is kept is therefore how many calls took how long,
to three digits, and percentiles are read from the sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from hdrh.histogram import HdrHistogram

__all__ = ["LONGEST_S", "Latencies"]

LONGEST_S: Final = 3_600.0
"""What took longer is taken for this long."""

_TICK_NS: Final = 100
"""The unit of the histogram: an embedded call may take less than 10 µs."""

_LONGEST_TICKS: Final = int(LONGEST_S * 1e9) // _TICK_NS
_DIGITS: Final = 3
_TICKS_PER_MS: Final = 1_000_000 // _TICK_NS


class Latencies:
    """How many calls took how long."""

    __slots__ = ("_histogram",)

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(1, _LONGEST_TICKS, _DIGITS)

    def __len__(self) -> int:
        count: int = self._histogram.get_total_count()
        return count

    def record(self, latencies_ns: Iterable[int]) -> None:
        """Add calls that took so many nanoseconds."""
        ticks = Counter(latency_ns // _TICK_NS for latency_ns in latencies_ns)
        for value, count in ticks.items():
            self._histogram.record_value(min(max(value, 1), _LONGEST_TICKS), count)

    def add(self, other: Latencies) -> None:
        """Add all calls of another one."""
        self._histogram.add(other._histogram)

    def percentile_ms(self, percentile: float) -> float | None:
        """Return the milliseconds within which so many of a hundred calls ended; None: no calls."""
        if not len(self):
            return None
        ticks: int = self._histogram.get_value_at_percentile(percentile)
        return ticks / _TICKS_PER_MS

    def percentiles_ms(self, percentiles: Iterable[float]) -> list[float]:
        """Return the milliseconds for several percentiles at once, which is cheaper."""
        wanted = list(percentiles)
        found: dict[float, int] = self._histogram.get_percentile_to_value_dict(wanted)
        return [found[percentile] / _TICKS_PER_MS for percentile in wanted]

    def encode(self) -> str:
        """Return it as text, in the format that HDR histograms of all languages share.

        Its values are tenths of microseconds.
        """
        text: bytes = self._histogram.encode()
        return text.decode()

    @classmethod
    def decode(cls, text: str) -> Latencies:
        """Read what `encode` has returned."""
        latencies = cls()
        latencies._histogram.decode_and_add(text.encode())
        return latencies
