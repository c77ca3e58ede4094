"""What a partition remembers of one client session, so that no call of it runs twice.

Invariants:
  * A sequence is in exactly one of these: settled (at or below the watermark, or in an interval
    above it), ended (its outcome is kept), open (it waits or runs), or never seen.
  * A settled sequence never runs: its caller has the answer, or has given it up.
  * Settled is for ever. Ended becomes settled when the caller confirms, and frees the outcome.

The caller sends everything it has settled with every call (`bodies.Request.confirmed`), so a
call that was given up is known here before any later call of the same session runs.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final, Generic, TypeVar

from perdure_node.core.commits import MARK
from perdure_node.core.ended import Ended

__all__ = ["UNRECORDED", "SessionWindow", "merge_settled"]

UNRECORDED: Final = 1 << 62
"""The record of an outcome that no record holds yet: only memory has it."""

_READ: Final = Ended(MARK, b"", 0)
"""The end of every call that only reads."""

C = TypeVar("C")


class SessionWindow(Generic[C]):
    """The calls of one session to one partition. `C` is what stands for an open call."""

    __slots__ = ("birth_ms", "blamed", "bytes", "ended", "open", "settled")

    def __init__(self, birth_ms: int) -> None:
        self.birth_ms = birth_ms
        self.settled: list[int] = [0]
        """`[watermark, first, last, first, last, ...]`, ascending, with gaps between."""
        self.ended: dict[int, Ended] = {}
        self.open: dict[int, C] = {}
        self.bytes = 0
        """Of all payloads in `ended`."""
        self.blamed: dict[int, tuple[int, int]] = {}
        """Calls that were running when their process died: how often, and in which epoch last."""

    def is_settled(self, sequence: int) -> bool:
        """Tell whether the caller has confirmed or given up this call."""
        settled = self.settled
        if sequence <= settled[0]:
            return True
        # An even position after the watermark is the inside of an interval.
        return len(settled) > 1 and _inside(settled, sequence)

    def has_seen(self, sequence: int) -> bool:
        """Tell whether this call waits, runs, has ended or is settled."""
        return sequence in self.ended or sequence in self.open or self.is_settled(sequence)

    def confirm(self, confirmed: list[int]) -> None:
        """Take over what the caller says it has settled. Old news changes nothing."""
        settled = self.settled
        if confirmed == settled:
            return
        before = settled[0]
        if len(confirmed) == 1 and len(settled) == 1:
            if confirmed[0] <= before:
                return
            self.settled = confirmed
        else:
            self.settled = merge_settled(settled, confirmed)
        if self.ended:
            self._forget(before + 1, self.settled[0])
            for at in range(1, len(self.settled), 2):
                self._forget(self.settled[at], self.settled[at + 1])

    def _forget(self, first: int, last: int) -> None:
        ended = self.ended
        # Either side may be long: one call that takes hours leaves an interval of millions.
        if last - first >= len(ended):
            for sequence in [s for s in ended if first <= s <= last]:
                self._forget_one(sequence)
        else:
            for sequence in range(first, last + 1):
                self._forget_one(sequence)

    def _forget_one(self, sequence: int) -> None:
        # Not `pop`, which costs more than both where modules are compiled.
        past = self.ended.get(sequence)
        if past is not None:
            del self.ended[sequence]
            self.bytes -= len(past.payload)

    def end_unrecorded(self, sequence: int) -> None:
        """Note that a shared call has run, for calls that have to follow it.

        No record says so: a late copy of it runs again, for it changes nothing.
        """
        self._end(sequence, _READ)

    def end(self, sequence: int, code: int, payload: bytes, record: int) -> None:
        """Note the outcome of a call, unless its caller no longer wants it."""
        self._end(sequence, Ended(code, payload, record))

    def _end(self, sequence: int, ended: Ended) -> None:
        if sequence in self.open:
            del self.open[sequence]
        if self.blamed:
            self.blamed.pop(sequence, None)
        settled = self.settled
        if sequence > settled[0] and (len(settled) == 1 or not _inside(settled, sequence)):
            self.ended[sequence] = ended
            self.bytes += len(ended.payload)

    def row(self, durable: int) -> list[Any]:
        """Return what to store: all that holds once the records up to `durable` are there.

        A later outcome may yet be lost, and must then not look as if it had happened.
        """
        row = [
            self.settled,
            {
                sequence: (ended.code, ended.payload)
                for sequence, ended in self.ended.items()
                if ended.record <= durable
            },
        ]
        if self.blamed:
            # That a process has died is true whatever is lost.
            self.blamed = {s: b for s, b in self.blamed.items() if not self.is_settled(s)}
            if self.blamed:
                row.append(self.blamed)
        return row

    @classmethod
    def from_row(cls, birth_ms: int, row: list[Any]) -> SessionWindow[C]:
        """Rebuild a window from its stored row."""
        window: SessionWindow[C] = cls(birth_ms)
        window.settled = row[0]
        for sequence, (code, payload) in row[1].items():
            window.ended[sequence] = Ended(code, payload, 0)
            window.bytes += len(payload)
        for blamed in row[2:]:
            window.blamed = {s: (count, epoch) for s, (count, epoch) in blamed.items()}
        return window

    @property
    def is_idle(self) -> bool:
        """Tell whether no call of the session is here."""
        return not self.open


def _inside(settled: list[int], sequence: int) -> bool:
    at = bisect_right(settled, sequence, 1)
    # After a `first` (odd position) and up to its `last`, both included.
    return at % 2 == 0 or settled[at - 1] == sequence


def merge_settled(one: list[int], other: list[int]) -> list[int]:
    """Return the union of two `[watermark, first, last, ...]` lists, as short as possible."""
    watermark = max(one[0], other[0])
    spans = sorted(
        [*zip(one[1::2], one[2::2], strict=True), *zip(other[1::2], other[2::2], strict=True)]
    )
    merged: list[int] = []
    for first, last in spans:
        if last <= watermark:
            continue
        if first <= watermark + 1 and not merged:
            watermark = max(watermark, last)
        elif merged and first <= merged[-1] + 1:
            merged[-1] = max(merged[-1], last)
        else:
            merged += (first, last)
    return [watermark, *merged]
