"""`Cluster.Inspect`, `.ListCalls` and `.Decide`: what operators ask of calls, and decide."""

from __future__ import annotations

from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from perdure.cancelling import check_call_id
from perdure.codec import decode, encode
from perdure.errors import BadObjectId, BadPayload, Code
from perdure.frames import Kind
from perdure.ids import OBJECT_ID_BYTES_MAX, ObjectKey, check_object_id
from perdure.serving.backend import Backend
from perdure.serving.status import refusal_of_answer
from perdure.wire.v1 import cluster_pb2

__all__ = ["answer_decide", "answer_inspect", "answer_list_calls"]

_CANCELS: Final[dict[int, str]] = {
    cluster_pb2.DECISION_CANCEL_CALL: "cancel",
    cluster_pb2.DECISION_KILL_CALL: "kill",
}

_M = TypeVar("_M", bound=Message)


async def answer_inspect(message: bytes, backend: Backend) -> bytes:
    """Answer a packed `InspectRequest`."""
    request = _parse(cluster_pb2.InspectRequest, message)
    answer = await backend.inspect(_target_of(request))
    return answer.SerializeToString()


async def answer_list_calls(message: bytes, backend: Backend) -> bytes:
    """Answer a packed `ListCallsRequest`."""
    answer = await backend.list_calls(_parse(cluster_pb2.ListCallsRequest, message))
    return answer.SerializeToString()


async def answer_decide(message: bytes, time_left: float, backend: Backend) -> bytes:
    """Carry out a packed `DecideRequest`.

    Args:
        message: As it came from outside.
        time_left: Seconds until its client gives up.
        backend: Carries it out.
    """
    request = _parse(cluster_pb2.DecideRequest, message)
    target = _target_of(request)
    how = _CANCELS.get(request.decision)
    if how is not None:
        done = await _cancel(target, request.name, how, time_left, backend)
    elif request.decision in cluster_pb2.Decision.values()[1:]:
        done = await backend.decide(target, request.decision, request.name)
    else:
        raise BadPayload(f"there is no decision {request.decision}")
    return cluster_pb2.Decided(done=done).SerializeToString()


async def _cancel(
    target: ObjectKey, call_id: str, how: str, time_left: float, backend: Backend
) -> bool:
    try:
        check_call_id(call_id)
    except ValueError as error:
        raise BadPayload(str(error)) from None
    backend.check_owner(target)
    answer = await backend.client.call(
        target, Kind.CANCEL, how, arguments=encode(call_id), timeout_s=max(0.0, time_left)
    )
    if answer.code != Code.OK:
        raise refusal_of_answer(answer.code, answer.reply.payload)
    return bool(decode(answer.reply.payload))


def _parse(message_type: type[_M], message: bytes) -> _M:
    try:
        return message_type.FromString(message)
    except DecodeError:
        raise BadPayload(f"the message is no {message_type.DESCRIPTOR.name}") from None


def _target_of(
    request: cluster_pb2.InspectRequest | cluster_pb2.DecideRequest,
) -> ObjectKey:
    type = request.type
    if not type or "\0" in type or len(type.encode()) > OBJECT_ID_BYTES_MAX:
        raise BadObjectId(
            f"the name of a type has 1 to {OBJECT_ID_BYTES_MAX} bytes of UTF-8, none of them NUL"
        )
    return ObjectKey(type, check_object_id(request.id))
