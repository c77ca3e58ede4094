"""From the wire to a mailbox: is it a call that has been here, and is there a place for it?

A call is looked up in its session's window before anything else is decided about it, so within
the window no call runs twice and no refusal hides that a copy of it has run.
"""

from __future__ import annotations

from typing import Final, Protocol

from perdure.bodies import Request, pack_error
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey, is_partition_session
from perdure_node.core.blames import deaths_in
from perdure_node.core.calls import PLAIN, Call, Catalog, Refusal, Target
from perdure_node.core.commits import MARK
from perdure_node.core.copies import Copy
from perdure_node.core.ended import Ended
from perdure_node.core.firings import Firings
from perdure_node.core.gate import Gate
from perdure_node.core.journalled import Journalled
from perdure_node.core.keys import Keys
from perdure_node.core.limits import Limits
from perdure_node.core.mailboxes import Mailboxes
from perdure_node.core.memory import Memory
from perdure_node.core.order import OutOfOrder
from perdure_node.core.reader import Reader
from perdure_node.core.recorder import Recorder
from perdure_node.core.refusals import PASSING, refuse_chain, refuse_session, refuse_unconfirmed
from perdure_node.core.runs import Runs
from perdure_node.core.window import UNRECORDED, SessionWindow

__all__ = ["Admission"]

# Members of an enum cost ten times as much to look up.
_CALL: Final = int(Kind.CALL)
_GET_OR_CREATE: Final = int(Kind.GET_OR_CREATE)
_SEND: Final = int(Kind.SEND)
_START: Final = int(Kind.START)
_TO_RUNS = frozenset((Kind.START, Kind.RESUME, Kind.NOTIFY, Kind.WAKE))
_BESIDE_PARKED = frozenset((_GET_OR_CREATE, *_TO_RUNS))


class Owner(Protocol):
    """The partition that calls are admitted to."""

    number: int
    room: bool
    draining: bool

    def enqueue(self, call: Call) -> None:
        """Let a call wait for its turn."""
        ...

    def end_unrun(self, call: Call, code: int, payload: bytes) -> None:
        """Refuse a call for good."""
        ...


class Admission:
    """Takes calls in for one partition."""

    def __init__(  # noqa: PLR0913 - what a partition is made of
        self,
        owner: Owner,
        memory: Memory,
        catalog: Catalog,
        limits: Limits,
        server: str,
        *,
        gate: Gate,
        recorder: Recorder,
        reader: Reader,
        keys: Keys,
        mailboxes: Mailboxes,
        firings: Firings,
        journalled: Journalled,
        runs: Runs,
    ) -> None:
        self._owner = owner
        self._memory = memory
        self._catalog = catalog
        self._limits = limits
        self._server = server
        self._gate = gate
        self._recorder = recorder
        self._reader = reader
        self._keys = keys
        self._mailboxes = mailboxes
        self._firings = firings
        self._journalled = journalled
        self._runs = runs
        self.out_of_order = OutOfOrder(limits)

    def confirm(self, request: Request) -> None:
        """Take word of answers that came, without a call."""
        window = self._memory.window(request.session)
        if window is not None:
            window.confirm(request.confirmed)
            self._memory.dirty_windows.add(request.session)

    def admit_freed(self, session: bytes) -> None:
        """Admit the calls that have waited for what the session has sent by now."""
        window = self._memory.window(session)
        if window is not None:
            for held in self.out_of_order.freed(session, window):
                self.admit(held.request, held.copy, held.deadline_ms)

    def admit(self, request: Request, copy: Copy, deadline_ms: int) -> None:
        """Take a copy of a call."""
        memory = self._memory
        window = memory.windows.get(request.session) or memory.window(request.session)
        if window is None:
            refusal = refuse_session(request.session, self._memory.time_ms, self._limits)
            if refusal is not None:
                self._gate.refuse(copy, refusal)
                return
            window = self._memory.open_window(request.session)
        if request.confirmed != window.settled:
            window.confirm(request.confirmed)
        memory.dirty_windows.add(request.session)
        sequence = request.sequence
        if sequence == 0:
            self._gate.refuse(copy, Refusal(Code.MALFORMED, ("a call has a sequence from 1 on",)))
            return
        if (past := window.ended.get(sequence)) is not None and past.code != MARK:
            self._repeat(request, copy, past)
            return
        if (call := window.open.get(sequence)) is not None:
            if call.parked is not None:
                # Nobody knows when an operator will decide about it.
                poisoned = pack_error(Code.POISONED, (self._journalled.id_of(call), call.parked))
                self._gate.answer([copy], call.state, *poisoned, self._recorder.last)
            elif len(call.copies) < self._limits.copies_max:
                call.copies.append(copy)
            else:
                what = ("copies of one call", self._limits.retry_after_s)
                self._gate.refuse(copy, Refusal(Code.BACKPRESSURE, what))
            return
        if sequence <= window.settled[0] or (
            len(window.settled) > 1 and window.is_settled(sequence)
        ):
            self._gate.refuse(copy, Refusal(Code.SUPERSEDED, ()))
            return
        previous = request.previous
        if previous and previous not in window.open and previous not in window.ended:
            if window.is_settled(previous):
                # This copy is older than the end of the one it names. What it has to follow now,
                # a still earlier call perhaps, only a new copy says.
                self._gate.refuse(copy, Refusal(Code.OUT_OF_ORDER, ()))
            elif not self.out_of_order.hold(request, copy, deadline_ms, self._memory.now_ms):
                self._gate.refuse(copy, Refusal(Code.OUT_OF_ORDER, ()))
            return
        self._accept(request, copy, window, deadline_ms, again=past is not None)

    def _accept(
        self,
        request: Request,
        copy: Copy,
        window: SessionWindow[Call],
        deadline_ms: int,
        *,
        again: bool,
    ) -> None:
        """Take a call that has not been here before, or (`again`) changed nothing when it was."""
        key = request.object_key
        target = self._catalog.find(request)
        refusal = target if isinstance(target, Refusal) else self._no_place(request, key, window)
        if refusal is not None:
            if is_partition_session(request.session) and refusal.code not in PASSING:
                # Its caller believes only what is recorded.
                call = Call(key, request, PLAIN, window, deadline_ms)
                call.copies.append(copy)
                self._owner.end_unrun(call, *pack_error(*refusal))
            else:
                self._gate.refuse(copy, refusal)
            return
        assert isinstance(target, Target)
        call = Call(key, request, target, window, deadline_ms)
        call.copies.append(copy)
        if window.blamed:
            call.starts += deaths_in((), window, request.sequence)
        kind = request.kind
        if kind == _CALL:
            if request.key is not None and not self._keys.claim(call):
                return
        elif kind == _SEND:
            if self._owner.room:
                self._firings.accept(request, copy, call)
            else:
                self._gate.refuse(copy, Refusal(Code.DISK_FULL, (1.0,)))
            return
        elif kind == _GET_OR_CREATE:
            state = self._memory.state(call.key)
            if state is not None and state.image is not None:
                # It is there: a read, which waits for no method.
                self._recorder.mark(call, MARK, b"", state.last_record)
                shown = self._reader.shown(state, request.encoding)
                self._gate.answer([copy], state, *shown)
                return
        elif kind in _TO_RUNS:
            self._runs.accept(request, copy, call)
            return
        if again and not call.shared:
            # What it read has changed since. It must not do now what it had no need to do then.
            self._keys.give_up(call)
            self._gate.refuse(copy, Refusal(Code.SUPERSEDED, ()))
            return
        if not self._owner.room and not call.shared:
            self._keys.give_up(call)
            self._gate.refuse(copy, Refusal(Code.DISK_FULL, (1.0,)))
            return
        self._owner.enqueue(call)

    def _no_place(
        self, request: Request, key: ObjectKey, window: SessionWindow[Call]
    ) -> Refusal | None:
        limits = self._limits
        if request.chain and (refusal := refuse_chain(request, limits)) is not None:
            return refusal
        if self._owner.draining:
            return Refusal(Code.DRAINING, (self._server,))
        parked = self._journalled.parked_calls
        # Who wants a handle to what is there only reads, beside the mailbox.
        if parked and key in parked and request.kind not in _BESIDE_PARKED:
            return self._journalled.refusal(key)
        if self._mailboxes.waiting:
            if self._mailboxes.waiting >= limits.waiting_calls_max:
                full = f"partition {self._owner.number}"
                return Refusal(Code.BACKPRESSURE, (full, limits.retry_after_s))
            mailbox = self._mailboxes.get(key)
            if mailbox is not None and len(mailbox.waiting) >= limits.mailbox_calls_max:
                return Refusal(Code.BACKPRESSURE, (str(key), limits.retry_after_s))
        return refuse_unconfirmed(window, limits)

    def _repeat(self, request: Request, copy: Copy, past: Ended) -> None:
        """Answer a copy of a call that has ended."""
        if request.kind == _START and self._runs.joins(request, copy, past.payload):
            return
        state = self._memory.state(request.object_key)
        record = 0 if past.record == UNRECORDED else past.record
        self._gate.answer([copy], state, past.code, past.payload, record)
