"""Calls and answers as they travel: what is inside a `CallBatch` and an `AnswerBatch`.

docs/wire.md describes the same for other languages. A router reads only the envelope (the
number, partition and time left of a call; the number and code of an answer); the body passes
through it unread.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

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


# What decoding checks, in C. msgspec reads a `NamedTuple` from an array of exactly its fields.
_Natural = Annotated[int, Meta(ge=0)]
_Session = Annotated[bytes, Meta(min_length=16, max_length=16)]
_Version = Annotated[list[int], Meta(min_length=2, max_length=2)]
_Link = Annotated[list[str], Meta(min_length=3, max_length=3)]


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
    START = 9
    """Begins a run of a workflow, whose name is `method`; `id` is the run's. Answered when the
    run waits for the first time: whether there was none of that id."""
    RESUME = 10
    """Brings a payload, the arguments, to the hook of a run with the token `method`. Answered
    with the reply of the run."""
    NOTIFY = 11
    """As RESUME; answered without a reply, once the payload is durable."""
    WAKE = 12
    """Ends the sleeps of a run."""
    ASK = 13
    """Asks about a run, beside everything else, or has it cancelled: `method` says what. No
    sequence: copies of it do no harm."""
    PROBE = 14
    """Asks what another call to the object waits for, beside everything else. The argument is as
    for CANCEL. No sequence. Partitions ask one another so: see `core/probing.py` of a node."""


class Encoding(enum.IntEnum):
    """How arguments and result are written."""

    MSGPACK = 0
    JSON = 1


class CallFrame(NamedTuple):
    """A call's envelope."""

    number: _Natural
    """Given by the sender, for one stream: the answer bears it. 0: no answer is wanted."""
    partition: _Natural
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


class Request(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """A call's body: an array of these fields, all of them.

    Not a `NamedTuple`, because every call reads two dozen of its fields, and they are four times
    as far away there.
    """

    kind: int
    session: _Session
    """16 bytes, see `ids.new_session_id`."""
    sequence: int
    """Dense per (session, partition), from 1. 0 for GET, EXISTS, LIST, CANCEL, ASK and PROBE."""
    previous: _Natural
    """The sequence of this session's call before this one to the same object, if the caller
    still wants that one's answer; else 0. This call must not run before it."""
    confirmed: Annotated[list[_Natural], Meta(min_length=1)]
    """`[watermark, first, last, first, last, ...]`: sequences of (session, partition) whose
    answers the caller has got or given up: all up to the watermark, and these intervals above
    it. None of them will ever be sent again; a copy that still comes must not run."""
    type: str
    id: str
    method: str
    encoding: Annotated[int, Meta(ge=0, le=1)]
    arguments: bytes
    """MSGPACK: `codec.encode([positional list, named dict])`. JSON: an array or an object. Empty:
    there are none."""
    key: str | None
    have: _Version | None
    """The version `[epoch, number]` of the state that the caller has; `[0, 0]`: none yet;
    None: it wants no state with the answer."""
    chain: list[_Link]
    """The calls that this one is inside of, outermost first: `[type, id, method]` each."""
    due_ms: _Natural
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
    version: _Version | None
    """`[epoch, number]` of the state after `changes`; None when no state came along."""
    changes: Changes | None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_calls: Final = msgspec.msgpack.Decoder(list[CallFrame]).decode
_decode_answers: Final = msgspec.msgpack.Decoder(list[AnswerFrame]).decode
_decode_request: Final = msgspec.msgpack.Decoder(Request).decode
_decode_reply: Final = msgspec.msgpack.Decoder(Reply).decode
_decode: Final = msgspec.msgpack.Decoder().decode


def pack_batch(frames: Sequence[CallFrame] | Sequence[AnswerFrame]) -> bytes:
    """Pack call frames or answer frames for one message."""
    return _encode(frames)


def unpack_calls(data: bytes) -> list[CallFrame]:
    """Unpack call frames that came from outside.

    Raises:
        BadPayload: They are no call frames.
    """
    try:
        return _decode_calls(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadPayload(
            "a batch is a MessagePack array of call frames: [number, partition, "
            f"milliseconds, bytes]: {error}"
        ) from None


def unpack_answers(data: bytes) -> list[AnswerFrame]:
    """Unpack answer frames.

    Raises:
        BadPayload: They are no answer frames.
    """
    try:
        return _decode_answers(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadPayload(
            f"a batch is a MessagePack array of answer frames: [number, code, bytes]: {error}"
        ) from None


def pack_request(request: Request) -> bytes:
    """Pack a call's body."""
    return _encode(request)


def unpack_request(body: bytes) -> Request:
    """Unpack a call's body that came from outside; `ids` and sizes are not checked here.

    Raises:
        BadPayload: It is no call.
    """
    try:
        request = _decode_request(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _no_request(str(error)) from None
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
    payload: bytes, version: tuple[int, int] | None = None, changes: Changes | None = None
) -> bytes:
    """Pack an answer's body."""
    return _encode((payload, version, changes))


def unpack_reply(body: bytes) -> Reply:
    """Unpack an answer's body from a server that this client trusts to be one."""
    return _decode_reply(body)


def pack_error(code: Code, args: Sequence[object]) -> tuple[int, bytes]:
    """Return the code and payload of one of our errors (not of a user's exception)."""
    return int(code), _encode(args)


def unpack_error(payload: bytes) -> list[Any]:
    """Return the args of one of our errors."""
    args = _decode(payload)
    return args if isinstance(args, list) else [args]
