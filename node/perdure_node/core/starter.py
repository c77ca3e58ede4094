"""From the head of a mailbox to a run, and from the end of a run to the next call.

Invariant: whatever ends a call, each of its copies is answered, and its window knows its end.
"""

from __future__ import annotations

from typing import Final

from perdure import codec
from perdure.bodies import Request, pack_error
from perdure.errors import BadPayload, Code, UnknownType
from perdure.frames import Encoding, Kind
from perdure.ids import is_partition_session
from perdure_node.core.calls import Call
from perdure_node.core.commits import MARK
from perdure_node.core.firings import Firings
from perdure_node.core.gate import Gate
from perdure_node.core.keys import Keys
from perdure_node.core.mailboxes import Mailbox, Mailboxes
from perdure_node.core.memory import USED_AGAIN_MS, Memory
from perdure_node.core.nested import NestedCalls
from perdure_node.core.reader import NO, YES, Reader
from perdure_node.core.recorder import Recorder, outcome_of
from perdure_node.core.state import ObjectState

__all__ = ["Starter"]

# Members of an enum cost ten times as much to look up.
_GET_OR_CREATE: Final = int(Kind.GET_OR_CREATE)
_DELETE: Final = int(Kind.DELETE)


class Starter:
    """Starts the calls of one partition, and ends them."""

    def __init__(
        self,
        memory: Memory,
        gate: Gate,
        recorder: Recorder,
        reader: Reader,
        keys: Keys,
        mailboxes: Mailboxes,
        firings: Firings,
        nested: NestedCalls,
    ) -> None:
        self._memory = memory
        self._gate = gate
        self._recorder = recorder
        self._reader = reader
        self._keys = keys
        self._mailboxes = mailboxes
        self._firings = firings
        self._nested = nested
        self.runs: list[Call] = []
        """Calls that have started, and whose methods are to be run. Whoever takes it empties it."""

    def start(self, call: Call, mailbox: Mailbox) -> None:
        """Run a call, or answer it if there is nothing to run."""
        if call.firing and not self._firings.may_start(call):
            return
        memory = self._memory
        if memory.now_ms > call.deadline_ms:
            self._end_late(call, mailbox)
            return
        kind = call.request.kind
        state = memory.state(call.key)
        there = state is not None and state.image is not None
        if kind == _DELETE:
            self._delete(call, state if there else None)
            return
        if kind == _GET_OR_CREATE:
            if there:
                assert state is not None
                shown = self._reader.shown(state, call.request.encoding)
                self._recorder.mark(call, MARK, b"", state.last_record)
                self._gate.answer(call.copies, state, *shown)
                return
            if state is None:
                state = ObjectState(call.key, None, 1, memory.number)
        elif not there or state is None:
            if call.target.made_by_calls:
                state = None
            elif not call.target.stateless and call.progress is None:
                record = 0 if state is None else state.last_record
                self.end_unrun(call, *pack_error(Code.OBJECT_NOT_FOUND, call.key), record)
                return
            # It is not among the partition's objects: nothing of it is to be found or stored.
            image: dict[str, bytes] | None = None if call.target.made_by_calls else {}
            state = ObjectState(call.key, image, 1, memory.number)
        call.state = state
        state.users += 1
        call.since_ms = memory.now_ms
        mailbox.running.append(call)
        if call.parked is None:
            self.runs.append(call)

    def _end_late(self, call: Call, mailbox: Mailbox) -> None:
        self._nested.put_heir(call, mailbox)
        if call.request.chain or is_partition_session(call.request.session):
            self._nested.refuse_late(call)
            return
        text = "the caller's time was over before the call could start: it did not run"
        self.end_unrun(call, *pack_error(Code.DEADLINE_EXCEEDED, (text,)))

    def _delete(self, call: Call, state: ObjectState | None) -> None:
        if call.request.arguments and state is not None and not _is_so(state, call.request):
            state = None  # For the caller it is not there.
        payload = (NO if state is None else YES)[Encoding(call.request.encoding)]
        self._recorder.commit_deletion(call, state, outcome_of(call, 0, payload))
        self._gate.answer(call.copies, None, 0, payload, self._recorder.record)

    def end_unrun(self, call: Call, code: int, payload: bytes, record: int = 0) -> None:
        """Answer a call that did not run, once `record` is durable."""
        self._recorder.mark(call, code, payload, record)
        if is_partition_session(call.request.session):
            # It is part of its caller's journal: it must not be taken back by a crash.
            self._recorder.flush_marks()
            record = self._recorder.record
        self._keys.give_up(call)
        self._gate.answer(call.copies, None, code, payload, record)
        self._end_followers(call, code, payload, record)

    def release(self, call: Call) -> None:
        """Let the object of a run go that has ended."""
        state = call.state
        if state is not None:
            state.users -= 1
            self._memory.use(state)
            self._mailboxes.ended(call)

    def finish(self, call: Call, code: int, payload: bytes, record: int = 0) -> None:
        """Answer a call that has run, and let the next one of its object start."""
        state = call.state
        assert state is not None
        state.users -= 1
        if self._memory.now_ms - state.used_ms >= USED_AGAIN_MS:
            self._memory.use(state)
        request = call.request
        current: ObjectState | None = state
        open_calls = call.window.open
        if request.sequence in open_calls:
            del open_calls[request.sequence]
        if request.key is not None:
            self._keys.give_up(call)
        if request.kind == _GET_OR_CREATE:
            current = self._memory.state(call.key)
            if code == 0 and current is not None:
                code, payload = self._reader.shown(current, request.encoding)
        self._gate.answer(call.copies, current, code, payload, record)
        if call.followers:
            self._end_followers(call, code, payload, record)
        self._mailboxes.ended(call)

    def _end_followers(self, call: Call, code: int, payload: bytes, record: int) -> None:
        for follower in call.followers:
            self._recorder.mark(follower, MARK, b"", record)
            self._gate.answer(follower.copies, call.state, code, payload, record)


def _is_so(state: ObjectState, request: Request) -> bool:
    """Tell whether an object has the attributes that it has to have in order to be deleted."""
    assert state.image is not None
    try:
        wanted = codec.decode(request.arguments)
    except (BadPayload, UnknownType):
        return False
    image = state.image
    return type(wanted) is dict and all(image.get(name) == value for name, value in wanted.items())
