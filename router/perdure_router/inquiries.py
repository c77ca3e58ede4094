"""What a router asks nodes about: descriptions, and lists of ids."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import grpc

from perdure.errors import NoOwner
from perdure.grpc_transport import channel_options
from perdure.ids import ObjectKey
from perdure.serving.backend import LIST_LIMIT_MAX, Description, TypeDescription
from perdure.serving.cluster import description_from_wire
from perdure.serving.status import Refusal
from perdure.wire.v1 import cluster_pb2

__all__ = ["Inquiries", "merge_pages", "merge_types"]

_DESCRIBE_S: Final = 1.0
_LOOK_S: Final = 5.0
_LIST_S: Final = 10.0

_DETAILS_KEY: Final = "grpc-status-details-bin"


class Inquiries:
    """Unary calls to nodes, each on a connection of its own."""

    def __init__(self, nodes: Mapping[str, str]) -> None:
        self._nodes = nodes
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def describe(self) -> dict[str, Description]:
        """Return what each node says of itself; those that do not answer in time are left out."""
        answers = await asyncio.gather(*(self._describe(name) for name in self._nodes))
        return {
            name: answer
            for name, answer in zip(self._nodes, answers, strict=True)
            if answer is not None
        }

    async def _describe(self, node: str) -> Description | None:
        try:
            message = await self._ask(node, "Describe", b"", _DESCRIBE_S)
        except grpc.aio.AioRpcError:
            return None
        return description_from_wire(message)

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.close()

    async def _ask(self, node: str, method: str, message: bytes, timeout_s: float) -> bytes:
        channel = self._channels.get(node)
        if channel is None:
            channel = grpc.aio.insecure_channel(self._nodes[node], options=channel_options())
            self._channels[node] = channel
        call: Any = channel.unary_unary(f"/perdure.wire.v1.Cluster/{method}")
        answer: bytes = await call(message, timeout=timeout_s)
        return answer

    async def list(
        self, node: str, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[list[str], bool]:
        """Return ids of one partition, asked of its owner.

        Raises:
            NoOwner: It could not be reached.
            Refusal: What it said.
        """
        request = cluster_pb2.ListRequest(
            partition=partition, type=type, prefix=prefix, after=after, limit=limit
        )
        try:
            message = await self._ask(node, "List", request.SerializeToString(), _LIST_S)
        except grpc.aio.AioRpcError as error:
            refusal = _refusal_of(error)
            if refusal is None:
                raise NoOwner(partition) from None
            raise refusal from None
        answer = cluster_pb2.ListAnswer.FromString(message)
        return list(answer.ids), answer.more

    async def inspect(self, node: str, target: ObjectKey) -> cluster_pb2.Inspection | None:
        """Return what an object does, asked of its owner. None: that does not answer.

        Raises:
            Refusal: What it said.
        """
        request = cluster_pb2.InspectRequest(type=target.type, id=target.id)
        try:
            message = await self._ask(node, "Inspect", request.SerializeToString(), _LOOK_S)
        except grpc.aio.AioRpcError as error:
            refusal = _refusal_of(error)
            if refusal is None:
                return None
            raise refusal from None
        return cluster_pb2.Inspection.FromString(message)

    async def list_calls(
        self, nodes: Iterable[str], asked: cluster_pb2.ListCallsRequest
    ) -> cluster_pb2.CallPage:
        """Return a page of the calls of some nodes. It names those that do not answer."""
        pages = await asyncio.gather(*(self._list_calls(node, asked) for node in nodes))
        return merge_pages(pages, min(asked.limit or LIST_LIMIT_MAX, LIST_LIMIT_MAX))

    async def _list_calls(
        self, node: str, asked: cluster_pb2.ListCallsRequest
    ) -> cluster_pb2.CallPage:
        try:
            message = await self._ask(node, "ListCalls", asked.SerializeToString(), _LOOK_S)
        except grpc.aio.AioRpcError:
            return cluster_pb2.CallPage(missing=[f"node {node} (does not answer)"])
        return cluster_pb2.CallPage.FromString(message)

    async def decide(
        self,
        node: str,
        partition: int,
        target: ObjectKey,
        decision: cluster_pb2.Decision.ValueType,
        name: str,
    ) -> bool:
        """Have a node carry out a decision about one of its objects.

        Raises:
            NoOwner: It could not be reached, or has not answered.
            Refusal: What it said.
        """
        request = cluster_pb2.DecideRequest(
            type=target.type, id=target.id, decision=decision, name=name
        )
        try:
            message = await self._ask(node, "Decide", request.SerializeToString(), _LIST_S)
        except grpc.aio.AioRpcError as error:
            refusal = _refusal_of(error)
            if refusal is None:
                raise NoOwner(partition) from None
            raise refusal from None
        return cluster_pb2.Decided.FromString(message).done


def merge_pages(pages: Iterable[cluster_pb2.CallPage], limit: int) -> cluster_pb2.CallPage:
    """Return the first so many entries of some pages that begin at the same place."""
    pages = list(pages)
    calls = sorted((call for page in pages for call in page.calls), key=lambda call: call.place)
    timers = sorted((timer for page in pages for timer in page.timers), key=lambda t: t.place)
    merged = cluster_pb2.CallPage(
        calls=calls[:limit],
        timers=timers[: max(0, limit - len(calls))],
        more=len(calls) + len(timers) > limit or any(page.more for page in pages),
        missing=[what for page in pages for what in page.missing],
    )
    places = [c.place for c in merged.calls] + [t.place for t in merged.timers]
    merged.next = places[-1] if places else ""
    return merged


def merge_types(descriptions: Iterable[Description]) -> list[TypeDescription]:
    """Return every type that some node knows, by name."""
    types = {type.name: type for description in descriptions for type in description.types}
    return [types[name] for name in sorted(types)]


def _refusal_of(error: grpc.aio.AioRpcError) -> Refusal | None:
    """Return what a node refused with; None when it was never asked."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return Refusal.unpack(value)
    return None
