"""A router: streams of clients on one side, one stream to each node on the other.

What is between them, which a client that calls nodes itself has too, is in `perdure.routing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from perdure.bodies import pack_error, pack_reply
from perdure.client import Client
from perdure.errors import NoOwner, code_of
from perdure.frames import AnswerFrame, CallFrame
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey, partition_of
from perdure.partition_map import MappedNode, PartitionMap
from perdure.routing.forwarder import Forwarder
from perdure.routing.link import Link
from perdure.serving.backend import AnswerSink, Description, NodeDescription, PartitionDescription
from perdure.transport import Transport, Welcome
from perdure.wire.v1 import cluster_pb2
from perdure_router.inquiries import Inquiries, merge_types
from perdure_router.own_calls import OwnCalls
from perdure_router.settings import RouterSettings

__all__ = ["Router"]

_log = structlog.stdlib.get_logger(__name__)


class Router:
    """Forwards calls to the nodes that own them. A `Backend`.

    Belongs to the event loop on which it is started.
    """

    def __init__(
        self,
        settings: RouterSettings,
        *,
        connect: Callable[[str], Transport] = GrpcTransport,
    ) -> None:
        """Make a router.

        Args:
            settings: Its name, its nodes and its bounds.
            connect: Makes the transport to a node's address.
        """
        self.on_welcome: list[Callable[[], None]] = []
        """Called when `welcome` has become known."""
        self._settings = settings
        self._links = {
            name: Link(self, name, connect(address)) for name, address in settings.nodes.items()
        }
        self._inquiries = Inquiries(settings.nodes)
        self._cluster: Welcome | None = None
        self._forwarder: Forwarder[AnswerSink] | None = None
        self._last_owned: dict[str, dict[int, int]] = {}

    def start(self) -> None:
        """Begin to connect to all nodes."""
        self._own_calls = OwnCalls(self)
        self._client = Client(self._own_calls)
        for link in self._links.values():
            link.start()

    async def close(self) -> None:
        """Wait for the router's own calls, then leave all nodes."""
        await self._client.close(1.0)
        if self._forwarder is not None:
            self._forwarder.close()
        await asyncio.gather(*(link.close() for link in self._links.values()))
        await self._inquiries.close()

    @property
    def client(self) -> Client:
        """Makes the calls that come without a session of their own."""
        return self._client

    def welcome(self) -> Welcome | None:
        """Return what the first node has said of the cluster, in this router's name."""
        return self._cluster

    @property
    def open_count(self) -> int:
        """Calls not answered."""
        return 0 if self._forwarder is None else self._forwarder.open_count

    def reaches(self, node: str) -> bool:
        """Tell whether a node can be reached now."""
        return self._forwarder is not None and self._forwarder.knows(node)

    def check_owner(self, target: ObjectKey) -> None:
        """Allow all: a router answers for every object."""

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        """Take calls in, in order."""
        if self._forwarder is None:
            for frame in frames:
                if frame.number:
                    sink.send(_no_owner(frame))
            return
        self._forwarder.receive(frames, sink)

    def node_welcomed(self, name: str, welcome: Welcome) -> None:
        """Take note of what a node says of itself and of the cluster."""
        cluster = self._cluster
        if cluster is None:
            self._cluster = Welcome(
                welcome.cluster_id, welcome.partition_count, self._settings.name, {}
            )
            self._forwarder = Forwarder(
                welcome.partition_count, self._settings.limits, send=self._send, answer=_answer
            )
        elif (cluster.cluster_id, cluster.partition_count) != (
            welcome.cluster_id,
            welcome.partition_count,
        ):
            _log.error(
                "a node of another cluster is left out",
                node=name,
                its_cluster=welcome.cluster_id,
                its_partitions=welcome.partition_count,
                cluster=cluster.cluster_id,
                partitions=cluster.partition_count,
            )
            return
        self._last_owned[name] = dict(welcome.owned)
        _log.info("node reached", node=name, partitions=len(welcome.owned))
        assert self._forwarder is not None
        self._forwarder.node_welcomed(name, welcome.owned)
        if cluster is None:
            for tell in self.on_welcome:
                tell()

    def node_answered(self, frames: list[AnswerFrame]) -> None:
        """Pass answers on."""
        assert self._forwarder is not None, "a node answers only what was sent to it"
        self._forwarder.answered(frames)

    def node_lost(self, name: str, why: str) -> None:
        """Take note that a node cannot be reached."""
        if self._forwarder is not None and self.reaches(name):
            _log.warning("node lost", node=name, why=why)
            self._forwarder.node_lost(name)

    def _send(self, node: str, frames: list[CallFrame]) -> None:
        self._links[node].transport.send(frames)

    async def describe(self) -> Description:
        """Ask all nodes what they are.

        One is up when it answers in a second and calls can be forwarded to it: whoever waits
        until all partitions are served may then call.
        """
        answers = await self._inquiries.describe()
        nodes = []
        for name, address in self._settings.nodes.items():
            answer = answers.get(name)
            if answer is not None and answer.nodes and self.reaches(name):
                node = answer.nodes[0]
                nodes.append(NodeDescription(name, address, True, node.partitions, node.counters))
            else:
                lost = self._last_owned.get(name, {})
                partitions = [PartitionDescription(p, e, "unreachable") for p, e in lost.items()]
                nodes.append(NodeDescription(name, address, False, partitions))
        cluster = self._cluster
        return Description(
            "" if cluster is None else cluster.cluster_id,
            0 if cluster is None else cluster.partition_count,
            self._settings.name,
            "router",
            nodes,
            merge_types(answers.values()),
        )

    def partition_map(self) -> PartitionMap:
        """Return what nodes have said of themselves, also those that are lost by now.

        Raises:
            NoOwner: None has been reached yet.
        """
        cluster = self._cluster
        if cluster is None:
            raise NoOwner(0)
        return PartitionMap(
            cluster.cluster_id,
            cluster.partition_count,
            self._settings.name,
            "router",
            [
                MappedNode(name, address, self._last_owned.get(name, {}))
                for name, address in self._settings.nodes.items()
            ],
        )

    async def list(
        self, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[Sequence[str], bool]:
        """Ask the owner of a partition.

        Raises:
            NoOwner: It cannot be reached.
        """
        forwarder = self._forwarder
        owner = None if forwarder is None else forwarder.owner(partition)
        if owner is None:
            raise NoOwner(partition)
        return await self._inquiries.list(owner, partition, type, prefix, after, limit)

    async def inspect(self, target: ObjectKey) -> cluster_pb2.Inspection:
        """Ask the owner of an object; if that does not answer, say who it is."""
        partition, owner = self._place_of(target)
        if owner is not None:
            answer = await self._inquiries.inspect(owner, target)
            if answer is not None:
                return answer
        node = owner or self._last_owner(partition)
        return cluster_pb2.Inspection(node=node, partition=partition, reachable=False)

    async def list_calls(self, asked: cluster_pb2.ListCallsRequest) -> cluster_pb2.CallPage:
        """Ask all nodes, or the one that is asked for."""
        nodes = [asked.node] if asked.node else list(self._settings.nodes)
        if asked.node not in ("", *self._settings.nodes):
            return cluster_pb2.CallPage(missing=[f"node {asked.node} (there is none)"])
        return await self._inquiries.list_calls(nodes, asked)

    async def decide(
        self, target: ObjectKey, decision: cluster_pb2.Decision.ValueType, name: str
    ) -> bool:
        """Have the owner of an object carry out a decision.

        Raises:
            NoOwner: It cannot be reached.
        """
        partition, owner = self._place_of(target)
        if owner is None:
            raise NoOwner(partition)
        return await self._inquiries.decide(owner, partition, target, decision, name)

    def _place_of(self, target: ObjectKey) -> tuple[int, str | None]:
        """Return the partition of an object, and its owner, if one is known.

        Raises:
            NoOwner: Not even the partition is known yet.
        """
        cluster = self._cluster
        if cluster is None or self._forwarder is None:
            raise NoOwner(0)
        partition = partition_of(target, cluster.partition_count)
        return partition, self._forwarder.owner(partition)

    def _last_owner(self, partition: int) -> str:
        owners = [
            (owned[partition], n) for n, owned in self._last_owned.items() if partition in owned
        ]
        return max(owners)[1] if owners else ""


def _answer(answers: Sequence[tuple[AnswerSink, AnswerFrame]]) -> None:
    for sink, frame in answers:
        sink.send(frame)


def _no_owner(frame: CallFrame) -> AnswerFrame:
    error = NoOwner(frame.partition)
    code, payload = pack_error(code_of(error), error.args)
    return (frame.number, code, pack_reply(payload))
