"""How objects and calls are named, and which partition an object belongs to."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import xxhash

from perdure.errors import BadObjectId

__all__ = [
    "OBJECT_ID_BYTES_MAX",
    "PARTITIONS_MAX",
    "SESSION_ID_BYTES",
    "CallId",
    "ObjectKey",
    "check_object_id",
    "is_partition_session",
    "new_session_id",
    "partition_of",
    "partition_session_id",
    "session_beside",
    "session_birth_ms",
]

OBJECT_ID_BYTES_MAX: Final = 512
"""Bytes of UTF-8 in an object id. Ids are part of every key on disk and of every call."""

PARTITIONS_MAX: Final = 4_096
"""Of a cluster: the journal of a node has a slot of fixed size for the last record of each."""

SESSION_ID_BYTES: Final = 16

_NEVER_BORN: Final = b"\xff" * 6
"""Where other session ids have their birth: it sorts behind every time there will be."""

_CALL_ID: Final = re.compile(r"([0-9a-f]{32}):(\d{1,10}):(\d{1,19})")


_digest: Final = xxhash.xxh3_64_intdigest
"""Each call needs it, and so it needs no look-up where modules are compiled."""


class ObjectKey(NamedTuple):
    """The name of an object: its type's name and its id."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}[{self.id}]"


class CallId(NamedTuple):
    """The name of a call, given by the caller: equal ids are copies of one call."""

    session: bytes
    partition: int
    sequence: int
    """Counts the calls of this session to this partition, from 1, without gaps."""

    def __str__(self) -> str:
        return f"{self.session.hex()}:{self.partition}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> CallId | None:
        """Return the id that was written so; None: none was.

        Raises:
            TypeError: It is no text.
        """
        found = _CALL_ID.fullmatch(text)
        return None if found is None else cls(bytes.fromhex(found[1]), int(found[2]), int(found[3]))


def partition_of(key: ObjectKey, partition_count: int) -> int:
    """Return the partition that holds an object, for ever.

    A key hashes to one of 65,536 slots, and a partition is a contiguous range of slots, so
    that a partition could be split without moving any object of another one.
    """
    slot = _digest(f"{key[0]}\0{key[1]}".encode()) >> 48
    return slot * partition_count >> 16


def check_object_id(value: object) -> str:
    """Return an object id unchanged.

    Raises:
        TypeError: It is not exactly a `str`.
        BadObjectId: It is empty, too long, holds NUL or is no valid Unicode text.
    """
    if type(value) is not str:
        raise TypeError(f"an object id is a str, not {type(value).__name__}: {value!r:.100}")
    if not value:
        raise BadObjectId("an object id is not empty")
    if "\0" in value:
        raise BadObjectId("an object id holds no NUL character")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadObjectId("an object id is valid Unicode text: no lone surrogates") from None
    if size > OBJECT_ID_BYTES_MAX:
        raise BadObjectId(
            f"an object id has at most {OBJECT_ID_BYTES_MAX} bytes of UTF-8, this has {size}"
        )
    return value


def new_session_id(now_ms: int, random: bytes) -> bytes:
    """Make the id of a session born at `now_ms` (wall clock) from ten random bytes."""
    assert len(random) == SESSION_ID_BYTES - 6
    return now_ms.to_bytes(6, "big") + random


def session_birth_ms(session: bytes) -> int:
    """Return when a session was born: milliseconds of the wall clock of its client.

    For a partition's session that is later than every time there will be.
    """
    return int.from_bytes(session[:6], "big")


def partition_session_id(cluster_id: str, partition: int) -> bytes:
    """Return the id of the session of all calls that leave a partition, whoever owns it.

    Such a session never expires.
    """
    cluster = xxhash.xxh3_64_digest(cluster_id.encode())
    return _NEVER_BORN + cluster + partition.to_bytes(2, "big")


def is_partition_session(session: bytes) -> bool:
    """Tell whether a session is a partition's, and no client's."""
    return session.startswith(_NEVER_BORN)


def session_beside(session: bytes, partition: int) -> bytes:
    """Return the session of another partition of the same cluster."""
    return session[:-2] + partition.to_bytes(2, "big")
