"""What stands behind a server: a node, or a router that forwards to nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from perdure.frames import AnswerFrame, CallFrame
from perdure.ids import ObjectKey

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.partition_map import PartitionMap
    from perdure.transport import Welcome
    from perdure.wire.v1 import cluster_pb2

__all__ = [
    "LIST_LIMIT_MAX",
    "AnswerSink",
    "Backend",
    "Counters",
    "Description",
    "MethodDescription",
    "NodeDescription",
    "PartitionDescription",
    "TypeDescription",
]


LIST_LIMIT_MAX: Final = 1_000
"""Ids or calls in one answer."""


class AnswerSink(Protocol):
    """Where the answers to the calls of one stream go."""

    def send(self, frame: AnswerFrame) -> None:
        """Send an answer, with all others of this tick in one message. Never waits.

        After the stream has ended this does nothing.
        """

    @property
    def closed(self) -> bool:
        """True once nobody listens any more: calls that wait need not be run for it."""
        ...


class Backend(Protocol):
    """What answers the calls that a server takes in."""

    @property
    def client(self) -> Client:
        """Makes the calls that come without a session of their own (`Calls.Call`)."""
        ...

    def welcome(self) -> Welcome | None:
        """Return what a new stream is told first. None while that is not known yet.

        When it becomes known, or changes, the owner of the server says `Server.announce`.
        """

    def check_owner(self, target: ObjectKey) -> None:
        """Refuse a unary call for an object that this server does not answer for.

        Raises:
            NotOwner: Another server does.
        """

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        """Take calls in, in order. Each with a number other than 0 is answered once."""

    async def describe(self) -> Description:
        """Return what operators see. Takes a second at most."""
        ...

    def partition_map(self) -> PartitionMap:
        """Return which node owns which partition, as far as is known here without asking.

        Raises:
            NoOwner: Not even the cluster is known yet.
        """
        ...

    async def list(
        self, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[Sequence[str], bool]:
        """Return ids of stored objects of one partition in the order of their UTF-8 bytes.

        Returns:
            At most `limit` ids that sort after `after`, and whether there may be more.

        Raises:
            PerdureError: It cannot be answered here.
        """
        ...

    # As messages of the wire, which routers pass on as they come.

    async def inspect(self, target: ObjectKey) -> cluster_pb2.Inspection:
        """Return what an object does and waits for, without waking it.

        Raises:
            PerdureError: It cannot be answered here.
        """
        ...

    async def list_calls(self, asked: cluster_pb2.ListCallsRequest) -> cluster_pb2.CallPage:
        """Return calls that are not over, and timers that are parked, one page of them."""
        ...

    async def decide(
        self, target: ObjectKey, decision: cluster_pb2.Decision.ValueType, name: str
    ) -> bool:
        """Carry out what an operator has decided about a parked call or timer.

        Returns:
            Whether there was one. That is durable.

        Raises:
            PerdureError: It cannot be done here.
        """
        ...


@dataclass(frozen=True, slots=True)
class Counters:
    """What a node has done and holds."""

    calls: int = 0
    resident: int = 0
    """Objects in memory."""
    resident_bytes: int = 0
    hits: int = 0
    loads: int = 0
    passivations: int = 0
    rss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """One partition of a node."""

    partition: int
    epoch: int
    state: str
    """`serving`, `opening`, `damaged` or `unreachable`."""


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """One node."""

    name: str
    address: str
    up: bool
    partitions: Sequence[PartitionDescription] = ()
    counters: Counters = field(default_factory=Counters)


@dataclass(frozen=True, slots=True)
class MethodDescription:
    """One method of a type."""

    name: str
    signature: str
    """As a person would write it: `(amount: int = 1) -> dict`."""
    shared: bool = False


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """One type of objects."""

    name: str
    methods: Sequence[MethodDescription] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """One server, and the nodes that it knows of: itself, or all of the cluster."""

    cluster_id: str
    partition_count: int
    server: str
    role: str
    """`node` or `router`."""
    nodes: Sequence[NodeDescription] = ()
    types: Sequence[TypeDescription] = ()
