"""Ending calls that somebody does not want any more."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from perdure import codec
from perdure.errors import BadPayload, Code
from perdure.frames import Encoding, Request, pack_error
from perdure_node.core.calls import Call, Copy, Refusal
from perdure_node.core.gate import Gate
from perdure_node.core.journalled import Journalled
from perdure_node.core.mailboxes import Mailboxes
from perdure_node.core.memory import Memory
from perdure_node.core.reader import NO, YES
from perdure_node.core.recorder import Recorder

__all__ = ["Cancelling", "Stop"]

_ID: Final = re.compile(r"([0-9a-f]{32}):(\d{1,10}):(\d{1,19})")

_AHEAD_MAX: Final = 1_000
"""Cancellations kept of calls that have not arrived."""


class Stop(NamedTuple):
    """Work for the shell: a method that runs is to end."""

    call: Call
    reason: str
    kill: bool
    """At once: it does not clean up."""


class Cancelling:
    """The cancellations of one partition."""

    def __init__(
        self,
        number: int,
        memory: Memory,
        gate: Gate,
        recorder: Recorder,
        mailboxes: Mailboxes,
        journalled: Journalled,
        end_unrun: Callable[[Call, int, bytes], None],
    ) -> None:
        self._number = number
        self._memory = memory
        self._gate = gate
        self._recorder = recorder
        self._mailboxes = mailboxes
        self._journalled = journalled
        self._end_unrun = end_unrun
        self.ahead: dict[tuple[bytes, int], str] = {}
        """Why calls are refused that have not arrived, by session and sequence."""

    def cancel(self, request: Request, copy: Copy) -> None:
        """Take a copy of a cancellation, and tell whether the call was there or may yet come."""
        try:
            found = _ID.fullmatch(codec.decode(request.arguments))
        except (BadPayload, TypeError):
            found = None
        if found is None or int(found[2]) != self._number:
            text = "a cancellation names a call to this object: session:partition:sequence"
            self._gate.refuse(copy, Refusal(Code.MALFORMED, (text,)))
            return
        kill = request.method == "kill"
        there = self._cancel(bytes.fromhex(found[1]), int(found[3]), request, kill=kill)
        payload = (YES if there else NO)[Encoding(request.encoding)]
        self._gate.answer([copy], None, 0, payload, self._recorder.last)

    def refused(self, call: Call) -> bool:
        """Refuse a call that was cancelled before it came. False: it was not."""
        reason = self.ahead.pop((call.request.session, call.request.sequence), None)
        if reason is None:
            return False
        self._end_unrun(call, *self._outcome(call, reason))
        return True

    def _cancel(self, session: bytes, sequence: int, request: Request, *, kill: bool) -> bool:
        window = self._memory.window(session)
        call = None if window is None else window.open.get(sequence)
        reason = "killed" if kill else "on request"
        if call is None:
            if window is not None and window.has_seen(sequence):
                return False
            if len(self.ahead) >= _AHEAD_MAX:
                self.ahead.pop(next(iter(self.ahead)))
            self.ahead[session, sequence] = reason
            return True
        if (call.key.type, call.key.id) != (request.type, request.id):
            return False
        if self._mailboxes.take_out(call):
            self._end_unrun(call, *self._outcome(call, reason))
        elif call.parked is not None:
            self._journalled.drop(call.key)
        else:
            if not kill:
                self._journalled.cancelled(call, reason)
            self._gate.outputs.append(Stop(call, reason, kill))
        return True

    @staticmethod
    def _outcome(call: Call, reason: str) -> tuple[int, bytes]:
        return pack_error(Code.CANCELLED, (f"{call.key}.{call.request.method}", reason))
