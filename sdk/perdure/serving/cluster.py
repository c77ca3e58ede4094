"""`Cluster.Describe` and `Cluster.List`: what operators, and routers, ask of a server."""

from __future__ import annotations

from importlib.metadata import version

from google.protobuf.message import DecodeError

from perdure.errors import BadObjectId, BadPayload
from perdure.ids import OBJECT_ID_BYTES_MAX
from perdure.serving.backend import (
    LIST_LIMIT_MAX,
    Backend,
    Counters,
    Description,
    MethodDescription,
    NodeDescription,
    PartitionDescription,
    TypeDescription,
)
from perdure.wire.v1 import cluster_pb2

__all__ = ["answer_describe", "answer_list", "description_from_wire"]


async def answer_describe(message: bytes, backend: Backend) -> bytes:
    """Answer a packed `DescribeRequest`."""
    try:
        cluster_pb2.DescribeRequest.FromString(message)
    except DecodeError:
        raise BadPayload("the message is no DescribeRequest") from None
    return _description_to_wire(await backend.describe()).SerializeToString()


async def answer_list(message: bytes, backend: Backend) -> bytes:
    """Answer a packed `ListRequest`."""
    try:
        request = cluster_pb2.ListRequest.FromString(message)
    except DecodeError:
        raise BadPayload("the message is no ListRequest") from None
    if not request.type:
        raise BadObjectId("the name of a type is not empty")
    for text in (request.type, request.prefix, request.after):
        if "\0" in text or len(text.encode()) > OBJECT_ID_BYTES_MAX:
            raise BadObjectId(
                f"names and ids have at most {OBJECT_ID_BYTES_MAX} bytes of UTF-8, none NUL"
            )
    limit = min(request.limit or LIST_LIMIT_MAX, LIST_LIMIT_MAX)
    ids, more = await backend.list(
        request.partition, request.type, request.prefix, request.after, limit
    )
    return cluster_pb2.ListAnswer(ids=ids, more=more).SerializeToString()


def _description_to_wire(description: Description) -> cluster_pb2.Description:
    return cluster_pb2.Description(
        cluster_id=description.cluster_id,
        partition_count=description.partition_count,
        server=description.server,
        role=description.role,
        version=version("perdure"),
        nodes=[_node_to_wire(node) for node in description.nodes],
        types=[
            cluster_pb2.TypeDescription(
                name=type.name,
                methods=[
                    cluster_pb2.MethodDescription(
                        name=method.name, signature=method.signature, shared=method.shared
                    )
                    for method in type.methods
                ],
            )
            for type in description.types
        ],
    )


def _node_to_wire(node: NodeDescription) -> cluster_pb2.NodeDescription:
    counters = node.counters
    return cluster_pb2.NodeDescription(
        name=node.name,
        address=node.address,
        up=node.up,
        partitions=[
            cluster_pb2.PartitionDescription(partition=p.partition, epoch=p.epoch, state=p.state)
            for p in node.partitions
        ],
        counters=cluster_pb2.Counters(
            calls=counters.calls,
            resident=counters.resident,
            resident_bytes=counters.resident_bytes,
            hits=counters.hits,
            loads=counters.loads,
            passivations=counters.passivations,
            rss_bytes=counters.rss_bytes,
        ),
    )


def description_from_wire(message: bytes) -> Description:
    """Unpack a `Description` from a server that this process trusts to be one."""
    description = cluster_pb2.Description.FromString(message)
    return Description(
        cluster_id=description.cluster_id,
        partition_count=description.partition_count,
        server=description.server,
        role=description.role,
        nodes=[_node_from_wire(node) for node in description.nodes],
        types=[
            TypeDescription(
                type.name,
                [MethodDescription(m.name, m.signature, m.shared) for m in type.methods],
            )
            for type in description.types
        ],
    )


def _node_from_wire(node: cluster_pb2.NodeDescription) -> NodeDescription:
    counters = node.counters
    return NodeDescription(
        name=node.name,
        address=node.address,
        up=node.up,
        partitions=[PartitionDescription(p.partition, p.epoch, p.state) for p in node.partitions],
        counters=Counters(
            calls=counters.calls,
            resident=counters.resident,
            resident_bytes=counters.resident_bytes,
            hits=counters.hits,
            loads=counters.loads,
            passivations=counters.passivations,
            rss_bytes=counters.rss_bytes,
        ),
    )
