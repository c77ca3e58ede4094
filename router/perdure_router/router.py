"""A router: streams of clients on one side, one stream to each node on the other.

The rules are in `core/forwarding.py`. This is their shell: it reads the clock, hands events in,
and sends what comes out, at once and in that order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from perdure.client import Client
from perdure.errors import NoOwner, code_of
from perdure.frames import AnswerFrame, CallFrame, pack_error, pack_reply
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey, partition_of
from perdure.serving.backend import AnswerSink, Description, NodeDescription, PartitionDescription
from perdure.transport import Transport, Welcome
from perdure.wire.v1 import cluster_pb2
from perdure_router.core.forwarding import Forwarding
from perdure_router.inquiries import Inquiries, merge_types
from perdure_router.own_calls import OwnCalls
from perdure_router.settings import RouterSettings

__all__ = ["Router"]

_TICK_S: Final = 0.02
"""While calls wait for an owner."""

_IDLE_TICK_S: Final = 1.0

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
            name: _Link(self, name, connect(address)) for name, address in settings.nodes.items()
        }
        self._inquiries = Inquiries(settings.nodes)
        self._cluster: Welcome | None = None
        self._forwarding: Forwarding[AnswerSink] | None = None
        self._last_owned: dict[str, dict[int, int]] = {}
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_waits = False

    def start(self) -> None:
        """Begin to connect to all nodes."""
        self._loop = asyncio.get_running_loop()
        self._own_calls = OwnCalls(self)
        self._client = Client(self._own_calls)
        for link in self._links.values():
            link.transport.start(link)
        self._set_tick()

    async def close(self) -> None:
        """Wait for the router's own calls, then leave all nodes."""
        await self._client.close(1.0)
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        await asyncio.gather(*(link.transport.close() for link in self._links.values()))
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
        return 0 if self._forwarding is None else self._forwarding.open_count

    def reaches(self, node: str) -> bool:
        """Tell whether a node can be reached now."""
        return self._forwarding is not None and self._forwarding.knows(node)

    def check_owner(self, target: ObjectKey) -> None:
        """Allow all: a router answers for every object."""

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        """Take calls in, in order."""
        forwarding = self._forwarding
        if forwarding is None:
            for frame in frames:
                if frame.number:
                    sink.send(_no_owner(frame))
            return
        forwarding.calls_arrived(self._now_ms(), frames, sink)
        self._carry_out(forwarding)

    def node_welcomed(self, name: str, welcome: Welcome) -> None:
        """Take note of what a node says of itself and of the cluster."""
        cluster = self._cluster
        if cluster is None:
            self._cluster = Welcome(
                welcome.cluster_id, welcome.partition_count, self._settings.name, {}
            )
            self._forwarding = Forwarding(welcome.partition_count, self._settings.limits)
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
        assert self._forwarding is not None
        self._forwarding.node_welcomed(self._now_ms(), name, welcome.owned)
        self._carry_out(self._forwarding)
        if cluster is None:
            for tell in self.on_welcome:
                tell()

    def node_answered(self, frames: list[AnswerFrame]) -> None:
        """Pass answers on."""
        forwarding = self._forwarding
        assert forwarding is not None, "a node answers only what was sent to it"
        forwarding.answers_arrived(self._now_ms(), frames)
        self._carry_out(forwarding)

    def node_lost(self, name: str, why: str) -> None:
        """Take note that a node cannot be reached."""
        if self._forwarding is not None and self.reaches(name):
            _log.warning("node lost", node=name, why=why)
            self._forwarding.node_lost(self._now_ms(), name)
            self._carry_out(self._forwarding)

    def _carry_out(self, forwarding: Forwarding[AnswerSink]) -> None:
        work = forwarding.take()
        for node, frames in work.sends.items():
            self._links[node].transport.send(frames)
        for sink, frame in work.answers:
            sink.send(frame)
        if forwarding.waiting_count and not self._tick_waits:
            self._set_tick()

    def _set_tick(self) -> None:
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        forwarding = self._forwarding
        self._tick_waits = forwarding is not None and forwarding.waiting_count > 0
        after_s = _TICK_S if self._tick_waits else _IDLE_TICK_S
        self._tick_timer = self._loop.call_later(after_s, self._tick)

    def _tick(self) -> None:
        if self._forwarding is not None:
            self._forwarding.tick(self._now_ms())
            self._carry_out(self._forwarding)
        self._set_tick()

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

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

    async def list(
        self, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[Sequence[str], bool]:
        """Ask the owner of a partition.

        Raises:
            NoOwner: It cannot be reached.
        """
        forwarding = self._forwarding
        owner = None if forwarding is None else forwarding.owner(partition)
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
        if cluster is None or self._forwarding is None:
            raise NoOwner(0)
        partition = partition_of(target, cluster.partition_count)
        return partition, self._forwarding.owner(partition)

    def _last_owner(self, partition: int) -> str:
        owners = [
            (owned[partition], n) for n, owned in self._last_owned.items() if partition in owned
        ]
        return max(owners)[1] if owners else ""


class _Link:
    """The stream to one node. A `Listener`."""

    def __init__(self, router: Router, name: str, transport: Transport) -> None:
        self.transport = transport
        self._router = router
        self._name = name

    def welcomed(self, welcome: Welcome) -> None:
        self._router.node_welcomed(self._name, welcome)

    def answered(self, frames: list[AnswerFrame]) -> None:
        self._router.node_answered(frames)

    def lost(self, why: str) -> None:
        self._router.node_lost(self._name, why)


def _no_owner(frame: CallFrame) -> AnswerFrame:
    error = NoOwner(frame.partition)
    code, payload = pack_error(code_of(error), error.args)
    return AnswerFrame(frame.number, code, pack_reply(payload))
