"""The bodies of calls and answers, which routers pass on unread."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

from msgspec import MsgspecError

from perdure.errors import BadPayload, Code
from perdure.frames import (
    ChangesFields,
    Reply,
    RequestFields,
    decode,
    decode_reply,
    decode_request,
    encode,
)
from perdure.ids import ObjectKey

__all__ = [
    "Request",
    "pack_error",
    "pack_reply",
    "pack_request",
    "unpack_error",
    "unpack_reply",
    "unpack_request",
]

# Each call needs them, and so they need no look-up where modules are compiled.
_encode: Final = encode
_decode_reply: Final = decode_reply
_decode_request: Final = decode_request


class Request:
    """A call's body: an array of these fields, all of them, which are not changed.

    A class of its own and no struct or tuple, because every call reads three dozen of its fields:
    where modules are compiled that takes no time.
    """

    __slots__ = (
        "_object_key",
        "arguments",
        "chain",
        "confirmed",
        "due_ms",
        "encoding",
        "have",
        "id",
        "key",
        "kind",
        "method",
        "previous",
        "sequence",
        "session",
        "type",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - as it travels
        self,
        kind: int,
        session: bytes,
        sequence: int,
        previous: int,
        confirmed: list[int],
        type: str,
        id: str,
        method: str,
        encoding: int,
        arguments: bytes,
        key: str | None,
        have: list[int] | None,
        chain: list[list[str]],
        due_ms: int,
    ) -> None:
        self.kind: Final = kind
        """A `frames.Kind`."""
        self.session: Final = session
        """16 bytes, see `ids.new_session_id`."""
        self.sequence: Final = sequence
        """Dense per (session, partition), from 1. 0 for GET, EXISTS, LIST, CANCEL, ASK, PROBE."""
        self.previous: Final = previous
        """The sequence of this session's call before this one to the same object, if the caller
        still wants that one's answer; else 0. This call must not run before it."""
        self.confirmed: Final = confirmed
        """`[watermark, first, last, first, last, ...]`: sequences of (session, partition) whose
        answers the caller has got or given up: all up to the watermark, and these intervals
        above it. None of them will ever be sent again; a copy that still comes must not run."""
        self.type: Final = type
        self.id: Final = id
        self.method: Final = method
        self.encoding: Final = encoding
        """A `frames.Encoding`."""
        self.arguments: Final = arguments
        """MSGPACK: `codec.encode([positional list, named dict])`. JSON: an array or an object.
        Empty: there are none."""
        self.key: Final = key
        """For idempotency, given by the caller."""
        self.have: Final = have
        """The version `[epoch, number]` of the state that the caller has; `[0, 0]`: none yet;
        None: it wants no state with the answer."""
        self.chain: Final = chain
        """The calls that this one is inside of, outermost first: `[type, id, method]` each."""
        self.due_ms: Final = due_ms
        """Milliseconds of the wall clock. SEND: when to run it; 0: at once. A call from inside of
        another: by when it is to have started, else its target refuses it for good; 0:
        whenever."""
        self._object_key: ObjectKey | None = None

    @property
    def object_key(self) -> ObjectKey:
        """What `type` and `id` name. Does not travel."""
        key = self._object_key
        if key is None:
            key = self._object_key = ObjectKey(self.type, self.id)
        return key

    @object_key.setter
    def object_key(self, key: ObjectKey) -> None:
        self._object_key = key

    def fields(self) -> RequestFields:
        """Return what travels."""
        return (
            self.kind,
            self.session,
            self.sequence,
            self.previous,
            self.confirmed,
            self.type,
            self.id,
            self.method,
            self.encoding,
            self.arguments,
            self.key,
            self.have,
            self.chain,
            self.due_ms,
        )

    def with_arguments(self, kind: int, arguments: bytes) -> Request:
        """Return the same with another kind and other arguments."""
        fields = self.fields()
        return Request(kind, *fields[1:9], arguments, *fields[10:])


def pack_request(request: Request) -> bytes:
    """Pack a call's body."""
    return _encode(request.fields())


def unpack_request(body: bytes) -> Request:
    """Unpack a call's body that came from outside; `ids` and sizes are not checked here.

    Raises:
        BadPayload: It is no call.
    """
    try:
        f: RequestFields = _decode_request(body)
    except (MsgspecError, ValueError) as error:
        raise _no_request(str(error)) from None
    request = Request(
        f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11], f[12], f[13]
    )
    if request.previous > request.sequence:
        raise _no_request("it is to follow a later call")
    if len(request.confirmed) > 1 and not _are_settled(request.confirmed):
        raise _no_request("what it confirms is not ascending")
    return request


def _no_request(problem: str) -> BadPayload:
    return BadPayload(
        "a call's body is [kind, session (16 bytes), sequence, previous (no more than it), "
        "confirmed (ascending), type, id, method, encoding (0 or 1), arguments (bytes), "
        f"key or nil, [epoch, number] or nil, list of [type, id, method], due (from 0)]: {problem}"
    )


def _are_settled(confirmed: list[int]) -> bool:
    """Tell whether this is `[watermark, first, last, ...]`, ascending."""
    return len(confirmed) % 2 == 1 and all(a <= b for a, b in itertools.pairwise(confirmed))


def pack_reply(
    payload: bytes, version: tuple[int, int] | None = None, changes: ChangesFields | None = None
) -> bytes:
    """Pack an answer's body."""
    return _encode((payload, version, changes))


def unpack_reply(body: bytes) -> Reply:
    """Unpack an answer's body from a server that this client trusts to be one."""
    return _decode_reply(body)


def pack_error(code: Code, args: Sequence[object]) -> tuple[int, bytes]:
    """Return the code and payload of one of our errors (not of a user's exception)."""
    return int(code), encode(args)


def unpack_error(payload: bytes) -> list[Any]:
    """Return the args of one of our errors."""
    args = decode(payload)
    return args if isinstance(args, list) else [args]
