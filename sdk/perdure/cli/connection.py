"""A connection of the command line: plain gRPC and JSON, without any of the user's classes."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from perdure.cli.failure import CommandFailed
from perdure.ids import ObjectKey
from perdure.wire.v1 import calls_pb2, calls_pb2_grpc, cluster_pb2, cluster_pb2_grpc

__all__ = ["Connection", "RequestFailed"]

_CHANNEL_ARGUMENTS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # One question, one answer: trying again is left to whoever runs the command.
    ("grpc.enable_retries", 0),
]


class RequestFailed(CommandFailed):
    """The server refused, or cannot be reached."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason
        """The name of one of our codes; empty when it was no server of ours that spoke."""


class Connection:
    """Asks one router or node."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=_CHANNEL_ARGUMENTS)
        self._calls = calls_pb2_grpc.CallsStub(self._channel)
        self._cluster = cluster_pb2_grpc.ClusterStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def operate(
        self,
        target: ObjectKey,
        operation: calls_pb2.Operation.ValueType,
        method: str = "",
        arguments: bytes | None = None,
        key: str | None = None,
    ) -> str:
        """Call an object, and return the result as JSON.

        Raises:
            RequestFailed: With the server's text, in one line.
        """
        request = calls_pb2.CallRequest(
            type=target.type, id=target.id, operation=operation, method=method
        )
        if arguments is not None:
            request.arguments.encoding = calls_pb2.ENCODING_JSON
            request.arguments.data = arguments
        if key is not None:
            request.idempotency_key = key
        try:
            answer = self._calls.Call(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error) from None
        return answer.result.data.decode()

    def describe(self) -> cluster_pb2.Description:
        """Return what the server knows of its cluster.

        Raises:
            RequestFailed: As above.
        """
        try:
            return self._cluster.Describe(cluster_pb2.DescribeRequest(), timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def list_ids(
        self, type_name: str, prefix: str, after: Sequence[tuple[int, str]], limit: int
    ) -> list[tuple[list[str], bool]]:
        """Return one page of ids from each of some partitions, asked all at once.

        Args:
            type_name: Of the objects.
            prefix: Of their ids.
            after: Partitions, each with the id to go on after.
            limit: Ids in one page.

        Returns:
            For each partition, in the same order, its ids and whether there may be more.

        Raises:
            RequestFailed: As above.
        """
        asked = [
            self._cluster.List.future(
                cluster_pb2.ListRequest(
                    partition=partition, type=type_name, prefix=prefix, after=last, limit=limit
                ),
                timeout=self._timeout_s,
            )
            for partition, last in after
        ]
        try:
            answers = [question.result() for question in asked]
        except grpc.RpcError as error:
            raise self._failure(error) from None
        return [(list(answer.ids), answer.more) for answer in answers]

    def inspect(self, target: ObjectKey) -> cluster_pb2.Inspection:
        """Return what an object does and waits for.

        Raises:
            RequestFailed: As above.
        """
        request = cluster_pb2.InspectRequest(type=target.type, id=target.id)
        try:
            return self._cluster.Inspect(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def list_calls(self, request: cluster_pb2.ListCallsRequest) -> cluster_pb2.CallPage:
        """Return one page of the calls that are not over.

        Raises:
            RequestFailed: As above.
        """
        try:
            return self._cluster.ListCalls(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def decide(
        self, target: ObjectKey, decision: cluster_pb2.Decision.ValueType, name: str
    ) -> bool:
        """Decide about a call or a timer; returns whether there is one.

        Raises:
            RequestFailed: As above.
        """
        request = cluster_pb2.DecideRequest(
            type=target.type, id=target.id, decision=decision, name=name
        )
        try:
            return self._cluster.Decide(request, timeout=self._timeout_s).done
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def _failure(self, error: grpc.RpcError) -> RequestFailed:
        # Every error of a call of ours is one; the stubs of grpc do not say so.
        assert isinstance(error, grpc.Call)
        status, text = error.code(), " ".join((error.details() or "").split())
        reason = _reason(error)
        if reason:
            return RequestFailed(text, reason)
        match status:
            case grpc.StatusCode.UNAVAILABLE:
                text = f"nothing answers at {self.address}: is the cluster running there?"
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                text = f"{self.address} has not answered after {self._timeout_s:g} s"
            case grpc.StatusCode.UNIMPLEMENTED:
                text = f"what answers at {self.address} is not Perdure"
            case _:
                text = f"{self.address}: {text or status.name}"
        return RequestFailed(text, "")


def _reason(error: grpc.Call) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            info = ErrorInfo()
            for detail in Status.FromString(value).details:
                if detail.Unpack(info):
                    return str(info.reason)
    return ""
