"""Where calls go that start on this node: to its own partitions at once, else to their owners."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from perdure.bodies import pack_error, pack_reply
from perdure.errors import Code
from perdure.frames import AnswerFrame, CallFrame
from perdure.transport import Listener, Transport, Welcome

if TYPE_CHECKING:
    from collections.abc import Container

    from perdure.serving.backend import AnswerSink

__all__ = ["LocalTransport", "Receiver"]


class Receiver(Protocol):
    """A node, as calls from inside of its process see it."""

    @property
    def owned(self) -> Container[int]:
        """The partitions it answers for."""
        ...

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        """Take calls in."""
        ...

    def welcome(self) -> Welcome:
        """Return what a client is told first."""
        ...


class _Answers:
    """The sink for answers to calls of this process: one delivery per tick."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answers: list[AnswerFrame] = []
        self.listener: Listener | None = None

    @property
    def closed(self) -> bool:
        """Whether nobody listens any more."""
        return self.listener is None

    def send(self, frame: AnswerFrame) -> None:
        """Deliver an answer soon, and never from inside of the node's own work."""
        if not self._answers:
            self._loop.call_soon(self._deliver)
        self._answers.append(frame)

    def _deliver(self) -> None:
        answers, self._answers = self._answers, []
        if self.listener is not None:
            self.listener.answered(answers)


class LocalTransport:
    """A `Transport` to a node in this process, on the same event loop.

    With `elsewhere`, calls for partitions that the node does not own travel by that transport.
    """

    def __init__(self, node: Receiver, elsewhere: Transport | None = None) -> None:
        self._node = node
        self._answers = _Answers(asyncio.get_running_loop())
        self._elsewhere = elsewhere
        self._connected = False

    def start(self, listener: Listener) -> None:
        """Welcome the listener. There is nothing to connect."""
        self._answers.listener = listener
        if self._elsewhere is not None:
            self._elsewhere.start(self)
        listener.welcomed(self._node.welcome())

    def send(self, frames: list[CallFrame]) -> None:
        """Hand calls to the node, or send them to where their partitions are."""
        if self._elsewhere is None:
            self._node.receive(frames, self._answers)
            return
        owned = self._node.owned
        here = [frame for frame in frames if frame.partition in owned]
        there = [frame for frame in frames if frame.partition not in owned]
        if here:
            self._node.receive(here, self._answers)
        if there and self._connected:
            self._elsewhere.send(there)
        else:
            for frame in there:
                if frame.number:
                    code, payload = pack_error(Code.NO_OWNER, (frame.partition,))
                    self._answers.send((frame.number, code, pack_reply(payload)))

    async def close(self) -> None:
        """Stop listening."""
        self._answers.listener = None
        if self._elsewhere is not None:
            await self._elsewhere.close()

    # As the listener of the transport to elsewhere.

    def welcomed(self, welcome: Welcome) -> None:  # noqa: ARG002 - the node's own counts
        """Note that elsewhere can be reached."""
        self._connected = True

    def answered(self, frames: list[AnswerFrame]) -> None:
        """Pass answers on."""
        if self._answers.listener is not None:
            self._answers.listener.answered(frames)

    def lost(self, why: str) -> None:
        """Pass on that what was sent elsewhere may or may not have arrived."""
        if self._connected and self._answers.listener is not None:
            self._connected = False
            self._answers.listener.lost(why)
            self._answers.listener.welcomed(self._node.welcome())
