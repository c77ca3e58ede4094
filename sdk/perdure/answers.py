"""How a call ended, and the future of that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perdure.frames import Reply
from perdure.ids import CallId

if TYPE_CHECKING:
    from perdure.open_call import OpenCall

__all__ = ["Answer", "PendingAnswer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended."""

    code: int
    """A `Code`: OK, RAISED, or one of our errors."""
    reply: Reply


class PendingAnswer(asyncio.Future[Answer]):
    """The answer of a call that a client has sent; knows the call's id."""

    __slots__ = ("_id", "_open_call")

    _id: CallId | None
    _open_call: OpenCall[Any] | None

    @property
    def call_id(self) -> CallId | None:
        """The call's id. None before it is numbered, and for what never is: reads."""
        return self._id if self._open_call is None else self._open_call.id

    def sent_as(self, call: OpenCall[Any]) -> None:
        """Note the call that this is the answer of."""
        self._id = None
        self._open_call = call

    def ended(self) -> None:
        """Let go of the call, which knows this future: no cycle is left behind."""
        if self._open_call is not None:
            self._id = self._open_call.id
            self._open_call = None

    def when_numbered(self, notify: Callable[[], None]) -> None:
        """Have `notify` called once the call has its id: now, later, or never if it ends first."""
        if self._open_call is None or self._open_call.id is not None:
            notify()
        else:
            self._open_call.when_numbered = notify
