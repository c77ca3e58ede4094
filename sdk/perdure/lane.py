"""The calls of one client to one partition: in which order, and what a server knows of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from perdure.open_call import OpenCall
from perdure.settled import Settled

__all__ = ["Lane", "Window"]

T = TypeVar("T")

_PATIENCE: Final = 10
"""A new call waits only where it is likely to take no more than this part of its time."""
_NOT_COUNTED: Final = 1 << 62
"""Since when those wait that waited for a stream: the first of them refuse nobody."""


class Window:
    """The calls of one session id to one partition."""

    __slots__ = ("last", "listed", "partition", "sent_ms", "session", "settled", "untold", "urgent")

    def __init__(self, session: bytes, partition: int) -> None:
        self.session = session
        self.partition = partition
        self.last = 0
        """The highest sequence given."""
        self.settled = Settled()
        self.sent_ms = 0
        """When the last frame was sent."""
        self.untold = False
        """Whether something was settled after the last frame."""
        self.listed = False
        """Whether it is looked at when servers are told of answers by themselves."""
        self.urgent = False
        """Whether a server is to be told at once."""


class Lane(Generic[T]):
    """The calls of one client to one partition, in the order in which they were made."""

    __slots__ = ("kept", "open", "partition", "patient", "queue", "unsorted", "window")

    def __init__(self, window: Window) -> None:
        self.partition = window.partition
        self.window = window
        """Of the session id that new calls get."""
        self.open: dict[OpenCall[T], None] = {}
        """Those on their way."""
        self.queue: OrderedDict[OpenCall[T], None] = OrderedDict()
        """Those behind them."""
        self.kept = 0
        """Those that have ended and wait to be confirmed by whoever made them."""
        self.patient = 0
        """Those of `open` that ask about runs: they may wait for days, and take nobody's place."""
        self.unsorted = False
        """Whether the queue is to be sorted by sequence."""

    def put(self, call: OpenCall[T], now_ms: int) -> bool:
        """Let a call wait behind the others.

        Returns:
            False when it would wait for too long, as the first one tells: more comes here than is
            answered, and it would take the time of others in vain.
        """
        queue = self.queue
        call.queued_ms = now_ms
        call.ahead = ahead = len(self.open) + len(queue)
        first = next(iter(queue), call)
        queue[call] = None
        call.place = queue
        if call.deadline_ms is None:
            return True
        # So many were before the first one when it came. They have taken so long, and those that
        # are before this one now will take as long each.
        waited_ms = (now_ms - first.queued_ms) * ahead // max(1, first.ahead)
        return waited_ms * _PATIENCE <= call.deadline_ms - now_ms

    def put_first(self, call: OpenCall[T], now_ms: int) -> None:
        """Let a call wait before the others."""
        call.queued_ms = now_ms
        call.ahead = len(self.open)
        self.queue[call] = None
        self.queue.move_to_end(call, last=False)
        call.place = self.queue

    def begin_anew(self) -> None:
        """Do not count how long calls have waited by now: nothing could be sent."""
        for call in self.queue:
            call.queued_ms = _NOT_COUNTED

    @property
    def busy(self) -> int:
        """How many calls on their way count against the limit."""
        return len(self.open) - self.patient
