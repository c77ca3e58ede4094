"""Calls made of generated stubs and JSON alone: what a client in another language does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from harness.processes import READY_S

from perdure.wire.v1 import calls_pb2, calls_pb2_grpc

CALL = "/perdure.wire.v1.Calls/Call"
GET_OR_CREATE = calls_pb2.OPERATION_GET_OR_CREATE
GET = calls_pb2.OPERATION_GET
EXISTS = calls_pb2.OPERATION_EXISTS
DELETE = calls_pb2.OPERATION_DELETE
START = calls_pb2.OPERATION_START
RESUME = calls_pb2.OPERATION_RESUME
NOTIFY = calls_pb2.OPERATION_NOTIFY
RESULT = calls_pb2.OPERATION_RESULT


@dataclass(frozen=True)
class Refused:
    """How a server refused a call."""

    status: str
    """The name of the gRPC status."""
    reason: str
    """Empty when gRPC itself refused."""
    applied: str
    text: str
    facts: dict[str, str]


class RawClient:
    """Talks to one server."""

    def __init__(self, address: str, options: Sequence[tuple[str, Any]] = ()) -> None:
        self.channel = grpc.insecure_channel(address, options=[*options])
        self.stub = calls_pb2_grpc.CallsStub(self.channel)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def ask(
        self,
        type: str,
        id: str,
        method: str = "",
        arguments: Any = None,
        *,
        operation: Any = calls_pb2.OPERATION_UNSPECIFIED,
        text: str | bytes | None = None,
        key: str | None = None,
        timeout_s: float | None = READY_S,
    ) -> Any:
        """Make a call and return its result; `text` is JSON that is sent as it stands."""
        return json.loads(
            self.stub.Call(
                request(type, id, method, arguments, operation=operation, text=text, key=key),
                timeout=timeout_s,
                wait_for_ready=True,
            ).result.data
        )

    def send_bytes(
        self,
        message: bytes,
        *,
        path: str = CALL,
        metadata: Sequence[tuple[str, str]] = (),
        compression: grpc.Compression | None = None,
    ) -> bytes:
        """Send bytes as they are, to any method."""
        call = self.channel.unary_unary(path)
        answer: bytes = call(
            message,
            timeout=READY_S,
            metadata=[*metadata],
            compression=compression,
            wait_for_ready=True,
        )
        return answer


def told(client: RawClient, *words: Any, timeout_s: float, **more: Any) -> Refused:
    """Make a call that waits in vain, and return what a server says of it before its deadline.

    A machine that is busy says nothing in time: then it gets twice the time. Whoever has heard
    knows that the calls before have ended too, because they had less time.
    """
    while True:
        try:
            client.ask(*words, timeout_s=timeout_s, **more)
        except grpc.RpcError as error:
            if (how := refused(error)).reason:
                return how
        else:
            raise AssertionError("the call was answered")
        timeout_s *= 2


def request(
    type: str,
    id: str,
    method: str = "",
    arguments: Any = None,
    *,
    operation: Any = calls_pb2.OPERATION_UNSPECIFIED,
    text: str | bytes | None = None,
    key: str | None = None,
) -> calls_pb2.CallRequest:
    """Build a request with JSON arguments."""
    made = calls_pb2.CallRequest(
        type=type, id=id, method=method, operation=operation, idempotency_key=key
    )
    if text is None and arguments is not None:
        text = json.dumps(arguments)
    if text is not None:
        made.arguments.encoding = calls_pb2.ENCODING_JSON
        made.arguments.data = text if isinstance(text, bytes) else text.encode()
    return made


def refused(error: grpc.RpcError) -> Refused:
    """Read what a refusal says."""
    assert isinstance(error, grpc.Call)
    info = ErrorInfo()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status = Status.FromString(value)
            for detail in status.details:
                if detail.Is(ErrorInfo.DESCRIPTOR):
                    detail.Unpack(info)
    facts = dict(info.metadata)
    return Refused(
        error.code().name, info.reason, facts.get("applied", ""), error.details() or "", facts
    )
