"""What the files of a journal prove after a restart. Nothing here does I/O.

The unit is the group, because one sync makes one group durable, and a group is only written
after the sync of the one before has returned. Hence:

  * A group at or before the mark, or before a group or segment that was begun later, was durable.
    If it cannot be read, that is damage.
  * At most the last group was never durable. If it cannot be read it is a torn tail: nobody was
    told about it, and it is cut. If it can be read it has to be written again before anyone is
    told, because perhaps it is only in the page cache.

Damage concerns the partitions that do not reach, without a gap, the last sequence that the mark
and the readable headers name for them. Where a group's header is unreadable and lies after the
mark, nobody knows which partitions were in it: then it concerns every partition without a later
record.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crc32c import crc32c

from perdure_node.journal.format import (
    CLAIM,
    LOST,
    PAGE,
    RECORD_OVERHEAD,
    UNNAMED,
    Mark,
    SegmentHeader,
    find_group,
    group_bytes,
    records_in,
    unpack_group_header,
    unpack_segment_header,
)

__all__ = [
    "Group",
    "PartitionRecords",
    "Scan",
    "Verdict",
    "find_damage",
    "index_records",
    "judge",
    "scan_segment",
    "settle",
]


@dataclass(frozen=True, slots=True)
class Group:
    """A group whose header can be read."""

    number: int
    offset: int
    """Of the group in its segment."""
    body_offset: int
    """Of its body in its segment."""
    body_length: int
    body_crc: int
    lasts: tuple[tuple[int, int], ...]
    intact: bool
    """The body is as it was written."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one segment file holds."""

    number: int
    header: SegmentHeader | None
    groups: list[Group]
    blank_tail: bool
    """Nothing but zeros comes after the last group."""

    @property
    def first_group(self) -> int | None:
        """The number of the first group written here. None when that is unreadable."""
        if self.header is not None:
            return self.header.first_group
        if self.groups and self.groups[0].offset == PAGE:
            return self.groups[0].number
        return None


def scan_segment(number: int, data: bytes) -> Scan:
    """Find the groups of a segment file, those behind damaged ones too.

    Args:
        number: From the file's name.
        data: The whole file.
    """
    header = unpack_segment_header(data[:PAGE])
    segment_id = header.id if header is not None else b""
    groups: list[Group] = []
    offset = PAGE
    end = PAGE
    while (offset := find_group(data, offset, segment_id)) >= 0:
        found = unpack_group_header(data, offset)
        if found is None or (groups and found.number <= groups[-1].number):
            offset += PAGE
            continue
        # A file holds groups of one segment only, so any readable group tells its id.
        segment_id = found.segment_id
        body_offset = offset + found.length
        body = memoryview(data)[body_offset : body_offset + found.body_length]
        intact = len(body) == found.body_length and crc32c(body) == found.body_crc
        groups.append(
            Group(
                found.number,
                offset,
                body_offset,
                found.body_length,
                found.body_crc,
                found.lasts,
                intact,
            )
        )
        offset += group_bytes(len(found.lasts), found.body_length)
        end = offset
    if header is None and not groups:
        end = 0
    tail = data[end:]
    return Scan(number, header, groups, tail == bytes(len(tail)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a journal's scans and mark say together."""

    groups: list[tuple[int, Group]]
    """(index of its scan, group): what is to be read, damaged groups too, in order."""

    unproven: tuple[int, Group] | None
    """The last of `groups`, when nothing proves that it is on the disk."""

    proven: int
    """Every group up to this number was durable, and so was every one but the last of `groups`."""

    lasts: dict[int, int]
    """The last sequence that every partition named anywhere must reach."""

    blind_after: int | None
    """A group of this number, or the last such one, is lost together with the names of its
    partitions. None when there is none."""

    damage: list[str]
    """One sentence for each damaged group."""

    segment_lasts: list[dict[int, int]]
    """For each scan, what must not be needed any more before it may be deleted."""


def judge(scans: Sequence[Scan], mark: Mark | None) -> Verdict:
    """Tell damage from a torn tail."""
    groups = _valid_groups(scans)
    last_begun = max((scan.first_group or 0 for scan in scans), default=0)
    highest = groups[-1][1].number if groups else 0
    marked = mark.group if mark is not None else 0
    proven = max(marked, last_begun - 1)
    if mark is None and groups and not groups[-1][1].intact:
        # Without the mark a damaged last group cannot be told from a torn one.
        proven = max(proven, highest)

    if groups and not groups[-1][1].intact and highest > proven:
        groups.pop()
    unproven = groups[-1] if groups and groups[-1][1].number > proven else None

    lasts = dict(mark.lasts) if mark is not None else {}
    segment_lasts: list[dict[int, int]] = [{} for _ in scans]
    damage: list[str] = []
    for index, group in groups:
        if not group.intact:
            damage.append(f"group {group.number} in segment {scans[index].number} is damaged")
        # Later groups have later records.
        segment_lasts[index].update(group.lasts)
    for of_segment in segment_lasts:
        for partition, last in of_segment.items():
            lasts[partition] = max(last, lasts.get(partition, 0))

    missing = _missing(groups, scans, proven)
    if mark is None and scans and scans[0].first_group is None and groups:
        # The first segment has lost its beginning, and nothing tells how long that was.
        missing.append((0, 1, groups[0][1].number - 1))
    for index in {index for index, _, _ in missing}:
        # Nobody knows what a group without a header held, so its segment is kept until
        # nobody can need anything of it.
        segment_lasts[index] = {**lasts, **segment_lasts[index]}
    damage += [
        f"groups {first} to {end} are missing near segment {scans[index].number}"
        for index, first, end in missing
    ]
    blind = [end for _, _, end in missing if end > marked]
    blind_after = max(blind) if blind else None
    if mark is None and not _ends_blank(scans):
        damage.append("the mark file is unreadable and so is what follows the last group")
        blind_after = max(proven, highest) + 1
    return Verdict(groups, unproven, proven, lasts, blind_after, damage, segment_lasts)


def _valid_groups(scans: Sequence[Scan]) -> list[tuple[int, Group]]:
    """Return the groups that no later segment has made void, in order."""
    valid: list[list[tuple[int, Group]]] = []
    bound: int | None = None
    for index in reversed(range(len(scans))):
        scan = scans[index]
        valid.append([(index, g) for g in scan.groups if bound is None or g.number < bound])
        starts = [bound, scan.first_group, scan.groups[0].number if scan.groups else None]
        known = [start for start in starts if start is not None]
        bound = min(known) if known else None
    return [pair for part in reversed(valid) for pair in part]


def _missing(
    groups: Sequence[tuple[int, Group]], scans: Sequence[Scan], proven: int
) -> list[tuple[int, int, int]]:
    """Return (index of a scan nearby, first, last) of each run of groups without a header."""
    if not scans:
        return []
    missing: list[tuple[int, int, int]] = []
    # Segments before the first are trimmed, so the first group there is begins the count.
    expected = scans[0].first_group or (groups[0][1].number if groups else proven + 1)
    place = 0
    for index, group in groups:
        if group.number > expected:
            missing.append((place, expected, group.number - 1))
        expected = group.number + 1
        place = index
    if proven >= expected:
        missing.append((place, expected, proven))
    return missing


def _ends_blank(scans: Sequence[Scan]) -> bool:
    for scan in reversed(scans):
        if not scan.blank_tail:
            return False
        if scan.first_group is not None:
            break
    return True


@dataclass(slots=True)
class PartitionRecords:
    """The records of one partition that can be read up to its last, without a gap."""

    first: int = 1
    last: int = 0
    chain: int = 0
    epoch: int = 0
    group: int = 0
    """The group of the last record."""
    places: array[int] = field(default_factory=lambda: array("Q"))
    """Where each lies, as a position in the sequence of all bodies read."""
    bodies: list[bytes | None] = field(default_factory=list)
    """What the first ones of them hold, so that a start need not read them again: a journal is
    seldom longer than what a start may keep of it. None: a claim."""

    @property
    def is_empty(self) -> bool:
        """No record of the partition can be read."""
        return not self.places


def index_records(
    partitions: dict[int, PartitionRecords],
    group: Group,
    body: bytes,
    position: int,
    *,
    keep: bool,
) -> None:
    """Add the records of one body to what is known of their partitions.

    A record that does not follow the one before begins anew: what comes before a gap is of no
    use, except when the store has it already.

    Args:
        partitions: What is known of them.
        group: Whose body it is.
        body: As it was read now.
        position: Of the body in the sequence of all bodies read.
        keep: Whether to keep what the records hold. Once it is not, it never is again.
    """
    # It may have been read twice.
    intact = group.intact and crc32c(body) == group.body_crc
    number = group.number
    for offset, fields in records_in(body, intact=intact):
        length, partition, epoch, sequence, kind, previous, chain = fields
        known = partitions.get(partition)
        if known is None:
            known = partitions[partition] = PartitionRecords()
        if sequence != known.last + 1 or previous != known.chain or not known.places:
            known.first = sequence
            known.places = array("Q")
            known.bodies = []
        known.last = sequence
        known.chain = chain
        known.epoch = epoch
        known.group = number
        known.places.append(position + offset)
        if keep:
            start = offset + RECORD_OVERHEAD
            known.bodies.append(None if kind == CLAIM else body[start : start + length])


def settle(verdict: Verdict, partitions: Mapping[int, PartitionRecords]) -> dict[int, int]:
    """Return the last sequence that every partition must reach, `LOST` where nobody knows.

    This is what the next mark says, so that later analyses know it too.
    """
    lasts = dict(verdict.lasts)
    if verdict.blind_after is not None:
        for partition in lasts:
            records = partitions.get(partition)
            if records is None or records.group <= verdict.blind_after:
                lasts[partition] = LOST
        lasts[UNNAMED] = LOST
    return lasts


def find_damage(
    records: PartitionRecords | None,
    reach: int | None,
    *,
    after: int,
    mark_readable: bool,
) -> str | None:
    """Tell what keeps a partition from being served, or None.

    Args:
        records: What can be read of it.
        reach: The last sequence that it must reach. None when it is named nowhere.
        after: What its store holds already: records up to here are not needed.
        mark_readable: Then every partition that ever had a record is named.
    """
    reach = reach or 0
    last = records.last if records is not None else 0
    if reach == LOST:
        return "a group is lost that may have held its last records"
    if after < reach and last < reach:
        return f"records up to {reach} were durable, the last that can be read is {last}"
    if records is not None and last >= reach and records.first > after + 1:
        return f"records {after + 1} to {records.first - 1} are lost"
    if after > max(reach, last) and (mark_readable or records is not None):
        return f"its store holds record {after}, but the journal ends at {max(reach, last)}"
    return None
