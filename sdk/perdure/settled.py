"""The calls of one session to one partition that are over: numbers, as spans without overlap."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

__all__ = ["Settled"]


class Settled:
    """A growing set of numbers from 1, mostly added in order.

    Invariant: `spans` is `[watermark, first, last, first, last, ...]`: everything up to the
    watermark, and these spans above it, ascending, with a gap before each.
    """

    __slots__ = ("spans",)

    def __init__(self) -> None:
        self.spans: list[int] = [0]

    @classmethod
    def up_to(cls, last: int, but: Iterable[int]) -> Settled:
        """Return all numbers from 1 to `last` but these, which may be any numbers."""
        settled = cls()
        spans: list[int] = []
        first = 1
        for number in [*sorted(n for n in but if n <= last), last + 1]:
            if first < number:
                spans += (first, number - 1)
            first = number + 1
        if spans and spans[0] == 1:
            settled.spans = spans[1:]
        else:
            settled.spans = [0, *spans]
        return settled

    def __contains__(self, number: int) -> bool:
        spans = self.spans
        # Odd: behind a `first` that is below. Else it is in only if it is a `first` itself.
        at = bisect_left(spans, number, 1)
        return number <= spans[0] or at % 2 == 0 or (at < len(spans) and spans[at] == number)

    def add(self, number: int) -> None:
        """Put a number in. It is not in yet."""
        spans = self.spans
        if number == spans[0] + 1:
            if len(spans) > 1 and spans[1] == number + 1:
                spans[0] = spans[2]
                del spans[1:3]
            else:
                spans[0] = number
            return
        # `at` is the position of the first number above this one: the `first` of a span.
        at = bisect_left(spans, number, 1)
        joins_left = at > 1 and spans[at - 1] == number - 1
        joins_right = at < len(spans) and spans[at] == number + 1
        if joins_left and joins_right:
            del spans[at - 1 : at + 1]
        elif joins_left:
            spans[at - 1] = number
        elif joins_right:
            spans[at] = number
        else:
            spans[at:at] = (number, number)
