"""How frames reach a server: the port between a client (or a router) and a network.

There are two transports: `grpc_transport.GrpcTransport` for another process, and the embedded
node's own for this one. A transport keeps one stream open and opens it again when it breaks.
Everything happens on one event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from perdure.frames import AnswerFrame, CallFrame

__all__ = [
    "CALL_BYTES_MAX",
    "MESSAGE_BYTES_AIM",
    "MESSAGE_BYTES_MAX",
    "MESSAGE_FRAMES_MAX",
    "Listener",
    "Transport",
    "Welcome",
]

MESSAGE_BYTES_MAX: Final = 8 << 20
"""Bytes of one message of frames. A larger one would end the stream with every call on it."""

CALL_BYTES_MAX: Final = 4 << 20
"""Bytes of one packed call. A larger one is refused before it is sent."""

MESSAGE_BYTES_AIM: Final = 1 << 20
"""A message is closed when it holds so many bytes; only one call or answer may exceed it."""

MESSAGE_FRAMES_MAX: Final = 512
"""Frames in one message."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a server says first on a stream, and again when it changes."""

    cluster_id: str
    partition_count: int
    server: str
    """The name of the node or router that speaks."""
    owned: Mapping[int, int]
    """Partition to epoch, of a node. Empty from a router, which answers for all."""


class Listener(Protocol):
    """Who uses a transport."""

    def welcomed(self, welcome: Welcome) -> None:
        """A stream is open: frames sent from now on travel on it. Or its server has news."""

    def answered(self, frames: list[AnswerFrame]) -> None:
        """Answers came, in any order."""

    def lost(self, why: str) -> None:
        """The stream broke, or could not be opened.

        Every frame that was sent and not answered may have arrived or may still arrive.
        """


class Transport(Protocol):
    """One stream to one server, opened again whenever it breaks."""

    def start(self, listener: Listener) -> None:
        """Begin to connect. Called once, on the loop that is used from then on."""

    def send(self, frames: list[CallFrame]) -> None:
        """Send frames in this order. Without an open stream they are dropped.

        A listener hears `lost` before a stream that it has not heard `welcomed` of, so it sends
        only between the two, and sends what was dropped again.
        """

    async def close(self) -> None:
        """Send what is left, then close the stream. The listener hears nothing any more."""
