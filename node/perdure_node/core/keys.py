"""Idempotency keys: of all calls with one key, to one method of one object, the first runs."""

from __future__ import annotations

from perdure.bodies import pack_error
from perdure.errors import Code
from perdure.ids import ObjectKey
from perdure_node.core.calls import Call, Catalog, Refusal
from perdure_node.core.commits import MARK
from perdure_node.core.gate import Gate
from perdure_node.core.memory import Memory
from perdure_node.core.recorder import Recorder
from perdure_node.core.window import UNRECORDED

__all__ = ["Keys"]


class Keys:
    """The keys of calls that wait or run; those of calls that have ended are in `memory`."""

    def __init__(self, memory: Memory, catalog: Catalog, gate: Gate, recorder: Recorder) -> None:
        self._memory = memory
        self._catalog = catalog
        self._gate = gate
        self._recorder = recorder
        self._open: dict[tuple[ObjectKey, str, str], Call] = {}

    def claim(self, call: Call) -> bool:
        """Claim a call's key. False: the call is answered otherwise, or will be."""
        request = call.request
        assert request.key is not None
        digest = self._catalog.digest(request)
        if isinstance(digest, Refusal):
            self._gate.refuse(call.copies[0], digest)
            return False
        call.digest = digest
        name = (call.key, request.method, request.key)
        reused = pack_error(Code.KEY_REUSED, (request.key, str(call.key), request.method))
        if (first := self._open.get(name)) is not None:
            if first.digest == digest:
                call.window.open[request.sequence] = call
                first.followers = [*first.followers, call]
            else:
                self._gate.answer(call.copies, None, *reused)
            return False
        if (past := self._memory.keyed(*name)) is not None:
            # Objects that persist on save have answered before there was a record.
            record = 0 if past.record == UNRECORDED else past.record
            self._recorder.mark(call, MARK, b"", record)
            state = self._memory.state(call.key)
            code, payload = (past.code, past.payload) if past.digest == digest else reused
            self._gate.answer(call.copies, state, code, payload, record)
            return False
        self._open[name] = call
        return True

    def first(self, call: Call) -> Call:
        """Return the call that runs, or will, for all calls with the same key as this one."""
        request = call.request
        if request.key is None:
            return call
        return self._open.get((call.key, request.method, request.key), call)

    def resume(self, call: Call) -> None:
        """Claim the key of a call that a crash has interrupted, if it has one."""
        if call.request.key is not None:
            digest = self._catalog.digest(call.request)
            # With arguments that fit no more it cannot be another call's twin.
            call.digest = digest if isinstance(digest, bytes) else b"unknown"
            self._open[call.key, call.request.method, call.request.key] = call

    def pass_on(self, call: Call) -> Call | None:
        """Let the next call with the same key take the place of one that will not run."""
        if not call.followers:
            return None
        heir, *followers = call.followers
        heir.followers, call.followers = followers, []
        assert heir.request.key is not None
        self._open[heir.key, heir.request.method, heir.request.key] = heir
        return heir

    def give_up(self, call: Call) -> None:
        """Let a call's key go: the call has ended, or will not run."""
        request = call.request
        if request.key is not None:
            name = (call.key, request.method, request.key)
            if self._open.get(name) is call:
                del self._open[name]
