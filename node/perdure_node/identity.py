"""Who a data directory belongs to, and which partitions it holds.

`node.json` is written when the directory is made and names the node, its cluster and its
partitions. It is what stands between a mistake and an empty store served as if it were the
data: a directory that is lost, mixed up with another node's, or opened with other nodes than
it was made with is refused.

Invariants:
  * Whoever has an `Identity` open is the only one: the directory is locked.
  * The epoch of an open identity is on disk, and higher than that of every earlier opening.
  * A partition is `new` until its store exists; it never becomes `new` again.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from perdure.directory import LOCK_FILE, DirectoryLock, replace_file
from perdure.errors import ConfigError
from perdure.ring import place

__all__ = ["NEW", "OPEN", "Identity"]

NEW: Final = "new"
"""The partition has no store yet: one may be made."""

OPEN: Final = "open"
"""The partition has a store: if it is missing, data is lost."""

_FORMAT: Final = 1
_FILE: Final = "node.json"


class Identity:
    """An open data directory."""

    cluster_id: str
    node: str
    partition_count: int
    epoch: int
    """How often this directory has been opened. Raised durably by each `open`."""

    def __init__(self, directory: Path, lock: DirectoryLock, content: Mapping[str, Any]) -> None:
        self._directory = directory
        self._lock = lock
        self._nodes: list[str] = content["nodes"]
        self._partitions: dict[int, str] = {
            int(number): state for number, state in content["partitions"].items()
        }
        self.cluster_id = content["cluster_id"]
        self.node = content["node"]
        self.partition_count = content["partition_count"]
        self.epoch = content["epoch"]

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        node: str,
        cluster_id: str | None,
        nodes: Sequence[str],
        partition_count: int,
        new: bool,
    ) -> Identity:
        """Lock a data directory, check that it is the right one and raise its epoch.

        Args:
            directory: Made when it is not there and `new` is set, for its owner only.
            node: The name of this node.
            cluster_id: None: whichever the directory has; a new one gets a random id.
            nodes: The names of all nodes that the cluster was made with, in any order.
            partition_count: Of the whole cluster.
            new: An empty directory may be made into this node's. Leave it out when the node
                has had data before, so that a lost directory is noticed.

        Raises:
            StorageHeld: Another process has the directory open.
            ConfigError: It is another node's, or another cluster's; the cluster was made with
                other nodes or partitions; it is empty and `new` is not set; it is damaged.
        """
        lock = _lock(directory, make=new)
        try:
            if (directory / _FILE).exists():
                content = _read(directory)
                _check(directory, content, node, cluster_id, nodes, partition_count)
            else:
                _check_empty(directory, new=new)
                content = _content(node, cluster_id or uuid.uuid4().hex, nodes, partition_count)
            identity = cls(directory, lock, content)
            identity.epoch += 1
            identity._write()
        except BaseException:
            lock.close()
            raise
        return identity

    @property
    def partitions(self) -> Mapping[int, str]:
        """The partitions of this node, each `NEW` or `OPEN`."""
        return dict(self._partitions)

    def mark_open(self, partitions: Iterable[int]) -> None:
        """Note durably that the stores of these partitions exist."""
        marked = dict.fromkeys(partitions, OPEN)
        assert marked.keys() <= self._partitions.keys()
        if marked.items() <= self._partitions.items():
            return
        before = dict(self._partitions)
        self._partitions |= marked
        try:
            self._write()
        except BaseException:
            # The next one who says so has to write it.
            self._partitions = before
            raise

    def rise_above(self, epoch: int) -> None:
        """Make the epoch durably higher than one that the directory's journal tells of.

        It is higher already, unless an older copy of the file has been put back.
        """
        if self.epoch <= epoch:
            self.epoch = epoch + 1
            self._write()

    def close(self) -> None:
        """Let the directory go. Closing twice does nothing."""
        self._lock.close()

    def _write(self) -> None:
        content = {
            "format": _FORMAT,
            "cluster_id": self.cluster_id,
            "node": self.node,
            "nodes": self._nodes,
            "partition_count": self.partition_count,
            "epoch": self.epoch,
            "partitions": {str(number): state for number, state in self._partitions.items()},
        }
        text = json.dumps(content | {"checksum": _checksum(content)}, indent=1) + "\n"
        replace_file(self._directory / _FILE, text)


def _lock(directory: Path, *, make: bool) -> DirectoryLock:
    try:
        return DirectoryLock(directory, make=make)
    except FileNotFoundError:
        raise ConfigError(_lost_text(directory, "is not there")) from None


def _check_empty(directory: Path, *, new: bool) -> None:
    # What the lock makes, and what remains when the very first opening dies in the middle.
    expected = {LOCK_FILE, f"{_FILE}.tmp"}
    others = sorted({entry.name for entry in directory.iterdir()} - expected)
    if others:
        raise ConfigError(
            f"the data directory {directory} has no {_FILE}, but is not empty "
            f"({', '.join(others[:5])}): it is not a node's, or it is damaged; "
            f"use another directory, or restore this one"
        )
    if not new:
        raise ConfigError(_lost_text(directory, "is empty"))
    directory.chmod(0o700)


def _lost_text(directory: Path, problem: str) -> str:
    return (
        f"the data directory {directory} {problem}: if this node had data there, restore it; "
        f"if this is the first start of this node, say so with --init"
    )


def _content(
    node: str, cluster_id: str, nodes: Sequence[str], partition_count: int
) -> dict[str, Any]:
    placement = place(partition_count, nodes)
    return {
        "cluster_id": cluster_id,
        "node": node,
        "nodes": sorted(nodes),
        "partition_count": partition_count,
        "epoch": 0,
        "partitions": {number: NEW for number, owner in enumerate(placement) if owner == node},
    }


def _read(directory: Path) -> dict[str, Any]:
    path = directory / _FILE
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("checksum")
        intact = checksum == _checksum(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, AttributeError, TypeError):
        intact = False
        content = {}
    if not intact:
        raise ConfigError(f"{path} is damaged: restore it from a copy of the directory")
    if content["format"] != _FORMAT:
        raise ConfigError(
            f"{path} has the format {content['format']}; this release reads {_FORMAT}"
        )
    return dict(content)


def _check(
    directory: Path,
    content: Mapping[str, Any],
    node: str,
    cluster_id: str | None,
    nodes: Sequence[str],
    partition_count: int,
) -> None:
    here = f"the data directory {directory}"
    if cluster_id is not None and content["cluster_id"] != cluster_id:
        raise ConfigError(
            f"{here} belongs to the cluster {content['cluster_id']}, not {cluster_id}: "
            f"correct the directory or the cluster's id"
        )
    if content["node"] != node:
        raise ConfigError(
            f"{here} is that of the node {content['node']!r}, not of {node!r}: "
            f"correct the directory or the node's name"
        )
    if content["nodes"] != sorted(nodes):
        raise ConfigError(
            f"{here} was made for a cluster of {', '.join(content['nodes'])}, "
            f"not of {', '.join(sorted(nodes))}: the placement of objects is fixed when a "
            f"cluster is made; start it with the same nodes, or make a new cluster elsewhere"
        )
    if content["partition_count"] != partition_count:
        raise ConfigError(
            f"{here} was made with {content['partition_count']} partitions, not "
            f"{partition_count}: the count is fixed when a cluster is made"
        )


def _checksum(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
