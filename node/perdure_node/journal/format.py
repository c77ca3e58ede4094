"""The bytes of a journal: segment headers, groups, records, marks. Nothing here does I/O.

A segment is a file. Its first page holds its header; then come groups, each starting on a
page. A group is what one write and one sync make durable:

    group  = group header, body, zeros to the end of the page
    body   = records
    record = prefix, chain, payload

The chain of a record is the CRC-32C of its prefix and payload, starting from the chain of the
partition's record before, which is in the prefix too. So one number says both that the record
is whole and that it follows that other one. All integers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from crc32c import crc32c

from perdure.ids import PARTITIONS_MAX

__all__ = [
    "BODY",
    "CLAIM",
    "IDENTITY_BYTES_MAX",
    "LAST_BYTES",
    "LOST",
    "PAGE",
    "RECORD_OVERHEAD",
    "SLOT_BYTES",
    "UNNAMED",
    "GroupHeader",
    "Mark",
    "Record",
    "SegmentHeader",
    "find_group",
    "group_bytes",
    "group_header_bytes",
    "pack_chain",
    "pack_group",
    "pack_last",
    "pack_last_into",
    "pack_mark",
    "pack_prefix",
    "pack_segment_header",
    "record_at",
    "records_in",
    "unpack_group_header",
    "unpack_mark",
    "unpack_segment_header",
]

PAGE: Final = 4_096
IDENTITY_BYTES_MAX: Final = 64

CLAIM: Final = 1
BODY: Final = 2

LOST: Final = (1 << 64) - 1
"""Stands in a mark for a partition of which records are lost and nobody knows how many."""

UNNAMED: Final = (1 << 32) - 1
"""Stands in a mark for every partition that it does not name."""

_VERSION: Final = 1
_SEGMENT_MAGIC: Final = b"PERDURES"
_GROUP_MAGIC: Final = b"PERDUREG"
_MARK_MAGIC: Final = b"PERDUREM"

_CRC: Final = struct.Struct("<I")
_SEGMENT: Final = struct.Struct("<8sH16sQQB64s")
_GROUP: Final = struct.Struct("<8s16sQIIH")
_LAST: Final = struct.Struct("<IQ")
_MARK: Final = struct.Struct("<8sQI")
_PREFIX: Final = struct.Struct("<IIQQBI")
_RECORD: Final = struct.Struct("<IIQQBII")

RECORD_OVERHEAD: Final = _RECORD.size
SLOT_BYTES: Final = 64 << 10
assert _MARK.size + (PARTITIONS_MAX + 1) * _LAST.size + _CRC.size <= SLOT_BYTES


class SegmentHeader(NamedTuple):
    """What a segment says about itself."""

    id: bytes
    """16 random bytes. Groups carry them, so nothing else in the file passes for a group."""
    number: int
    first_group: int
    """Groups of earlier segments from this number on are void."""
    identity: bytes


def pack_segment_header(header: SegmentHeader) -> bytes:
    """Return the first page of a segment."""
    fields = _SEGMENT.pack(
        _SEGMENT_MAGIC,
        _VERSION,
        header.id,
        header.number,
        header.first_group,
        len(header.identity),
        header.identity,
    )
    return (fields + _CRC.pack(crc32c(fields))).ljust(PAGE, b"\0")


def unpack_segment_header(page: bytes) -> SegmentHeader | None:
    """Read a segment's first page. None when it is damaged or was never written."""
    if len(page) < _SEGMENT.size + _CRC.size:
        return None
    if crc32c(page[: _SEGMENT.size]) != _CRC.unpack_from(page, _SEGMENT.size)[0]:
        return None
    magic, version, id, number, first_group, length, identity = _SEGMENT.unpack_from(page)
    if magic != _SEGMENT_MAGIC or version != _VERSION:
        return None
    return SegmentHeader(id, number, first_group, identity[:length])


class GroupHeader(NamedTuple):
    """What a group says about its body, under a checksum of its own."""

    segment_id: bytes
    number: int
    body_length: int
    body_crc: int
    lasts: tuple[tuple[int, int], ...]
    """(partition, last sequence) of every partition that has a record in the body."""

    @property
    def length(self) -> int:
        """Bytes from the start of this header to the start of the body."""
        return group_header_bytes(len(self.lasts))


def group_header_bytes(partition_count: int) -> int:
    """Return the size of a group's header: where its body starts."""
    return _GROUP.size + partition_count * _LAST.size + _CRC.size


def group_bytes(partition_count: int, body_length: int) -> int:
    """Return the size of a group in its file, a multiple of a page."""
    return -(-(group_header_bytes(partition_count) + body_length) // PAGE) * PAGE


def pack_group(segment_id: bytes, number: int, lasts: Mapping[int, int], body: bytes) -> bytes:
    """Return the bytes of a group. The body starts where `GroupHeader.length` says."""
    fields = _GROUP.pack(_GROUP_MAGIC, segment_id, number, len(body), crc32c(body), len(lasts))
    fields += b"".join([_LAST.pack(partition, last) for partition, last in lasts.items()])
    size = group_bytes(len(lasts), len(body))
    padding = bytes(size - len(fields) - _CRC.size - len(body))
    return b"".join((fields, _CRC.pack(crc32c(fields)), body, padding))


def find_group(data: bytes, offset: int, segment_id: bytes) -> int:
    """Return the first page at or after `offset` that begins like a group, or -1.

    Only groups of the segment with `segment_id` count; when that is empty, those of any.
    """
    start = _GROUP_MAGIC + segment_id
    while (offset := data.find(start, offset)) >= 0:
        if offset % PAGE == 0:
            return offset
        offset += 1
    return -1


def unpack_group_header(data: bytes, offset: int) -> GroupHeader | None:
    """Read the header of the group at `offset`, or None when it is damaged or none is there."""
    if len(data) < offset + _GROUP.size:
        return None
    magic, segment_id, number, body_length, body_crc, count = _GROUP.unpack_from(data, offset)
    end = offset + _GROUP.size + count * _LAST.size
    if magic != _GROUP_MAGIC or len(data) < end + _CRC.size:
        return None
    if crc32c(memoryview(data)[offset:end]) != _CRC.unpack_from(data, end)[0]:
        return None
    lasts = tuple(_LAST.iter_unpack(memoryview(data)[offset + _GROUP.size : end]))
    return GroupHeader(segment_id, number, body_length, body_crc, lasts)


class Record(NamedTuple):
    """Where a record lies in a body, and what its prefix says."""

    offset: int
    """Of the record, in the body."""
    length: int
    """Of its payload."""
    partition: int
    epoch: int
    sequence: int
    kind: int
    previous: int
    chain: int


pack_prefix: Final = _PREFIX.pack
"""Arguments: payload length, partition, epoch, sequence, kind, chain of the record before."""

pack_chain: Final = _CRC.pack


def record_at(body: bytes, offset: int) -> tuple[Record, bool] | None:
    """Return the record at `offset` of a body and whether it is whole.

    None when its length cannot be right, so that nothing after it can be found either.
    """
    if len(body) < offset + _RECORD.size:
        return None
    record = Record(offset, *_RECORD.unpack_from(body, offset))
    end = offset + _RECORD.size + record.length
    if len(body) < end:
        return None
    return record, _is_whole(body, offset, end, record.previous, record.chain)


def records_in(body: bytes, *, intact: bool) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the whole records of a body: where each begins, and `Record`'s other fields.

    They are plain tuples, because a start reads as many of them as there were ticks.

    Args:
        body: Of a group.
        intact: It is as it was written. Of a damaged one these are the records still found.
    """
    unpack, overhead, size = _RECORD.unpack_from, _RECORD.size, len(body)
    offset = 0
    while offset + overhead <= size:
        fields = unpack(body, offset)
        end = offset + overhead + fields[0]
        if end > size:
            return
        if intact or _is_whole(body, offset, end, fields[-2], fields[-1]):
            yield offset, fields
        offset = end


def _is_whole(body: bytes, offset: int, end: int, previous: int, chain: int) -> bool:
    view = memoryview(body)
    prefix_crc = crc32c(view[offset : offset + _PREFIX.size], previous)
    return crc32c(view[offset + _RECORD.size : end], prefix_crc) == chain


class Mark(NamedTuple):
    """What was durable: every group up to `group`, every partition up to its last sequence."""

    group: int
    lasts: dict[int, int]


def pack_mark(group: int, count: int, entries: bytes | bytearray) -> bytes:
    """Return the bytes of a slot of the mark file. `entries` come from `pack_last`."""
    fields = _MARK.pack(_MARK_MAGIC, group, count) + entries
    return fields + _CRC.pack(crc32c(fields))


pack_last = _LAST.pack
"""Arguments: partition, last sequence."""

pack_last_into = _LAST.pack_into

LAST_BYTES: Final = _LAST.size


def unpack_mark(slot: bytes) -> Mark | None:
    """Read a slot of the mark file, or None when it is damaged or was never written."""
    if len(slot) < _MARK.size + _CRC.size:
        return None
    magic, group, count = _MARK.unpack_from(slot)
    end = _MARK.size + count * _LAST.size
    if magic != _MARK_MAGIC or len(slot) < end + _CRC.size:
        return None
    if crc32c(slot[:end]) != _CRC.unpack_from(slot, end)[0]:
        return None
    return Mark(group, dict(_LAST.iter_unpack(slot[_MARK.size : end])))
