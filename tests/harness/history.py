"""What callers asked for and what they were told, compared with what the objects hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Told(Enum):
    """What a caller was told about one call."""

    DONE = "done"
    REFUSED = "refused"
    """It did not run, and never will: a promise."""
    UNKNOWN = "unknown"


Entry = tuple[int, int]
"""A caller, and the number of one of its calls: what `Ledger.append` writes down."""


@dataclass
class History:
    """All calls of a round, in the order in which each caller made them."""

    calls: dict[str, list[tuple[Entry, Told]]] = field(
        default_factory=lambda: defaultdict[str, list[tuple[Entry, Told]]](list)
    )

    def note(self, object_id: str, entry: Entry, told: Told) -> None:
        """Write down how a call ended for its caller."""
        self.calls[object_id].append((entry, told))

    def count(self, told: Told) -> int:
        """Return how many calls ended so."""
        return sum(1 for calls in self.calls.values() for _, how in calls if how is told)

    def problems(self, held: Mapping[str, Sequence[Entry]]) -> list[str]:
        """Compare with what the objects hold, in their order; no problem is an empty list."""
        found: list[str] = []
        for object_id, calls in self.calls.items():
            found += _problems(object_id, calls, held.get(object_id, ()))
        return found


def _problems(
    object_id: str, calls: Sequence[tuple[Entry, Told]], held: Sequence[Entry]
) -> Iterable[str]:
    times = Counter(held)
    known = {entry for entry, _ in calls}
    for entry, told in calls:
        count = times[entry]
        if told is Told.DONE and count == 0:
            yield f"{object_id}: {entry} was acknowledged and is lost"
        if told is Told.REFUSED and count > 0:
            yield f"{object_id}: {entry} was refused and has run"
        if count > 1:
            yield f"{object_id}: {entry} has run {count} times"
    for entry in times.keys() - known:
        yield f"{object_id}: {entry} was never asked for"

    last: dict[int, int] = {}
    for caller, number in held:
        if number < last.get(caller, -1):
            yield f"{object_id}: {(caller, number)} came after {(caller, last[caller])}"
        last[caller] = number
