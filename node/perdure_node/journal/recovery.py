"""Opening a journal's files: read them, write the unproven tail again, say what is there.

Nothing is handed out before all of it is proven to be on the disk. Files of an earlier run are
never written to again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure_node.collector import collector_paused
from perdure_node.journal.analysis import (
    Group,
    PartitionRecords,
    Scan,
    Verdict,
    index_records,
    judge,
    scan_segment,
    settle,
)
from perdure_node.journal.extents import Extents
from perdure_node.journal.format import Mark, SegmentHeader
from perdure_node.journal.mark import MarkFile, read_mark
from perdure_node.journal.segments import (
    list_segments,
    read_whole,
    segment_path,
    sync_directory,
    write_group_alone,
)
from perdure_node.journal.settings import JournalSettings

__all__ = ["JournalUnusable", "Recovered", "recover"]

_MARK_NAME = "mark"


class JournalUnusable(Exception):
    """The directory holds no journal, or that of another node. Nothing was changed."""


@dataclass(slots=True)
class Recovered:
    """A journal as it is found, all of it durable."""

    mark: MarkFile
    mark_readable: bool
    lasts: dict[int, int]
    """The last sequence that every partition must reach: see `settle`."""
    damage: list[str]
    partitions: dict[int, PartitionRecords]
    extents: Extents
    segments: dict[int, dict[int, int]]
    """By number: the last sequence of each partition, for trimming."""
    next_group: int
    next_segment: int


def recover(directory: Path, identity: bytes, settings: JournalSettings) -> Recovered:
    """Read a journal, or begin one in a directory that is missing or empty.

    Raises:
        JournalUnusable: It belongs to another node.
        OSError: The disk fails, or has not even room for the tail.
    """
    with collector_paused():
        return _recover(directory, identity, settings)


def _recover(directory: Path, identity: bytes, settings: JournalSettings) -> Recovered:
    _ensure_directory(directory, settings)
    for leftover in directory.glob("*.tmp"):
        leftover.unlink()
    mark = read_mark(directory / _MARK_NAME)
    mark_readable = mark is not None or not list_segments(directory)
    scans = _scan_all(directory, identity)
    verdict = judge(scans, mark)
    damage = verdict.damage
    if not damage:
        # First of all, because what follows needs room.
        scans = _without_unused(directory, scans)
        verdict = judge(scans, mark)
    partitions, extents = _index(directory, scans, verdict, settings.kept_bytes)
    lasts = settle(verdict, partitions)
    if verdict.unproven is not None:
        _write_again(directory, identity, scans, verdict, settings)
        # From here on it is proven, and read from its new place.
        scans = _scan_all(directory, identity)
        verdict = judge(scans, Mark(verdict.unproven[1].number, lasts))
        partitions, extents = _index(directory, scans, verdict, settings.kept_bytes)
        lasts = settle(verdict, partitions)
        assert verdict.unproven is None

    proven = max(verdict.proven, verdict.groups[-1][1].number if verdict.groups else 0)
    mark_file = MarkFile.open(directory / _MARK_NAME, Mark(proven, lasts), settings)
    sync_directory(directory, settings.sync)
    return Recovered(
        mark=mark_file,
        mark_readable=mark_readable,
        lasts=lasts,
        damage=damage,
        partitions=partitions,
        extents=extents,
        segments={scan.number: verdict.segment_lasts[index] for index, scan in enumerate(scans)},
        next_group=proven + 1,
        next_segment=max((scan.number for scan in scans), default=0) + 1,
    )


def _ensure_directory(directory: Path, settings: JournalSettings) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700)
        sync_directory(directory.parent, settings.sync)


def _scan_all(directory: Path, identity: bytes) -> list[Scan]:
    scans: list[Scan] = []
    for number in list_segments(directory):
        scan = scan_segment(number, read_whole(segment_path(directory, number)))
        if scan.header is not None and scan.header.identity != identity:
            raise JournalUnusable(
                f"{segment_path(directory, number)} belongs to {scan.header.identity!r}, "
                f"not to {identity!r}"
            )
        scans.append(scan)
    return scans


def _write_again(
    directory: Path,
    identity: bytes,
    scans: Sequence[Scan],
    verdict: Verdict,
    settings: JournalSettings,
) -> None:
    """Write the last group into a segment of its own, and make that durable."""
    assert verdict.unproven is not None
    index, group = verdict.unproven
    data = read_whole(segment_path(directory, scans[index].number))
    number = max(scan.number for scan in scans) + 1
    header = SegmentHeader(os.urandom(16), number, group.number, identity)
    write_group_alone(directory, header, dict(group.lasts), _body(data, group), settings)


def _body(data: bytes, group: Group) -> bytes:
    return data[group.body_offset : group.body_offset + group.body_length]


def _index(
    directory: Path, scans: Sequence[Scan], verdict: Verdict, kept_bytes: int
) -> tuple[dict[int, PartitionRecords], Extents]:
    partitions: dict[int, PartitionRecords] = {}
    extents = Extents()
    current, data = -1, b""
    for index, group in verdict.groups:
        if index != current:
            current = index
            data = read_whole(segment_path(directory, scans[index].number))
        position = extents.add(scans[index].number, group.body_offset, group.body_length)
        keep = extents.end <= kept_bytes
        index_records(partitions, group, _body(data, group), position, keep=keep)
    return partitions, extents


def _without_unused(directory: Path, scans: Sequence[Scan]) -> list[Scan]:
    """Delete files that were prepared and never used, or whose first write was torn."""
    used: list[Scan] = []
    for scan in scans:
        if scan.groups or scan.header is not None:
            used.append(scan)
        else:
            segment_path(directory, scan.number).unlink()
    return used
