"""Reads of committed state, which wait for no method and leave no trace."""

from __future__ import annotations

from typing import Final

from perdure import codec
from perdure.bodies import Request, pack_error, pack_reply
from perdure.errors import Code
from perdure.frames import Encoding, Kind
from perdure_node.core.calls import Catalog, Refusal
from perdure_node.core.copies import Answer, Copy
from perdure_node.core.gate import Gate
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.recorder import Recorder
from perdure_node.core.state import ObjectState

__all__ = ["NO", "READS", "YES", "Reader"]

YES: Final = {Encoding.MSGPACK: codec.encode(True), Encoding.JSON: b"true"}
NO: Final = {Encoding.MSGPACK: codec.encode(False), Encoding.JSON: b"false"}
NOTHING: Final = {Encoding.MSGPACK: codec.encode(None), Encoding.JSON: b"null"}

READS: Final = frozenset((Kind.GET, Kind.EXISTS, Kind.LIST))


class Reader:
    """Answers reads of one partition."""

    def __init__(
        self, memory: Memory, catalog: Catalog, gate: Gate, recorder: Recorder, limits: Limits
    ) -> None:
        self._limits = limits
        self._memory = memory
        self._catalog = catalog
        self._gate = gate
        self._recorder = recorder

    def read(self, request: Request, copy: Copy) -> None:
        """Answer a read, once what it has seen is durable."""
        found = self._catalog.find(request)
        if isinstance(found, Refusal):
            self._gate.refuse(copy, found)
        elif request.kind == Kind.LIST:
            self._list(request, copy)
        elif request.kind == Kind.EXISTS:
            self._exists(request, copy)
        else:
            self._get(request, copy)

    def shown(self, state: ObjectState, encoding: int) -> tuple[int, bytes]:
        """Return code and payload for a call that asks for a state.

        JSON callers get all of it as the result; the others as changes of what they have.
        """
        if encoding != Encoding.JSON or state.image is None:
            return 0, NOTHING[Encoding(encoding)]
        shown = self._catalog.show(state.image)
        if isinstance(shown, Refusal):
            return pack_error(*shown)
        limit = self._limits.result_bytes_max
        if len(shown) > limit:
            what = f"{state.key} as JSON"
            return pack_error(Code.RESULT_TOO_LARGE, (what, len(shown), limit))
        return 0, shown

    def _get(self, request: Request, copy: Copy) -> None:
        key = request.object_key
        state = self._memory.state(key)
        if state is None or state.image is None:
            self._gate.answer([copy], state, *pack_error(Code.OBJECT_NOT_FOUND, key))
        else:
            shown = self.shown(state, request.encoding)
            self._gate.answer([copy], state, *shown, everything=request.method == "*")

    def _exists(self, request: Request, copy: Copy) -> None:
        key = request.object_key
        there = self._memory.exists(key)
        body = pack_reply((YES if there else NO)[Encoding(request.encoding)])
        answer = Answer(copy.sink, (copy.number, 0, body))
        self._gate.let_out(answer, self._memory.last_record_of(key))

    def _list(self, request: Request, copy: Copy) -> None:
        limit = codec.decode(request.arguments) if request.arguments else 0
        limit = min(limit, 1_000) if type(limit) is int and limit > 0 else 1_000
        found = self._memory.list_ids(request.type, request.id, request.method, limit)
        body = pack_reply(codec.encode(list(found)))
        # A list could have seen any commit of the partition.
        answer = Answer(copy.sink, (copy.number, 0, body))
        self._gate.let_out(answer, self._recorder.last)
