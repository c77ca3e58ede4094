"""The stream to one server among several."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from perdure.frames import AnswerFrame
from perdure.transport import Transport, Welcome

__all__ = ["Link", "Listeners"]


class Listeners(Protocol):
    """Who has several links, and tells them apart by their names."""

    def node_welcomed(self, name: str, welcome: Welcome) -> None:
        """A server can be reached, or has news of itself."""

    def node_answered(self, frames: list[AnswerFrame]) -> None:
        """A server has answered."""

    def node_lost(self, name: str, why: str) -> None:
        """A server cannot be reached."""


class Link:
    """A `Listener` that says who speaks."""

    def __init__(self, listeners: Listeners, name: str, transport: Transport) -> None:
        self.name = name
        self.transport = transport
        self._listeners = listeners
        self._closed = False

    def start(self) -> None:
        """Begin to connect."""
        self.transport.start(self)

    def close(self) -> Coroutine[Any, Any, None]:
        """Send what is left and leave. From now on, awaited or not, nothing is heard of it."""
        self._closed = True
        return self.transport.close()

    def welcomed(self, welcome: Welcome) -> None:
        """Pass it on."""
        if not self._closed:
            self._listeners.node_welcomed(self.name, welcome)

    def answered(self, frames: list[AnswerFrame]) -> None:
        """Pass them on."""
        if not self._closed:
            self._listeners.node_answered(frames)

    def lost(self, why: str) -> None:
        """Pass it on."""
        if not self._closed:
            self._listeners.node_lost(self.name, why)
