"""How much clients have not read of their answers, and what is done about it.

An answer waits in two places: in the buffer of its stream, which the server can drop (the stream
ends, and the answer is asked for again), and in gRPC once that has taken it, where it stays
until the client reads it or its connection ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc

from perdure.errors import Overloaded
from perdure.serving.limits import ServerLimits

if TYPE_CHECKING:
    from perdure.serving.answers import AnswerStream

__all__ = ["Unread"]

_RETRY_S = 1.0


class Unread:
    """All unread answers of a server."""

    def __init__(self, limits: ServerLimits) -> None:
        self.streams: set[AnswerStream] = set()
        """Those that are open."""
        self.buffered_bytes = 0
        """In the buffers of all streams."""
        self.buffered_bytes_max: Final = limits.unsent_total_bytes_max
        """Beyond it, `shed` is due."""
        self._limits = limits
        self._taken_bytes = 0
        self._taken_by: dict[str, int] = {}
        """By connection."""

    def check(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """Refuse a call, before it runs, that comes from where nobody reads.

        Raises:
            Overloaded: Too much is unread, by its connection or by all.
        """
        limits = self._limits
        if (
            self._taken_bytes > limits.unread_total_bytes_max
            or self._taken_by.get(context.peer(), 0) > limits.unread_connection_bytes_max
        ):
            raise Overloaded("answers that are not read", _RETRY_S)

    def hold(self, context: grpc.aio.ServicerContext[bytes, bytes], size: int) -> None:
        """Count what gRPC has taken until the client has it, or is gone."""
        peer = context.peer()
        self._taken_bytes += size
        self._taken_by[peer] = self._taken_by.get(peer, 0) + size

        def release(_: Any) -> None:
            self._taken_bytes -= size
            left = self._taken_by[peer] - size
            if left:
                self._taken_by[peer] = left
            else:
                del self._taken_by[peer]

        # The stub wants a class of its own; any function does.
        context.add_done_callback(release)  # type: ignore[arg-type]

    def shed(self) -> None:
        """End the streams with the largest buffers until the rest is within bounds."""
        while self.buffered_bytes > self.buffered_bytes_max:
            max(self.streams, key=lambda stream: stream.unsent_bytes).overflow()
