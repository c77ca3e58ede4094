"""`Cluster.Map`: what clients ask that call nodes themselves."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from perdure.errors import BadPayload
from perdure.partition_map import MappedNode, PartitionMap
from perdure.serving.backend import Backend
from perdure.wire.v1 import calls_pb2, cluster_pb2

__all__ = ["answer_map", "map_from_wire"]


def answer_map(message: bytes, backend: Backend) -> bytes:
    """Answer a packed `MapRequest`."""
    try:
        cluster_pb2.MapRequest.FromString(message)
    except DecodeError:
        raise BadPayload("the message is no MapRequest") from None
    return _map_to_wire(backend.partition_map()).SerializeToString()


def _map_to_wire(map: PartitionMap) -> cluster_pb2.PartitionMap:
    return cluster_pb2.PartitionMap(
        cluster_id=map.cluster_id,
        partition_count=map.partition_count,
        server=map.server,
        role=map.role,
        nodes=[
            cluster_pb2.MappedNode(
                name=node.name,
                address=node.address,
                owned=[
                    calls_pb2.Ownership(partition=partition, epoch=epoch)
                    for partition, epoch in sorted(node.owned.items())
                ],
            )
            for node in map.nodes
        ],
        routers=map.routers,
    )


def map_from_wire(message: bytes) -> PartitionMap:
    """Unpack a map from a server that this process trusts to be one.

    Raises:
        DecodeError: It is no map.
    """
    map = cluster_pb2.PartitionMap.FromString(message)
    return PartitionMap(
        cluster_id=map.cluster_id,
        partition_count=map.partition_count,
        server=map.server,
        role=map.role,
        nodes=[
            MappedNode(node.name, node.address, {o.partition: o.epoch for o in node.owned})
            for node in map.nodes
        ],
        routers=list(map.routers),
    )
