"""What the journal of one call says: its steps, their results, its saves, in the order of records.

A call whose method has made something that a second run must not make again is *journalled*:
after a crash its method runs again from the start, and whatever is in here is answered from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from perdure.ids import ObjectKey
from perdure_node.core.firing import TimerChange, unpack_change

__all__ = [
    "CALL",
    "Answered",
    "Blame",
    "Blamed",
    "Cancelled",
    "Checkpoint",
    "Chunk",
    "Done",
    "Effect",
    "Ended",
    "Event",
    "Fired",
    "OutboxEntry",
    "OutboxGone",
    "Parked",
    "Patched",
    "Received",
    "Retried",
    "Retrying",
    "RunGone",
    "Saved",
    "Scheduled",
    "Unparked",
    "Wrote",
    "open_steps",
    "unpack_effect",
    "unpack_event",
]

CALL: Final = "call"
"""The kind of step that calls another object. Its data is an `OutboxEntry` without `source`."""

_WAITED_FOR: Final = frozenset((CALL, "read", "service", "run", "sleep", "step"))
"""The kinds of steps that end later than they begin."""


class _Recorded(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A base of what is recorded: an array of its fields.

    Runs keep thousands of them, so the collector leaves them alone: they are in no cycles.
    """


class Scheduled(_Recorded, frozen=True):
    """The method has asked for a step. It may have been performed, any number of times."""

    step: int
    """Counts the steps of the call from 1, in the order in which the method asked."""
    kind: str
    """`call`, `read`, `service`, `run`, `sleep`, `value`, `send`, `timer`, `cancel`."""
    name: str
    """Who is asked for what, as people read it. A second run has to ask for the same."""
    data: Any
    """What it takes to perform it again; for `value` what it gave."""
    tag: str = "s"


class Done(_Recorded, frozen=True):
    """A step has ended. Its result is given to the method when its turn comes."""

    step: int
    code: int
    payload: bytes
    tag: str = "d"


class Saved(_Recorded, frozen=True):
    """A `save()` is committed: a second run skips it."""

    tag: str = "v"


class Cancelled(_Recorded, frozen=True):
    """Somebody wants the call to end. Delivered to the method like the result of a step."""

    reason: str
    tag: str = "c"


class Parked(_Recorded, frozen=True):
    """The call does not go on, until an operator decides about it."""

    reason: str
    tag: str = "p"


class Unparked(_Recorded, frozen=True):
    """An operator has sent the call on its way again."""

    tag: str = "u"


class Retried(_Recorded, frozen=True):
    """The method has raised and is run again, from the start image and with this journal."""

    forgotten: list[int]
    """Steps that have failed, and are asked for as if they were new."""
    tag: str = "r"


class Fired(_Recorded, frozen=True):
    """The call is the firing of a timer, which was this before it fired."""

    timer: list[Any]
    """The fields of a `TimerSetting`."""
    tag: str = "f"


class Blamed(_Recorded, frozen=True):
    """The process has died while it ran the method's code."""

    epoch: int
    """Of the life that died: it is said once for each."""
    tag: str = "b"


class Received(_Recorded, frozen=True):
    """A payload for a hook has come. Delivered to the run like the result of a step."""

    token: str
    """Of the hook."""
    payload: bytes
    """What the run gets, encoded."""
    session: bytes
    """Of the call that has brought it; empty: nobody waits for a reply."""
    sequence: int
    encoding: int
    """How the reply is to be written."""
    tag: str = "h"


class Answered(_Recorded, frozen=True):
    """The senders of some payloads have their answers, and no reply will follow."""

    payloads: list[int]
    """Counted from 1, in the order of `Received`."""
    tag: str = "a"


class Retrying(_Recorded, frozen=True):
    """An attempt of a step has failed, and there will be another one."""

    step: int
    attempt: int
    """The one that has failed; the first is 1."""
    due_ms: int
    """When the next one begins: wall clock."""
    error: bytes
    """A packed exception."""
    tag: str = "y"


class Wrote(_Recorded, frozen=True):
    """An attempt of a step has begun to write to a stream: its chunks are there from now on."""

    step: int
    attempt: int
    stream: str
    first: int
    """The index of its first chunk; -1: what earlier attempts have written is void."""
    tag: str = "w"


class Checkpoint(_Recorded, frozen=True):
    """The run goes on with other arguments, and without the events before this one."""

    generation: int
    """How often that has happened."""
    hooks: list[list[Any]]
    """`[token, schema, claim]` of those that it has."""
    disposed: list[str]
    """The tokens of those that it has had."""
    received: list[list[Any]]
    """The fields of each `Received` that it has not taken yet."""
    dropped: int
    """How many events the run has had before this one, in all."""
    tag: str = "k"


class Patched(_Recorded, frozen=True):
    """The run takes a way that its code did not have at first."""

    name: str
    tag: str = "x"


class Ended(_Recorded, frozen=True):
    """The call is over, and has no outcome that anybody could ask for."""

    tag: str = "e"


Event = (
    Scheduled
    | Done
    | Saved
    | Cancelled
    | Parked
    | Unparked
    | Retried
    | Fired
    | Blamed
    | Received
    | Answered
    | Retrying
    | Wrote
    | Checkpoint
    | Patched
    | Ended
)

_EVENTS: Final[dict[str, Any]] = {
    "s": Scheduled,
    "d": Done,
    "v": Saved,
    "c": Cancelled,
    "p": Parked,
    "u": Unparked,
    "r": Retried,
    "f": Fired,
    "b": Blamed,
    "h": Received,
    "a": Answered,
    "y": Retrying,
    "w": Wrote,
    "k": Checkpoint,
    "x": Patched,
    "e": Ended,
}


def unpack_event(row: list[Any]) -> Event:
    """Return an event from its fields."""
    event: Event = _EVENTS[row[-1]](*row)
    return event


def open_steps(events: Iterable[Event]) -> list[Scheduled]:
    """Return the steps that a method may wait for: those that have no result, in their order."""
    found: dict[int, Scheduled] = {}
    for event in events:
        if isinstance(event, Scheduled):
            if event.kind in _WAITED_FOR:
                found[event.step] = event
        elif isinstance(event, Done):
            found.pop(event.step, None)
    return list(found.values())


class OutboxEntry(NamedTuple):
    """A call on its way to another object, of which nobody here waits for the answer.

    It belongs to the session of the partition that it leaves, so that it is one call however
    often it is sent.
    """

    partition: int
    """Where it goes."""
    sequence: int
    """Counts the calls from here to that partition."""
    type: str
    id: str
    kind: int
    """A `frames.Kind`. CANCEL: the call of this sequence is to be killed."""
    method: str
    encoding: int
    arguments: bytes
    key: str | None
    have: list[int] | None
    chain: list[list[str]]
    due_ms: int
    """Wall clock; only for sends. 0: at once."""
    start_by_ms: int = 0
    """Wall clock: refused by the target if it has not started then. 0: it waits for ever."""
    tag: str = "o"

    @property
    def target(self) -> ObjectKey:
        """The object that is called."""
        return ObjectKey(self.type, self.id)


class OutboxGone(NamedTuple):
    """An entry of the outbox has arrived: its target has the outcome."""

    partition: int
    sequence: int
    tag: str = "g"


class Blame(NamedTuple):
    """A process has died while it ran a call that has no journal."""

    session: bytes
    sequence: int
    deaths: int
    """How many have by now."""
    epoch: int
    """Of the last one."""
    tag: str = "b"


class Chunk(NamedTuple):
    """A chunk of a stream, or the word that what was written from some index on is void."""

    stream: str
    at: int
    """Its index. Never used twice."""
    payload: bytes
    rewound: int = -1
    """The first index that is void, up to this one; -1: it is a chunk."""
    tag: str = "n"


class RunGone(NamedTuple):
    """A run that has ended goes, with its events and streams: its time is over."""

    row: bytes
    """The key by which that was found, see `expiry_rows`."""
    events: int = 0
    """How many it has had since it was continued as new."""
    streams: list[list[Any]] = []  # noqa: RUF012 - a default that nobody changes
    """`[name, length]` of each."""
    large: list[str] = []  # noqa: RUF012
    """The names of its attributes that have rows of their own."""
    tag: str = "z"


Effect = OutboxEntry | OutboxGone | TimerChange | Blame | Chunk | RunGone


def unpack_effect(row: list[Any]) -> Effect:
    """Return an effect from its fields."""
    if row[-1] == "o":
        return OutboxEntry(*row)
    if row[-1] == "b":
        return Blame(*row)
    if row[-1] == "n":
        return Chunk(*row)
    if row[-1] == "z":
        return RunGone(*row)
    return OutboxGone(*row) if row[-1] == "g" else unpack_change(row)
