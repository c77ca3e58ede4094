"""When a stream's next message leaves: small ones do not run far ahead of their reader.

A message costs who reads it some hundred microseconds, however little is in it. Calls that are
made one by one, and often, would be as many messages. Where these come faster than they can be
read, they lie on the way in ever greater number, each as small as it was. So no more than two small
ones are on their way that nobody is known to have read; what is called meanwhile travels together
behind them.

This is Nagle's algorithm (RFC 896) for messages, with two on their way instead of one, so that
the next is there when one has been read. An answer says that the message of its call has been
read, and each before that. Slow methods are not answered soon, so nothing waits for longer than
5 ms.

Invariants:
  * Frames that wait leave when an answer makes room, when they are many, or after `REST_S`.
  * A lone caller, who calls again when an answer has come, never waits.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["REST_S", "SMALL_BYTES", "WAITING_MAX", "Spacing"]

_UNREAD_MAX: Final = 2

REST_S: Final = 0.005
"""So long after it was sent a message counts as read, answered or not."""

WAITING_MAX: Final = 128
"""Frames that do not wait for more: a node runs so many at once."""

SMALL_BYTES: Final = 64 << 10
"""A message of so many bytes costs more for what is in it than for being one."""


class Spacing:
    """The messages of one stream. Times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._unread: deque[tuple[int, float]] = deque()
        """The number of a call in each message, and when that was sent."""

    def sent(self, number: int, size: int, now_s: float) -> None:
        """Note a message.

        Args:
            number: Of the first call in it that is answered; 0: none is. They ascend.
            size: Its bytes.
            now_s: The time.
        """
        if number and size < SMALL_BYTES:
            self._unread.append((number, now_s))

    def answered(self, number: int) -> None:
        """Note an answer: the message of its call has been read, and each before that."""
        unread = self._unread
        while unread and unread[0][0] <= number:
            unread.popleft()

    def rest_s(self, waiting: int, now_s: float) -> float:
        """Return for how long the next message may have to wait; 0: it leaves now.

        Args:
            waiting: How many frames there are for it.
            now_s: The time.
        """
        unread = self._unread
        while unread and unread[0][1] + REST_S <= now_s:
            unread.popleft()
        if len(unread) < _UNREAD_MAX or waiting >= WAITING_MAX:
            return 0.0
        return unread[0][1] + REST_S - now_s
