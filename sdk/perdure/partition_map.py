"""Which node owns which partition, and where it listens, as far as one server knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["MappedNode", "PartitionMap"]


@dataclass(frozen=True, slots=True)
class MappedNode:
    """One node of a map."""

    name: str
    address: str
    """`host:port`. Not everybody need be able to reach it."""
    owned: Mapping[int, int]
    """Partition to epoch. Epoch 0: it was placed there when the cluster was made, and nothing has
    been heard of it."""


@dataclass(frozen=True, slots=True)
class PartitionMap:
    """What a server tells clients that call nodes themselves. It may be out of date."""

    cluster_id: str
    partition_count: int
    server: str
    """The name of the node or router that speaks."""
    role: str
    """`node` or `router`."""
    nodes: Sequence[MappedNode] = ()
    routers: Sequence[str] = ()
    """Addresses of those that the server knows; a router need not know of itself."""
