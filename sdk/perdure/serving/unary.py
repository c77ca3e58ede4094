"""`Calls.Call`: one call in one gRPC call, for clients that have no SDK.

What is wrong with a request itself is refused here, before any node is asked. Which types and
methods there are, and whether arguments fit, only a node knows.
"""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from perdure import codec
from perdure.errors import (
    BadArguments,
    BadKey,
    BadObjectId,
    BadPayload,
    Code,
    DeadlineExceeded,
    TooLarge,
    UnknownMethod,
)
from perdure.frames import TIME_LEFT_MAX_MS, Encoding, Kind
from perdure.ids import OBJECT_ID_BYTES_MAX, ObjectKey, check_object_id
from perdure.serving.backend import Backend
from perdure.serving.limits import ServerLimits
from perdure.serving.runs import Asked, answer_about_run
from perdure.serving.status import Refusal, refusal_of_answer, refusal_of_error
from perdure.wire.v1 import calls_pb2

__all__ = ["answer_call", "time_left_s"]

KEY_BYTES_MAX: Final = 256
"""Bytes of UTF-8 in an idempotency key."""

_METHOD_BYTES_MAX: Final = 512

_PASSED_S: Final = 0.001
"""gRPC sends a deadline that has passed as one nanosecond, and rounds that up to so much."""

_KINDS: Final = {
    calls_pb2.OPERATION_UNSPECIFIED: Kind.CALL,
    calls_pb2.OPERATION_GET_OR_CREATE: Kind.GET_OR_CREATE,
    calls_pb2.OPERATION_GET: Kind.GET,
    calls_pb2.OPERATION_EXISTS: Kind.EXISTS,
    calls_pb2.OPERATION_DELETE: Kind.DELETE,
    calls_pb2.OPERATION_START: Kind.START,
    calls_pb2.OPERATION_RESUME: Kind.RESUME,
    calls_pb2.OPERATION_NOTIFY: Kind.NOTIFY,
    calls_pb2.OPERATION_RESULT: Kind.ASK,
}

_OF_RUNS: Final = {
    Kind.START: "workflow",
    Kind.RESUME: "hook",
    Kind.NOTIFY: "hook",
    Kind.ASK: "workflow",
}
"""What is asked of runs, and the type of what is named by it."""

_WITH_METHOD: Final = frozenset((Kind.CALL, Kind.START))
_WITH_ARGUMENTS: Final = frozenset((Kind.CALL, Kind.START, Kind.RESUME, Kind.NOTIFY))

_NO_ARGUMENTS: Final = {
    Encoding.JSON: b"[]",
    Encoding.MSGPACK: codec.encode([[], {}]),
}

_ENCODINGS: Final = {
    calls_pb2.ENCODING_JSON: Encoding.JSON,
    calls_pb2.ENCODING_MSGPACK: Encoding.MSGPACK,
}

_WIRE_ENCODINGS: Final = {
    Encoding.JSON: calls_pb2.ENCODING_JSON,
    Encoding.MSGPACK: calls_pb2.ENCODING_MSGPACK,
}


async def answer_call(
    message: bytes, time_left: float, backend: Backend, limits: ServerLimits
) -> bytes:
    """Carry out one packed `CallRequest` and return the packed `CallAnswer`.

    Args:
        message: As it came from outside.
        time_left: Seconds until its client gives up.
        backend: Makes the call.
        limits: Of the server.

    Raises:
        Refusal: It was refused, or it failed.
        BadPayload, BadObjectId, BadKey, BadArguments, UnknownMethod, TooLarge: The request
            itself is wrong.
        NotOwner: Another server answers for the object.
    """
    if len(message) > limits.call_bytes_max:
        raise TooLarge(
            f"the message has {len(message)} bytes, the limit is {limits.call_bytes_max}"
        )
    request = _parse(message)
    target = _target_of(request)
    kind = _kind_of(request)
    encoding, arguments = _arguments_of(request, kind)
    key = _key_of(request)
    backend.check_owner(target)
    if time_left <= _PASSED_S:
        raise refusal_of_error(
            DeadlineExceeded("the deadline had passed before the call began"), applied="no"
        )

    timeout_s = _time_to_run(time_left)
    if kind in _OF_RUNS:
        asked = Asked(kind, target, request.method, arguments, encoding, timeout_s)
        answer = await answer_about_run(backend.client, asked)
    else:
        answer = await backend.client.call(
            target,
            kind,
            request.method,
            arguments=arguments,
            encoding=encoding,
            key=key,
            timeout_s=timeout_s,
        )

    if answer.code != Code.OK:
        raise refusal_of_answer(answer.code, answer.reply.payload)
    result = calls_pb2.Payload(encoding=_WIRE_ENCODINGS[encoding], data=answer.reply.payload)
    return calls_pb2.CallAnswer(result=result).SerializeToString()


def time_left_s(context: grpc.aio.ServicerContext[bytes, bytes], limits: ServerLimits) -> float:
    """Return how long the client of a gRPC call still waits: never longer than 24 hours."""
    # The stubs say float; without a deadline it is None.
    time_left: float | None = context.time_remaining()
    if time_left is None:
        return limits.default_timeout_s
    return min(time_left, TIME_LEFT_MAX_MS / 1000)


def _time_to_run(time_left: float) -> float:
    """Leave some of the time for the way back.

    So that a client hears from us what is known about its call, and not only from its own clock
    that time is over. gRPC rounds deadlines up on their way, by as much as one part in a hundred.
    """
    return time_left - min(0.1 * time_left, max(0.05, 0.02 * time_left))


def _parse(message: bytes) -> calls_pb2.CallRequest:
    try:
        return calls_pb2.CallRequest.FromString(message)
    except DecodeError:
        raise _why_not_parsed(message) from None


def _why_not_parsed(message: bytes) -> BadPayload | BadObjectId | BadKey:
    """Tell names that are no UTF-8 from bytes that are no message at all."""
    names: dict[int, BadPayload | BadObjectId | BadKey] = {
        1: BadObjectId("the name of a type is valid UTF-8"),
        2: BadObjectId("an object id is valid UTF-8"),
        6: BadKey("an idempotency key is valid UTF-8"),
    }
    malformed = BadPayload("the message is no CallRequest")
    try:
        fields = UnknownFieldSet(Empty.FromString(message))
    except DecodeError:
        return malformed
    for index in range(len(fields)):
        field = fields[index]
        if field.field_number in names and isinstance(field.data, bytes):
            try:
                field.data.decode()
            except UnicodeDecodeError:
                return names[field.field_number]
    return malformed


def _target_of(request: calls_pb2.CallRequest) -> ObjectKey:
    type_name = request.type
    if not type_name or "\0" in type_name or len(type_name.encode()) > OBJECT_ID_BYTES_MAX:
        raise BadObjectId(
            f"the name of a type has 1 to {OBJECT_ID_BYTES_MAX} bytes of UTF-8, none of them NUL"
        )
    return ObjectKey(type_name, check_object_id(request.id))


def _kind_of(request: calls_pb2.CallRequest) -> Kind:
    kind = _KINDS.get(request.operation)
    if kind is None:
        raise BadPayload(f"there is no operation {request.operation}")
    name = calls_pb2.Operation.Name(request.operation).removeprefix("OPERATION_")
    if kind in _WITH_METHOD:
        if len(request.method.encode()) > _METHOD_BYTES_MAX:
            raise UnknownMethod(request.type, request.method[:40] + "...")
    elif request.method:
        raise BadArguments(f"{name} takes no method")
    if kind not in _WITH_ARGUMENTS and request.HasField("arguments"):
        raise BadArguments(f"{name} takes no arguments")
    wanted = _OF_RUNS.get(kind)
    if wanted is not None and request.type != wanted:
        raise BadArguments(f"{name} is for the type {wanted!r}, not {request.type!r:.80}")
    if wanted is not None and request.HasField("idempotency_key"):
        hint = (
            "the id of a run is one"
            if wanted == "workflow"
            else "put what tells it into the payload"
        )
        raise BadArguments(f"{name} takes no idempotency key: {hint}")
    return kind


def _arguments_of(request: calls_pb2.CallRequest, kind: Kind) -> tuple[Encoding, bytes]:
    given = request.arguments
    if given.encoding == calls_pb2.ENCODING_UNSPECIFIED and not given.data:
        encoding = Encoding.JSON
    elif given.encoding in _ENCODINGS:
        encoding = _ENCODINGS[given.encoding]
    else:
        raise Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            Code.CODEC_NOT_ALLOWED.name,
            f"arguments are JSON or MessagePack, not of encoding {given.encoding}",
            "no",
        )
    if kind in (Kind.CALL, Kind.START):
        return encoding, given.data or _NO_ARGUMENTS[encoding]
    return encoding, given.data


def _key_of(request: calls_pb2.CallRequest) -> str | None:
    if not request.HasField("idempotency_key"):
        return None
    key = request.idempotency_key
    if not 1 <= len(key.encode()) <= KEY_BYTES_MAX:
        raise BadKey(f"an idempotency key has 1 to {KEY_BYTES_MAX} bytes of UTF-8")
    return key
