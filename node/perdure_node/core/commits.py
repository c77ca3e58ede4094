"""What one call makes durable, and how a record of many such commits is written.

A record is one entry of a partition's log: the commits of one tick, in order, under one
checksum. So a commit is never torn in two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
from msgspec.structs import replace

from perdure.ids import ObjectKey
from perdure_node.core.events import Effect, Event, unpack_effect, unpack_event

__all__ = [
    "MARK",
    "Commit",
    "Outcome",
    "Progress",
    "new_progress",
    "pack_record",
    "unpack_record",
    "unpack_records",
    "with_types",
]

if TYPE_CHECKING:
    _Events = Sequence[Event]
    _Effects = Sequence[Effect]
    _Journal = list[Event]
else:
    # msgspec leaves them as they are: `unpack_record` tells them apart, in the few that have any.
    _Events = _Effects = _Journal = list[Any]

MARK = -1
"""The code of an outcome that says only: this call was answered, and changed nothing."""


class Outcome(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The end of one call."""

    session: bytes
    sequence: int
    confirmed: list[int]
    """What the call told of its session's other calls; see `bodies.Request.confirmed`."""
    code: int
    payload: bytes
    key: str | None = None
    method: str = ""
    digest: bytes = b""
    """Of the arguments; only with a key."""


class Progress(NamedTuple):
    """A call that is not over, with all that it takes to finish it after a crash."""

    request: list[Any]
    """The fields of `bodies.Request`."""
    start_image: dict[str, bytes]
    """The object's state when the call began."""
    start_version: int
    """The version of that state."""
    events: _Journal
    """Its journal so far. Empty in a commit, whose own `events` say more."""


new_progress: Final = cast(
    "Callable[[tuple[list[Any], dict[str, bytes], int, list[Event]]], Progress]",
    partial(tuple.__new__, Progress),
)
"""Makes one of its fields. Where modules are compiled, `Progress` is a call of Python."""


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
    events: _Events = ()
    """What is added to the journal of the object's call in progress."""
    effects: _Effects = ()
    """What else this makes durable: calls that leave, timers."""


pack_record: Final[Callable[[tuple[int, list[Commit]]], bytes]] = msgspec.msgpack.Encoder().encode
"""Packs the commits of one tick: the partition's time (wall clock, never less than in the record
before), and the commits in the order in which they were made."""


def unpack_record(body: bytes) -> tuple[int, list[Commit]]:
    """Return the time and the commits of a record."""
    time_ms, commits = _decode(body)
    return time_ms, with_types(commits)


def unpack_records(bodies: Sequence[bytes | None]) -> list[tuple[int, list[Commit]]]:
    """Return the times and the commits of many records; of None: none, at time 0.

    The events and effects of commits that have any are what `with_types` makes of them.
    """
    count = len(bodies).to_bytes(4, "big")
    found = [_NOTHING if body is None else body for body in bodies]
    return _decode_all(b"".join((_ARRAY, count, *found)))


def with_types(commits: list[Commit]) -> list[Commit]:
    """Tell the events and effects of decoded commits apart, in place."""
    for at, commit in enumerate(commits):
        if commit.events or commit.effects:
            events: Sequence[Any] = commit.events
            effects: Sequence[Any] = commit.effects
            commits[at] = replace(
                commit,
                events=[unpack_event(row) for row in events],
                effects=[unpack_effect(row) for row in effects],
            )
    return commits


_decode: Final = msgspec.msgpack.Decoder(tuple[int, list[Commit]]).decode
_decode_all: Final = msgspec.msgpack.Decoder(list[tuple[int, list[Commit]]]).decode
_ARRAY: Final = b"\xdd"
"""MessagePack's mark of an array with its length in the next four bytes."""
_NOTHING: Final = pack_record((0, []))
