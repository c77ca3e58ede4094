"""What commands print: tables for people, plain lines and JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from perdure.cli.failure import CommandFailed
from perdure.ids import ObjectKey, partition_of
from perdure.wire.v1 import cluster_pb2

__all__ = [
    "description_as_json",
    "print_cluster",
    "print_id",
    "print_json",
    "print_listing",
    "print_place",
    "served_partitions",
]

_WIDTH_OF_A_FILE: Final = 200

_OWN_TYPES: Final = frozenset(("hook", "workflow"))
"""Perdure's own, which every cluster has: they say nothing of its app."""

SLOT_COUNT: Final = 65_536
"""As many partitions as there could ever be: a partition is a range of these."""


def print_json(text: str) -> None:
    """Print a JSON text: for a terminal laid out, else in one line as it came."""
    if sys.stdout.isatty():
        Console().print_json(text, ensure_ascii=False)
    else:
        sys.stdout.write(text + "\n")


def print_id(object_id: str) -> None:
    """Print an id on a line of its own; one that would break lines or terminals, as JSON."""
    sys.stdout.write((object_id if object_id.isprintable() else json.dumps(object_id)) + "\n")


def served_partitions(description: cluster_pb2.Description) -> set[int]:
    """Return the partitions that some node serves."""
    return {
        partition.partition
        for node in description.nodes
        if node.up
        for partition in node.partitions
        if partition.state == "serving"
    }


def print_cluster(description: cluster_pb2.Description, address: str) -> None:
    """Print a cluster's servers, and the types and methods that can be called there."""
    # Where nobody looks at it now, in a file or a pipe, no line is cut to a terminal's width.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    servers = Table("server", "address", "partitions", "objects in memory", "state", box=None)
    servers.add_row(description.role, address, "", "", "up")
    for node in description.nodes:
        served = sum(partition.state == "serving" for partition in node.partitions)
        servers.add_row(
            f"node {node.name}",
            node.address,
            f"{served if node.up else 0} of {len(node.partitions)}",
            str(node.counters.resident),
            "up" if node.up else "[red]down[/]",
        )
    console.print(servers)
    damaged = [
        f"{partition.partition} ({node.name})"
        for node in description.nodes
        for partition in node.partitions
        if partition.state == "damaged"
    ]
    if damaged:
        console.print(f"[red]damaged partitions, not served: {', '.join(damaged)}[/]")
    console.print()
    of_app = _types_of_app(description)
    if not of_app:
        console.print("no types: the app registers none with @durable.object")
        return
    types = Table("type", "method", box=None)
    for kind in of_app:
        name = kind.name
        for method in kind.methods:
            shared = "  [dim]shared[/]" if method.shared else ""
            types.add_row(name, escape(f"{method.name}{method.signature}") + shared)
            name = ""
        if name:
            types.add_row(name, "[dim]no methods[/]")
    console.print(types)


def description_as_json(description: cluster_pb2.Description) -> str:
    """Return a cluster's state for programs."""
    served = len(served_partitions(description))
    content: dict[str, Any] = {
        "cluster_id": description.cluster_id,
        "server": description.server,
        "role": description.role,
        "version": description.version,
        "partition_count": description.partition_count,
        "partitions_served": served,
        "served": served == description.partition_count > 0,
        "nodes": [_node_as_json(node) for node in description.nodes],
        "types": {
            kind.name: {method.name: method.signature for method in kind.methods}
            for kind in _types_of_app(description)
        },
    }
    return json.dumps(content)


def _types_of_app(description: cluster_pb2.Description) -> list[cluster_pb2.TypeDescription]:
    return [kind for kind in description.types if kind.name not in _OWN_TYPES]


def _node_as_json(node: cluster_pb2.NodeDescription) -> dict[str, Any]:
    counters = node.counters
    return {
        "name": node.name,
        "address": node.address,
        "up": node.up,
        "partitions": [
            {"partition": item.partition, "epoch": item.epoch, "state": item.state}
            for item in node.partitions
        ],
        "counters": {
            field.name: getattr(counters, field.name) for field in counters.DESCRIPTOR.fields
        },
    }


def print_listing(ids: list[str], limit: int) -> None:
    """Print ids as JSON, with the id to go on after when there are more than `limit`."""
    shown = ids[:limit]
    more = shown[-1] if len(ids) > limit else None
    sys.stdout.write(json.dumps({"ids": shown, "after": more}) + "\n")


def print_place(description: cluster_pb2.Description, target: ObjectKey, *, as_json: bool) -> None:
    """Print where an object belongs.

    Raises:
        CommandFailed: No node that answers has its partition; the rest is printed all the same.
    """
    partition = partition_of(target, description.partition_count)
    node, owned = next(
        (
            (node, owned)
            for node in description.nodes
            for owned in node.partitions
            if owned.partition == partition
        ),
        (None, None),
    )
    place: dict[str, Any] = {
        "type": target.type,
        "id": target.id,
        "slot": partition_of(target, SLOT_COUNT),
        "partition": partition,
        "node": node.name if node else None,
        "address": node.address if node else None,
        "epoch": owned.epoch if owned else None,
        "state": owned.state if owned else None,
    }
    if as_json:
        sys.stdout.write(json.dumps(place) + "\n")
    else:
        for name in ("slot", "partition", "node", "address", "epoch", "state"):
            if place[name] is not None:
                sys.stdout.write(f"{name:<10}{place[name]}\n")
    if node is None:
        raise CommandFailed(f"no node that answers has the partition {partition}")
