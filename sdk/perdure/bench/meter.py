"""What answers come to: how long each call took, in which interval, and what failed.

On the path of a call there is one append. Histograms are made afterwards.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Interval", "Meter"]

_EXAMPLES_MAX: Final = 20


@dataclass(slots=True)
class Interval:
    """The calls that ended in a stretch of time."""

    began_ns: int
    ended_ns: int = 0
    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    """Of the calls that succeeded."""
    failed: int = 0

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.ended_ns - self.began_ns) / 1e9


class Meter:
    """Counts. Until `begin` is called for the first time, nothing counts."""

    def __init__(self) -> None:
        self.now = Interval(0)
        """Where the calls that end now are counted."""
        self.intervals: list[Interval] = []
        self.errors: Counter[str] = Counter()
        """Calls that failed, by the class of their error."""
        self.examples: dict[str, str] = {}
        """What the first error of each class said."""

    def begin(self, now_ns: int) -> None:
        """Begin the next interval; the one before it ends."""
        if not self.intervals:
            # What failed while the load was warming up does not count either.
            self.errors.clear()
            self.examples.clear()
        self.now.ended_ns = now_ns
        self.now = Interval(now_ns)
        self.intervals.append(self.now)

    def end(self, now_ns: int) -> None:
        """End the last interval."""
        self.now.ended_ns = now_ns

    def succeeded(self, latency_ns: int) -> None:
        """Count a call that ended now."""
        self.now.latencies_ns.append(latency_ns)

    def failed(self, what: str, text: str) -> None:
        """Count a call that failed now.

        Args:
            what: The class of its error.
            text: What the error says.
        """
        self.now.failed += 1
        self.errors[what] += 1
        if len(self.examples) < _EXAMPLES_MAX:
            self.examples.setdefault(what, text)
