"""Calls that came before the ones they have to follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from perdure.bodies import Request
from perdure_node.core.copies import Copy
from perdure_node.core.limits import Limits
from perdure_node.core.window import SessionWindow

__all__ = ["Held", "OutOfOrder"]


@dataclass(slots=True, eq=False)
class Held:
    """One copy of a call that waits for another call."""

    until_ms: int
    request: Request
    copy: Copy
    deadline_ms: int
    over: bool = False
    """It has been admitted or refused."""


class OutOfOrder:
    """All of them, for one partition. Each waits a moment only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_time: deque[Held] = deque()
        self.by_predecessor: dict[tuple[bytes, int], list[Held]] = {}
        """Those that wait, by the session and the sequence of the call that they follow."""

    def __bool__(self) -> bool:
        return bool(self.by_predecessor)

    def hold(self, request: Request, copy: Copy, deadline_ms: int, now_ms: int) -> bool:
        """Hold a call back. False: too many are held already."""
        if len(self._by_time) >= self._limits.held_calls_max:
            return False
        held = Held(now_ms + self._limits.out_of_order_wait_ms, request, copy, deadline_ms)
        self._by_time.append(held)
        self.by_predecessor.setdefault((request.session, request.previous), []).append(held)
        return True

    def freed(self, session: bytes, window: SessionWindow[Any]) -> Iterator[Held]:
        """Yield the calls whose predecessors the window has seen by now.

        Whoever takes one admits it before asking for the next, which may have waited for it.
        """
        seen = [n for s, n in self.by_predecessor if s == session and window.has_seen(n)]
        while seen:
            for held in self.by_predecessor.pop((session, seen.pop()), ()):
                if not held.over:
                    held.over = True
                    yield held
                    if window.has_seen(held.request.sequence):
                        seen.append(held.request.sequence)

    def expired(self, now_ms: int) -> Iterator[Held]:
        """Yield the calls that have waited long enough."""
        by_time = self._by_time
        while by_time and (by_time[0].over or by_time[0].until_ms <= now_ms):
            held = by_time.popleft()
            if not held.over:
                held.over = True
                self.by_predecessor.pop((held.request.session, held.request.previous), None)
                yield held

    @property
    def next_ms(self) -> int | None:
        """When `expired` has something to yield: monotonic time. None: not at all."""
        return self._by_time[0].until_ms if self._by_time else None
