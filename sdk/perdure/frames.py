"""Calls and answers as they travel: what is inside a `CallBatch` and an `AnswerBatch`.

docs/wire.md describes the same for other languages. A router reads only the envelope (the
number, partition and time left of a call; the number and code of an answer); the body passes
through it unread, see `bodies`. What msgspec has to know of bodies is here too.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Final, NamedTuple, cast

import msgspec
from msgspec import Meta

from perdure.errors import BadPayload

__all__ = [
    "TIME_LEFT_MAX_MS",
    "AnswerFrame",
    "CallFrame",
    "Changes",
    "ChangesFields",
    "Encoding",
    "Kind",
    "Reply",
    "RequestFields",
    "decode",
    "decode_reply",
    "decode_request",
    "encode",
    "new_call_frame",
    "pack_batch",
    "unpack_answers",
    "unpack_calls",
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


new_call_frame: Final = cast(
    "Callable[[tuple[int, int, int, bytes]], CallFrame]", partial(tuple.__new__, CallFrame)
)
"""Makes a frame of its fields. Where modules are compiled, `CallFrame` is a call of Python."""

AnswerFrame = tuple[int, int, bytes]
"""An answer's envelope: the number of its call, its code, and a packed `Reply`. A plain tuple,
because each node and each router makes one for every call."""


class Changes(NamedTuple):
    """What a caller's copy of an object's state lacks."""

    full: bool
    """`values` is the whole state: forget what you had."""
    values: dict[str, bytes]
    """Attribute to `codec.encode(value)`."""
    deleted: list[str]
    left_out: list[str]
    """Attributes too large to travel along. Reading one raises `NotLoaded`."""


ChangesFields = tuple[bool, dict[str, bytes], list[str], list[str]]
"""Those of `Changes`, as a node makes them."""


class Reply(NamedTuple):
    """An answer's body."""

    payload: bytes
    """OK: the result. RAISED: a packed exception, see `raised.py`. Else: the error's args."""
    version: _Version | None
    """`[epoch, number]` of the state after `changes`; None when no state came along."""
    changes: Changes | None


RequestFields = tuple[
    int,
    _Session,
    int,
    _Natural,
    Annotated[list[_Natural], Meta(min_length=1)],
    str,
    str,
    str,
    Annotated[int, Meta(ge=0, le=1)],
    bytes,
    str | None,
    _Version | None,
    list[_Link],
    _Natural,
]
"""Those of `bodies.Request`, in their order."""

encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder().decode
decode_request: Final = msgspec.msgpack.Decoder(RequestFields).decode
decode_reply: Final = msgspec.msgpack.Decoder(Reply).decode
_decode_calls: Final = msgspec.msgpack.Decoder(list[CallFrame]).decode
_decode_answers: Final = msgspec.msgpack.Decoder(list[AnswerFrame]).decode


def pack_batch(frames: Sequence[CallFrame] | Sequence[AnswerFrame]) -> bytes:
    """Pack call frames or answer frames for one message."""
    return encode(frames)


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
