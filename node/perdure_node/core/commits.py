"""What one call makes durable, and how a record of many such commits is written.

A record is one entry of a partition's log: the commits of one tick, in order, under one
checksum. So a commit is never torn in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from perdure.ids import ObjectKey
from perdure_node.core.events import Effect, Event, unpack_effect, unpack_event

__all__ = [
    "MARK",
    "Commit",
    "Outcome",
    "Progress",
    "pack_record",
    "unpack_record",
]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode

MARK = -1
"""The code of an outcome that says only: this call was answered, and changed nothing."""


class Outcome(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The end of one call."""

    session: bytes
    sequence: int
    confirmed: list[int]
    """What the call told of its session's other calls; see `frames.Request.confirmed`."""
    code: int
    payload: bytes
    key: str | None = None
    method: str = ""
    digest: bytes = b""
    """Of the arguments; only with a key."""


class Progress(NamedTuple):
    """A call that is not over, with all that it takes to finish it after a crash."""

    request: list[Any]
    """The fields of `frames.Request`."""
    start_image: dict[str, bytes]
    """The object's state when the call began."""
    start_version: int
    """The version of that state."""
    events: list[Event]
    """Its journal so far. Empty in a commit, whose own `events` say more."""


class Commit(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One atomic change of one object, together with the outcomes that belong to it."""

    key: ObjectKey | None
    """None: no object, only outcomes."""
    created: bool
    """Whatever was there before is forgotten: `values` is the whole state."""
    gone: bool
    """The object is deleted."""
    state_version: int
    values: dict[str, bytes]
    """Changed attributes. Empty bytes: the attribute is deleted."""
    outcomes: list[Outcome]
    progress: Progress | None
    """Set by the first commit of a call that goes on after it."""
    events: Sequence[Event] = ()
    """What is added to the journal of the object's call in progress."""
    effects: Sequence[Effect] = ()
    """What else this makes durable: calls that leave, timers."""


def pack_record(time_ms: int, commits: list[Commit]) -> bytes:
    """Pack the commits of one tick.

    Args:
        time_ms: The partition's time: wall clock, never less than in the record before.
        commits: In the order in which they were made.
    """
    return _encode((time_ms, commits))


def unpack_record(body: bytes) -> tuple[int, list[Commit]]:
    """Return the time and the commits of a record."""
    time_ms, rows = _decode(body)
    commits = [
        Commit(
            ObjectKey(*key) if key is not None else None,
            created,
            gone,
            state_version,
            values,
            [Outcome(*outcome) for outcome in outcomes],
            Progress(*progress) if progress is not None else None,
            [unpack_event(event) for event in events],
            [unpack_effect(effect) for effect in effects],
        )
        for key, created, gone, state_version, values, outcomes, progress, events, effects in rows
    ]
    return time_ms, commits
