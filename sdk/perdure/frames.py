"""Calls and answers as they travel: what is inside a `CallBatch` and an `AnswerBatch`.

docs/wire.md describes the same for other languages. A router reads only the envelope (the
number, partition and time left of a call; the number and code of an answer); the body passes
through it unread.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import ormsgpack

from perdure.errors import BadPayload, Code

__all__ = [
    "TIME_LEFT_MAX_MS",
    "AnswerFrame",
    "CallFrame",
    "Changes",
    "Encoding",
    "Kind",
    "Reply",
    "Request",
    "pack_batch",
    "pack_error",
    "pack_reply",
    "pack_request",
    "unpack_answers",
    "unpack_calls",
    "unpack_error",
    "unpack_reply",
    "unpack_request",
]

TIME_LEFT_MAX_MS: Final = 24 * 3_600_000
"""The longest deadline that travels. A call without one is sent again by its client instead."""


_SESSION_BYTES: Final = 16

_new: Final = tuple.__new__
# Half the price of `_make`, which asks for the length once more.


_SHAPES: Final = frozenset(
    (int, bytes, int, int, list, str, str, str, int, bytes, key, have, list, int)
    for key in (str, type(None))
    for have in (list, type(None))
)
"""What the fields of a `Request` may be. Every call is looked at, so it is one look."""


class Kind(enum.IntEnum):
    """What is asked of an object."""

    CALL = 0
    GET_OR_CREATE = 1
    GET = 2
    """Its committed state, beside the mailbox. No sequence, no dedupe: a read."""
    EXISTS = 3
    DELETE = 4
    LIST = 5
    """Ids of one type in one partition: `id` is the prefix, `method` the id to go on after."""
    CONFIRM = 6
    """Only `session` and `confirmed` count. Not answered."""
    SEND = 7
    """A call that nobody waits for: answered without a result once it is durably enqueued."""
    CANCEL = 8
    """Ends another call to the object, beside the mailbox. `method` is `cancel` or `kill`, the
    argument is `codec.encode(str(call id))`. No sequence: copies of it do no harm."""


class Encoding(enum.IntEnum):
    """How arguments and result are written."""

    MSGPACK = 0
    JSON = 1


class CallFrame(NamedTuple):
    """A call's envelope."""

    number: int
    """Given by the sender, for one stream: the answer bears it. 0: no answer is wanted."""
    partition: int
    time_left_ms: int
    """From now until the caller gives up."""
    body: bytes
    """A packed `Request`."""


class AnswerFrame(NamedTuple):
    """An answer's envelope."""

    number: int
    code: int
    body: bytes
    """A packed `Reply`."""


class Request(NamedTuple):
    """A call's body."""

    kind: int
    session: bytes
    """16 bytes, see `ids.new_session_id`."""
    sequence: int
    """Dense per (session, partition), from 1. 0 for GET, EXISTS, LIST and CANCEL."""
    previous: int
    """The sequence of this session's call before this one to the same object, if the caller
    still wants that one's answer; else 0. This call must not run before it."""
    confirmed: list[int]
    """`[watermark, first, last, first, last, ...]`: sequences of (session, partition) whose
    answers the caller has got or given up: all up to the watermark, and these intervals above
    it. None of them will ever be sent again; a copy that still comes must not run."""
    type: str
    id: str
    method: str
    encoding: int
    arguments: bytes
    """MSGPACK: `codec.encode([positional list, named dict])`. JSON: an array or an object. Empty:
    there are none."""
    key: str | None
    have: list[int] | None
    """The version `[epoch, number]` of the state that the caller has; `[0, 0]`: none yet;
    None: it wants no state with the answer."""
    chain: list[list[str]]
    """The calls that this one is inside of, outermost first: `[type, id, method]` each."""
    due_ms: int = 0
    """Milliseconds of the wall clock. SEND: when to run it; 0: at once. A call from inside of
    another: by when it is to have started, else its target refuses it for good; 0: whenever."""


class Changes(NamedTuple):
    """What a caller's copy of an object's state lacks."""

    full: bool
    """`values` is the whole state: forget what you had."""
    values: dict[str, bytes]
    """Attribute to `codec.encode(value)`."""
    deleted: list[str]
    left_out: list[str]
    """Attributes too large to travel along. Reading one raises `NotLoaded`."""


class Reply(NamedTuple):
    """An answer's body."""

    payload: bytes
    """OK: the result. RAISED: a packed exception, see `raised.py`. Else: the error's args."""
    version: list[int] | None
    """`[epoch, number]` of the state after `changes`; None when no state came along."""
    changes: Changes | None


def pack_batch(frames: Sequence[CallFrame] | Sequence[AnswerFrame]) -> bytes:
    """Pack call frames or answer frames for one message."""
    # ormsgpack writes tuples, but no subclass of tuple.
    return ormsgpack.packb([tuple(frame) for frame in frames])


def unpack_calls(data: bytes) -> list[CallFrame]:
    """Unpack call frames that came from outside.

    Raises:
        BadPayload: They are no call frames.
    """
    frames = [_new(CallFrame, row) for row in _rows(data, 4)]
    for number, partition, time_left_ms, body in frames:
        if not (
            type(number) is int
            and type(partition) is int
            and type(time_left_ms) is int
            and type(body) is bytes
            and number >= 0
            and partition >= 0
        ):
            raise BadPayload("a call frame is [number, partition, milliseconds, bytes]")
    return frames


def unpack_answers(data: bytes) -> list[AnswerFrame]:
    """Unpack answer frames.

    Raises:
        BadPayload: They are no answer frames.
    """
    frames = [_new(AnswerFrame, row) for row in _rows(data, 3)]
    for number, code, body in frames:
        if not (type(number) is int and type(code) is int and type(body) is bytes):
            raise BadPayload("an answer frame is [number, code, bytes]")
    return frames


def _rows(data: bytes, width: int) -> list[list[Any]]:
    try:
        rows = ormsgpack.unpackb(data)
    except ValueError:
        raise BadPayload("a batch is a MessagePack array of frames") from None
    if type(rows) is not list or any(type(r) is not list or len(r) != width for r in rows):
        raise BadPayload(f"a batch is a MessagePack array of arrays of {width}")
    return rows


def pack_request(request: Request) -> bytes:
    """Pack a call's body."""
    return ormsgpack.packb(tuple(request))


def unpack_request(body: bytes) -> Request:
    """Unpack a call's body that came from outside; `ids` and sizes are not checked here.

    Raises:
        BadPayload: It is no call.
    """
    try:
        fields = ormsgpack.unpackb(body)
    except ValueError:
        raise BadPayload("a call's body is a MessagePack array") from None
    if type(fields) is not list or len(fields) != len(Request._fields):
        raise BadPayload(f"a call's body is an array of {len(Request._fields)} fields")
    if not (
        tuple(map(type, fields)) in _SHAPES
        and len(fields[1]) == _SESSION_BYTES
        and 0 <= fields[3] <= fields[2]
        and _are_settled(fields[4])
        and 0 <= fields[8] <= 1
        and (fields[11] is None or tuple(map(type, fields[11])) == (int, int))
        and (not fields[12] or _are_links(fields[12]))
        and fields[13] >= 0
    ):
        raise BadPayload(
            "a call's body is [kind, session (16 bytes), sequence, previous (no more than it), "
            "confirmed (ascending), type, id, method, encoding (0 or 1), arguments (bytes), "
            "key or nil, [epoch, number] or nil, list of [type, id, method], due (from 0)]"
        )
    return _new(Request, fields)


def _are_settled(confirmed: list[Any]) -> bool:
    """Tell whether this is `[watermark, first, last, ...]`, ascending."""
    if len(confirmed) == 1:
        return type(confirmed[0]) is int and confirmed[0] >= 0
    return (
        len(confirmed) % 2 == 1
        and all(type(n) is int and n >= 0 for n in confirmed)
        and all(a <= b for a, b in itertools.pairwise(confirmed))
    )


def _are_links(chain: list[Any]) -> bool:
    return all(
        type(link) is list and len(link) == 3 and all(type(part) is str for part in link)
        for link in chain
    )


def pack_reply(
    payload: bytes, version: tuple[int, int] | None = None, changes: Changes | None = None
) -> bytes:
    """Pack an answer's body."""
    return ormsgpack.packb((payload, version, None if changes is None else tuple(changes)))


def unpack_reply(body: bytes) -> Reply:
    """Unpack an answer's body from a server that this client trusts to be one."""
    payload, version, changes = ormsgpack.unpackb(body)
    return Reply(payload, version, None if changes is None else Changes(*changes))


def pack_error(code: Code, args: Sequence[object]) -> tuple[int, bytes]:
    """Return the code and payload of one of our errors (not of a user's exception)."""
    return int(code), ormsgpack.packb(list(args))


def unpack_error(payload: bytes) -> list[Any]:
    """Return the args of one of our errors."""
    args = ormsgpack.unpackb(payload)
    return args if isinstance(args, list) else [args]
