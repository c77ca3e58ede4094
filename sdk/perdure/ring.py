"""Which node gets which partition when a cluster is made.

This is decided once. The result is stored with the nodes' data and read from there ever
after: a partition's data lies on its node's disk, so that placing anew would open it empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# uhashring ships no types.
from uhashring import HashRing  # type: ignore[import-untyped]

__all__ = ["place"]

_POINTS_PER_NODE: Final = 160


def place(partition_count: int, nodes: Sequence[str]) -> list[str]:
    """Return the node of each partition: the same for the same names, in whatever order.

    A hash ring with bounded loads: a partition goes to the first node after its point on the
    ring that holds fewer than `ceil(partition_count / len(nodes))`, because so few partitions
    on a plain ring would be spread very unevenly.

    Args:
        partition_count: At least 1.
        nodes: At least one name, none twice.
    """
    assert partition_count >= 1
    assert nodes
    assert len(set(nodes)) == len(nodes)
    ring = HashRing(sorted(nodes), hash_fn="ketama", vnodes=_POINTS_PER_NODE)
    load = dict.fromkeys(nodes, 0)
    load_max = -(-partition_count // len(nodes))
    placement: list[str] = []
    for partition in range(partition_count):
        node = next(
            name
            for name in map(str, ring.iterate_nodes(f"partition {partition}"))
            if load[name] < load_max
        )
        load[node] += 1
        placement.append(node)
    return placement
