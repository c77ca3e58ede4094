"""The calls that a router makes itself, for clients that have no session: `Calls.Call`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from perdure.frames import AnswerFrame, CallFrame
from perdure.transport import Listener

if TYPE_CHECKING:
    from perdure_router.router import Router

__all__ = ["OwnCalls"]


class OwnCalls:
    """A `Transport` from the router's client into the router itself.

    The client gives each call its session and sequence and sends it again when that is needed,
    so a call of a client without a session has one id as well, however many copies it takes.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._answers: _Answers | None = None

    def start(self, listener: Listener) -> None:
        """Connect as soon as the router knows its cluster."""
        self._answers = _Answers(listener)
        self._router.on_welcome.append(self._welcome)
        if self._router.welcome() is not None:
            asyncio.get_running_loop().call_soon(self._welcome)

    def send(self, frames: list[CallFrame]) -> None:
        """Hand calls to the router."""
        if self._answers is not None:
            self._router.receive(frames, self._answers)

    async def close(self) -> None:
        """Leave: answers that still come go nowhere."""
        if self._answers is not None:
            self._answers.closed = True
            self._answers = None

    def _welcome(self) -> None:
        welcome = self._router.welcome()
        if self._answers is not None and welcome is not None:
            self._answers.listener.welcomed(welcome)


class _Answers:
    """An `AnswerSink` that hands all answers of a tick to a listener, in a later tick.

    Never at once: the listener may be in the middle of sending.
    """

    def __init__(self, listener: Listener) -> None:
        self.closed = False
        self.listener = listener
        self._frames: list[AnswerFrame] = []
        self._loop = asyncio.get_running_loop()

    def send(self, frame: AnswerFrame) -> None:
        if not self._frames:
            self._loop.call_soon(self._deliver)
        self._frames.append(frame)

    def _deliver(self) -> None:
        frames, self._frames = self._frames, []
        if not self.closed:
            self.listener.answered(frames)
