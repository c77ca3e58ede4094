"""How a call ended, and the future of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.bodies import unpack_error
from perdure.errors import Code, error_from_wire
from perdure.frames import Reply
from perdure.ids import CallId
from perdure.raised import unpack_exception

if TYPE_CHECKING:
    from perdure.lane import Window
    from perdure.open_call import OpenCall

__all__ = ["Answer", "PendingAnswer", "error_of"]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """How a call ended."""

    code: int
    """A `Code`: OK, RAISED, or one of our errors."""
    reply: Reply


class PendingAnswer(asyncio.Future[Answer]):
    """The answer of a call that a client has sent; knows the call's id."""

    __slots__ = ("_open_call", "_sequence", "_window")

    _open_call: OpenCall[Any] | None
    _window: Window | None
    _sequence: int

    @property
    def call_id(self) -> CallId | None:
        """The call's id. None before it is numbered, and for what never is: reads."""
        if self._open_call is not None:
            return self._open_call.id
        if not self._sequence or self._window is None:
            return None
        return CallId(self._window.session, self._window.partition, self._sequence)

    def sent_as(self, call: OpenCall[Any]) -> None:
        """Note the call that this is the answer of."""
        self._open_call = call

    def ended(self) -> None:
        """Let go of the call, which knows this future: no cycle is left behind."""
        call = self._open_call
        if call is not None:
            # Its id, which hardly anybody asks for, is made when somebody does.
            self._window = call.window
            self._sequence = call.sequence
            self._open_call = None

    def when_numbered(self, notify: Callable[[], None]) -> None:
        """Have `notify` called once the call has its id: now, later, or never if it ends first."""
        if self._open_call is None or self._open_call.id is not None:
            notify()
        else:
            self._open_call.when_numbered = notify


def error_of(answer: Answer) -> Exception:
    """Return the error that an answer bears: a fresh one each time."""
    if answer.code == Code.RAISED:
        return unpack_exception(answer.reply.payload)
    return error_from_wire(answer.code, unpack_error(answer.reply.payload))
