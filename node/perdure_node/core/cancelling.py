"""Ending calls that somebody does not want any more."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from perdure import codec
from perdure.bodies import Request, pack_error
from perdure.errors import BadPayload, Code
from perdure.frames import Encoding
from perdure.ids import CallId, ObjectKey
from perdure_node.core.calls import Call, Refusal
from perdure_node.core.commits import Outcome
from perdure_node.core.copies import Copy
from perdure_node.core.gate import Gate
from perdure_node.core.journalled import Journalled
from perdure_node.core.keys import Keys
from perdure_node.core.limits import Limits
from perdure_node.core.mailboxes import Mailboxes
from perdure_node.core.memory import Memory
from perdure_node.core.reader import NO, YES
from perdure_node.core.recorder import Recorder
from perdure_node.core.refusals import refuse_session, refuse_unconfirmed

__all__ = ["Cancelling", "Stop"]


class Stop(NamedTuple):
    """Work for the shell: a method that runs is to end."""

    call: Call
    reason: str
    kill: bool
    """At once: it does not clean up."""


class Owner(Protocol):
    """The partition whose calls are cancelled."""

    def end_unrun(self, call: Call, code: int, payload: bytes) -> None:
        """Answer a call that did not run, for good."""
        ...

    def end_unstarted(self, call: Call, code: int, payload: bytes) -> bool:
        """End a call that holds its object, and whose method has not begun. False: it has."""
        ...


class Cancelling:
    """The cancellations of one partition.

    Invariants:
      * Whoever is told that a call will end hears that after it is durable.
    """

    def __init__(
        self,
        number: int,
        memory: Memory,
        gate: Gate,
        recorder: Recorder,
        mailboxes: Mailboxes,
        journalled: Journalled,
        keys: Keys,
        owner: Owner,
        limits: Limits,
    ) -> None:
        self._number = number
        self._memory = memory
        self._gate = gate
        self._recorder = recorder
        self._mailboxes = mailboxes
        self._journalled = journalled
        self._keys = keys
        self._owner = owner
        self._limits = limits

    def cancel(self, request: Request, copy: Copy) -> None:
        """Take a copy of a cancellation, and tell whether the call was there or may yet come."""
        try:
            found = CallId.parse(codec.decode(request.arguments))
        except (BadPayload, TypeError):
            found = None
        if found is None or found.partition != self._number:
            text = "a cancellation names a call to this object: session:partition:sequence"
            self._gate.refuse(copy, Refusal(Code.MALFORMED, (text,)))
            return
        kill = request.method == "kill"
        there = self._cancel(found.session, found.sequence, request, kill=kill)
        payload = (YES if there else NO)[Encoding(request.encoding)]

        def answer() -> None:
            self._gate.answer([copy], None, 0, payload, self._recorder.last)

        # Behind the `Stop`, so that it waits for what that commits.
        self._gate.outputs.append(answer)

    def _cancel(self, session: bytes, sequence: int, request: Request, *, kill: bool) -> bool:
        window = self._memory.window(session)
        call = None if window is None else window.open.get(sequence)
        reason = "killed" if kill else "on request"
        if call is None:
            return self._cancel_ahead(session, sequence, request.object_key, reason)
        if (call.key.type, call.key.id) != (request.type, request.id):
            return False
        call = self._keys.first(call)
        outcome = pack_error(Code.CANCELLED, (f"{call.key}.{call.request.method}", reason))
        if self._mailboxes.take_out(call):
            self._owner.end_unrun(call, *outcome)
            self._recorder.flush_marks()
        elif call.parked is not None:
            self._journalled.drop(call.key)
        elif self._owner.end_unstarted(call, *outcome):
            self._recorder.flush_marks()
        else:
            if not kill:
                self._journalled.cancelled(call, reason)
            self._gate.outputs.append(Stop(call, reason, kill))
        return True

    def _cancel_ahead(self, session: bytes, sequence: int, key: ObjectKey, reason: str) -> bool:
        """End a call that has not arrived. False: it has, and is over."""
        memory, limits = self._memory, self._limits
        window = memory.window(session)
        if window is None:
            if refuse_session(session, memory.time_ms, limits) is not None:
                return False
            window = memory.open_window(session)
        if sequence == 0 or window.has_seen(sequence):
            return False
        if refuse_unconfirmed(window, limits) is not None:
            return False
        outcome = pack_error(Code.CANCELLED, (str(key), reason))
        self._recorder.commit_unseen(Outcome(session, sequence, window.settled, *outcome))
        return True
