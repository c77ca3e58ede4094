"""A node, as its gRPC server sees it."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.client import Client
from perdure.errors import NotOwner
from perdure.frames import CallFrame
from perdure.ids import ObjectKey, partition_of
from perdure.objects import find_type
from perdure.partition_map import MappedNode, PartitionMap
from perdure.ring import place
from perdure.serving.backend import AnswerSink, Description
from perdure.transport import Welcome
from perdure.wire.v1 import cluster_pb2
from perdure_node.node import Node

__all__ = ["NodeService"]


class NodeService:
    """A `Backend` that is one node: it answers for its own partitions only."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._placement: list[str] = []
        """The node of each partition, once somebody has asked."""

    @property
    def client(self) -> Client:
        """Makes the calls that come without a session of their own."""
        return self._node.client

    def welcome(self) -> Welcome:
        """Return the cluster, and the partitions of this node."""
        return self._node.welcome()

    def check_owner(self, target: ObjectKey) -> None:
        """Refuse an object of another node.

        The node's client could reach it, because objects call one another. But who sends calls
        to a node by its address should hear that they go to the wrong one.

        Raises:
            UnknownType: No node owns objects of that type: all run the same app.
            NotOwner: With the epoch of this node.
        """
        find_type(target.type)
        node = self._node
        partition = partition_of(target, node.partition_count)
        if partition not in node.owned:
            raise NotOwner(partition, max(node.welcome().owned.values(), default=0))

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        """Take calls in, in order."""
        self._node.receive(frames, sink)

    async def describe(self) -> Description:
        """Return what operators see."""
        return await self._node.describe()

    def partition_map(self) -> PartitionMap:
        """Return this node's partitions, and where the others were placed: nobody moves them."""
        settings, welcome = self._node.settings, self._node.welcome()
        addresses = dict(settings.nodes) or {settings.name: settings.listen}
        if not self._placement:
            self._placement = place(welcome.partition_count, list(addresses))
        owned: dict[str, dict[int, int]] = {name: {} for name in addresses}
        for partition, name in enumerate(self._placement):
            owned[name][partition] = 0
        owned[settings.name] = dict(welcome.owned)
        return PartitionMap(
            welcome.cluster_id,
            welcome.partition_count,
            settings.name,
            "node",
            [MappedNode(name, address, owned[name]) for name, address in addresses.items()],
            list(settings.routers),
        )

    async def list(
        self, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[Sequence[str], bool]:
        """Return ids of stored objects of one of this node's partitions.

        Raises:
            NotOwner, DataLoss: It is not here, or damaged.
        """
        return await self._node.list(partition, type, prefix, after, limit)

    async def inspect(self, target: ObjectKey) -> cluster_pb2.Inspection:
        """Return what an object does and waits for.

        Raises:
            NotOwner: It is another node's.
        """
        return self._node.operations.inspect(target)

    async def list_calls(self, asked: cluster_pb2.ListCallsRequest) -> cluster_pb2.CallPage:
        """Return calls that are not over, of this node."""
        if asked.node not in ("", self._node.settings.name):
            return cluster_pb2.CallPage(missing=[f"node {asked.node} (ask a router)"])
        return self._node.operations.list_calls(asked)

    async def decide(
        self, target: ObjectKey, decision: cluster_pb2.Decision.ValueType, name: str
    ) -> bool:
        """Carry out what an operator has decided about a parked call or timer.

        Raises:
            PerdureError: It is not here, damaged, or cannot be.
        """
        return await self._node.operations.decide(target, decision, name)
