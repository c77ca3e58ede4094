"""The data of a cluster on one machine: its folder, and who its nodes are.

`cluster.json` is written when the folder is made and says with how many nodes and partitions.
The nodes' own folders are made at the same time and never again, so that one that is lost
later is noticed and not replaced by an empty one.
"""

from __future__ import annotations

import importlib
import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from perdure.cli.servers import PARTITIONS_OF_A_CLUSTER
from perdure.directory import LOCK_FILE, replace_file
from perdure.errors import ConfigError
from perdure.ring import place

__all__ = ["ClusterPlan", "open_plan"]

_FILE: Final = "cluster.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What was decided when the cluster was made."""

    cluster_id: str
    nodes: list[str]
    partition_count: int
    placement: list[str]
    """The node of each partition."""
    made: bool
    """False while the nodes' folders are being made: no node has run yet."""


def open_plan(directory: Path, node_count: int | None, partition_count: int | None) -> ClusterPlan:
    """Read a cluster's plan, or make it together with its nodes' folders.

    Args:
        directory: Held by a `DirectoryLock`.
        node_count: None: as many as there are; one in a new cluster.
        partition_count: None: as many as there are; 64 in a new cluster.

    Raises:
        ConfigError: The folder is not a cluster's, or one with other counts; it is damaged.
    """
    if (directory / _FILE).exists():
        plan = _read(directory / _FILE)
        _check(directory, plan, node_count, partition_count)
    else:
        expected = {LOCK_FILE, f"{_FILE}.tmp"}
        others = sorted({entry.name for entry in directory.iterdir()} - expected)
        if others:
            what = (
                "is that of a program that runs without a cluster"
                if "node.json" in others
                else f"is not empty ({', '.join(others[:5])}) and no cluster's"
            )
            raise ConfigError(f"the data directory {directory} {what}: use another one with --data")
        plan = _new_plan(node_count or 1, partition_count or PARTITIONS_OF_A_CLUSTER)
        _write(directory / _FILE, plan)
    if not plan.made:
        _make_nodes(directory, plan)
        plan = replace(plan, made=True)
        _write(directory / _FILE, plan)
    return plan


def _new_plan(node_count: int, partition_count: int) -> ClusterPlan:
    if node_count > partition_count:
        raise ConfigError(
            f"{node_count} nodes have too little to do with {partition_count} partitions"
        )
    nodes = [f"n{number}" for number in range(1, node_count + 1)]
    return ClusterPlan(
        cluster_id=uuid.uuid4().hex,
        nodes=nodes,
        partition_count=partition_count,
        placement=place(partition_count, nodes),
        made=False,
    )


def _make_nodes(directory: Path, plan: ClusterPlan) -> None:
    # By name: this package is below `perdure_node` and may not import it.
    identity: Any = importlib.import_module("perdure_node.identity").Identity
    for node in plan.nodes:
        identity.open(
            directory / node,
            node=node,
            cluster_id=plan.cluster_id,
            nodes=plan.nodes,
            partition_count=plan.partition_count,
            new=True,
        ).close()


def _check(
    directory: Path, plan: ClusterPlan, node_count: int | None, partition_count: int | None
) -> None:
    here, nodes = f"the data directory {directory}", len(plan.nodes)
    if node_count not in (None, nodes):
        raise ConfigError(
            f"{here} was made with {nodes} nodes, not {node_count}, and where each object lies "
            f"is fixed: start it with --nodes {nodes}, or make another cluster with --data"
        )
    if partition_count not in (None, plan.partition_count):
        raise ConfigError(
            f"{here} was made with {plan.partition_count} partitions, not {partition_count}, "
            f"which is fixed: leave --partitions out, or make another cluster with --data"
        )


def _read(path: Path) -> ClusterPlan:
    try:
        content = json.loads(path.read_bytes())
        file_format = content.pop("format")
        if file_format != _FORMAT:
            raise ConfigError(f"{path} has the format {file_format}; this release reads {_FORMAT}")
        return ClusterPlan(**content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is damaged: restore it from a copy of the folder") from None


def _write(path: Path, plan: ClusterPlan) -> None:
    replace_file(path, json.dumps({"format": _FORMAT, **asdict(plan)}, indent=1) + "\n")
