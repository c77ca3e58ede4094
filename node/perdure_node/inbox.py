"""Calls that have come and were not taken in yet: how many may wait, and who is refused.

A burst may be long: it passes. When calls have come faster than they run for seconds, waiting
makes it worse for all. Then only few may wait, and others are refused when they come, which costs
a node far less than to run them.

Invariants:
  * No call is refused that others wait for or that ends others: those that partitions make, those
    to runs that wait, cancellations, questions, confirmations.
  * Nothing is looked up and nothing is noted about a call that is refused here. It is as if it had
    not come: its caller counts the copies on their way, and sends it again if one may have run.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from perdure.errors import BadPayload, Code
from perdure.frames import AnswerFrame, CallFrame, Kind, pack_error, pack_reply, unpack_request
from perdure.ids import is_partition_session
from perdure_node.clock import Clock
from perdure_node.core.limits import Limits

if TYPE_CHECKING:
    from perdure.serving.backend import AnswerSink

__all__ = ["PIECE_CALLS", "Inbox"]

_log = logging.getLogger("perdure.node")

PIECE_CALLS: Final = 32
"""Calls that are run before the journal gets what they have committed. Fewer would not be worth
a message of their own."""

_FEW_CALLS: Final = 512
"""So many may wait at any time. They usually run in less time than a call waits for the one before
it, so one whose predecessor was refused hears of that before it is refused itself."""

_LARGE_CALLS: Final = 2_048
"""When so many wait and calls are large, nobody reads on."""

_LARGE_BYTES: Final = 1_024
"""Of a call, on average over those that came together."""

_CALM_MS: Final = 1_000
"""When nobody had to be refused for so long, it is over."""

_RETRY_S: Final = 1.0

_REFUSED: Final = frozenset(
    (Kind.CALL, Kind.GET_OR_CREATE, Kind.GET, Kind.EXISTS, Kind.SEND, Kind.START)
)


class Inbox:
    """What has come in large messages, or while such were taken in; in pieces, in order."""

    def __init__(self, limits: Limits, clock: Clock, server: str) -> None:
        self.pieces: deque[tuple[list[CallFrame], AnswerSink, int]] = deque()
        """Each with when it came."""
        self._calls = 0
        self._heavy = False
        self._limits = limits
        self._clock = clock
        self._server = server
        self._late_since_ms: int | None = None
        """Since when calls wait for long."""
        self._looked_ms = 0
        self._refused_ms = 0
        code, payload = pack_error(Code.BACKPRESSURE, (server, _RETRY_S))
        self._refusal = code, pack_reply(payload)

    def put(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        """Let calls wait, or refuse them."""
        now_ms = self._clock.monotonic_ms()
        if self._calls + len(frames) > _FEW_CALLS:
            frames = self._let_in(now_ms, frames, sink)
            self._heavy = sum(len(frame.body) for frame in frames) > len(frames) * _LARGE_BYTES
        for first in range(0, len(frames), PIECE_CALLS):
            self.pieces.append((frames[first : first + PIECE_CALLS], sink, now_ms))
        self._calls += len(frames)

    def take(self) -> tuple[list[CallFrame], AnswerSink]:
        """Return the next piece."""
        frames, sink, _ = self.pieces.popleft()
        self._calls -= len(frames)
        return frames, sink

    @property
    def is_full(self) -> bool:
        """Tell whether pieces have to be taken before anybody reads on: they hold much memory."""
        return self._heavy and self._calls > _LARGE_CALLS

    def _let_in(self, now_ms: int, frames: list[CallFrame], sink: AnswerSink) -> list[CallFrame]:
        most = self._most(now_ms)
        room = most - self._calls
        if len(frames) <= room:
            return frames
        if now_ms - self._refused_ms > _CALM_MS:
            _log.warning("%s gets more calls than it can run, and refuses some", self._server)
        self._refused_ms = now_ms
        room = max(0, room)
        return frames[:room] + self._left(frames[room:], sink)

    def _most(self, now_ms: int) -> int:
        """Return how many calls may wait now."""
        if now_ms - self._looked_ms > _CALM_MS:
            self._late_since_ms = None
        self._looked_ms = now_ms
        came_ms = self.pieces[0][2] if self.pieces else now_ms
        is_late = now_ms - came_ms > self._limits.late_ms
        if self._late_since_ms is None:
            if is_late:
                self._late_since_ms = now_ms
        elif now_ms - self._late_since_ms >= self._limits.burst_ms:
            if is_late or now_ms - self._refused_ms <= _CALM_MS:
                return _FEW_CALLS
            self._late_since_ms = None
        elif not is_late:
            self._late_since_ms = None
        return self._limits.inbox_calls_max

    def _left(self, frames: list[CallFrame], sink: AnswerSink) -> list[CallFrame]:
        """Refuse what may be refused, and return the others."""
        left: list[CallFrame] = []
        code, reply = self._refusal
        for frame in frames:
            if frame.number and _may_be_refused(frame):
                sink.send(AnswerFrame(frame.number, code, reply))
            else:
                left.append(frame)
        return left


def _may_be_refused(frame: CallFrame) -> bool:
    try:
        request = unpack_request(frame.body)
    except BadPayload:
        return False  # It is told why when its turn comes.
    return request.kind in _REFUSED and not is_partition_session(request.session)
