"""Waiting for other code of an event loop: callbacks after so many of its rounds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Rounds"]


class Rounds:
    """Counts the rounds of a loop, for all who wait: one callback a round, and none without them.

    Tasks that are woken in one round, and what they wake in turn, have run a few rounds later.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        """Prepare.

        Args:
            loop: Whose rounds.
            count: How many of them `after` waits, at least.
        """
        self.loop = loop
        self._count = count
        self._now = 0
        self._going = False
        self._due: deque[tuple[int, Callable[[], None]]] = deque()

    def after(self, then: Callable[[], None]) -> None:
        """Call `then` when the loop has gone round so many times."""
        if not self._going:
            self._going = True
            self.loop.call_soon(self._round)
        # The round that goes on now may have been counted, and may not.
        self._due.append((self._now + self._count + 1, then))

    def _round(self) -> None:
        self._now += 1
        due = self._due
        try:
            while due and due[0][0] <= self._now:
                _, then = due.popleft()
                then()
        finally:
            self._going = bool(due)
            if due:
                self.loop.call_soon(self._round)
