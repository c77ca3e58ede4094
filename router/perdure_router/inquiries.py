"""What a router asks nodes about: descriptions, and lists of ids."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import grpc

from perdure.errors import NoOwner
from perdure.grpc_transport import channel_options
from perdure.serving.backend import Description, TypeDescription
from perdure.serving.cluster import description_from_wire
from perdure.serving.status import Refusal
from perdure.wire.v1 import cluster_pb2

__all__ = ["Inquiries", "merge_types"]

_DESCRIBE_S: Final = 1.0
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
