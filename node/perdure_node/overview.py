"""What a node tells operators of itself."""

from __future__ import annotations

import os

from perdure.objects import all_types
from perdure.serving import backend
from perdure_node.core.residents import Residents
from perdure_node.hosts import Hosts
from perdure_node.settings import NodeSettings

__all__ = ["describe_node"]


def describe_node(
    settings: NodeSettings,
    cluster_id: str,
    partition_count: int,
    hosts: Hosts,
    residents: Residents,
) -> backend.Description:
    """Return a node's partitions, counters and types."""
    counters = residents.counters
    node = backend.NodeDescription(
        settings.name,
        settings.listen,
        True,
        [
            backend.PartitionDescription(number, hosts.epoch, _state(hosts, number, settings.lazy))
            for number in sorted(hosts.states)
        ],
        backend.Counters(
            calls=counters.calls,
            resident=len(residents),
            resident_bytes=residents.bytes,
            hits=counters.hits,
            loads=counters.loads,
            passivations=counters.passivations,
            rss_bytes=_rss_bytes(),
        ),
    )
    types = [
        backend.TypeDescription(
            name, [backend.MethodDescription(*row) for row in object_type.describe()]
        )
        for name, object_type in sorted(all_types().items())
    ]
    return backend.Description(cluster_id, partition_count, settings.name, "node", [node], types)


def _state(hosts: Hosts, number: int, lazy: bool) -> str:
    if hosts.is_damaged(number):
        return "damaged"
    return "serving" if hosts.is_open(number) or lazy else "opening"


def _rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
