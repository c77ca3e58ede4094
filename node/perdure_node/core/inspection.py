"""What a partition can tell of objects and calls without disturbing any.

Nothing is woken, and nothing here changes what is remembered or when it leaves memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from perdure.frames import Kind
from perdure.ids import CallId, ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core.calls import Call
from perdure_node.core.events import CALL, OutboxEntry, Scheduled, open_steps
from perdure_node.core.firing import PARKED_MS
from perdure_node.core.partition import Partition
from perdure_node.core.timer_rows import parked_key

__all__ = [
    "CallFacts",
    "ObjectFacts",
    "Query",
    "StepFacts",
    "object_facts",
    "open_calls",
    "parked_timers",
    "timer_place",
]

_SHOWN_MAX: Final = 10
"""Calls, steps or timers of one object."""

_ORDER: Final = {"parked": "1", "running": "2", "waiting": "3", "leaving": "4", "timer": "5"}
"""What the places of calls begin with."""


class StepFacts(NamedTuple):
    """A step that is not done."""

    number: int
    kind: str
    name: str
    target: ObjectKey | None = None
    """For a call, the object."""
    origin: tuple[int, int] | None = None
    """For a call, target partition and sequence."""
    due_ms: int | None = None
    """For a sleep, when it ends: wall clock."""


class CallFacts(NamedTuple):
    """A call that is not over."""

    key: ObjectKey
    method: str
    kind: str
    state: str
    """`parked`, `running`, `waiting` or `leaving`."""
    place: str
    """In the order of all calls."""
    call_id: str
    """Empty for the firing of a timer, and for a call that leaves: `origin` says more there."""
    timer: str
    """Whose firing it is; or empty."""
    age_ms: int
    resumed: bool
    journalled: bool
    steps_done: int
    steps: list[StepFacts]
    """Those that are not done, the latest first; not all if there are many."""
    steps_open: int
    reason: str
    """Why it is parked, or is going to end; else empty."""
    chain: list[str]
    """The calls that it is made inside of, outermost first."""
    call: Call | None = None
    origin: tuple[int, int] | None = None
    """Of a call that leaves: target partition and sequence."""


class ObjectFacts(NamedTuple):
    """What an object does, and waits for."""

    held_up: str
    """Why no call of the partition starts now; empty: calls start."""
    exists: bool
    resident: bool
    running: list[CallFacts]
    """Not all if there are many."""
    running_count: int
    waiting_count: int
    oldest_waiting: CallFacts | None
    timers: list[TimerSetting]
    """In the order in which they are due, parked ones last; not all if there are many."""
    timer_count: int


class Query(NamedTuple):
    """Which calls are asked for."""

    parked_only: bool = False
    type: str = ""
    """Empty: of all types."""
    older_than_ms: int = 0
    """Those without a journal that are younger are left out."""
    after: str = ""
    """Those behind this place."""
    limit: int = 1_000


def object_facts(partition: Partition, key: ObjectKey, now_ms: int) -> ObjectFacts:
    """Look at an object.

    Args:
        partition: Its own.
        key: It need not be there.
        now_ms: Monotonic clock.

    Raises:
        DamageFound: The store cannot be trusted.
    """
    memory = partition.memory
    mailbox = partition.mailboxes.get(key)
    running: list[Call] = [] if mailbox is None else mailbox.running
    waiting: list[Call] = [] if mailbox is None else list(mailbox.waiting)
    oldest = min(waiting, key=lambda call: call.since_ms, default=None)
    timers = sorted(memory.timers.of(key), key=lambda timer: timer.due_ms)
    shown = timers[:_SHOWN_MAX]
    shown += [timer for timer in timers[_SHOWN_MAX:] if timer.due_ms == PARKED_MS][:_SHOWN_MAX]
    return ObjectFacts(
        _held_up(partition),
        memory.exists(key),
        memory.is_resident(key),
        [_call_facts(partition, call, _state(call), now_ms) for call in running[:_SHOWN_MAX]],
        len(running),
        len(waiting),
        None if oldest is None else _call_facts(partition, oldest, "waiting", now_ms),
        shown,
        len(timers),
    )


def open_calls(partition: Partition, query: Query, now_ms: int) -> list[CallFacts]:
    """Return the calls of a partition that are not over, in the order of their places."""
    places = heapq.nsmallest(
        query.limit,
        (found for found in _places(partition, query, now_ms) if found[0] > query.after),
        key=lambda found: found[0],
    )
    return [
        _outbox_facts(place, found)
        if isinstance(found, OutboxEntry)
        else _call_facts(partition, found, state, now_ms, place)
        for place, state, found in places
    ]


def parked_timers(partition: Partition, query: Query) -> list[tuple[ObjectKey, TimerSetting]]:
    """Return the timers that do not fire until somebody decides, in the order of their places.

    Raises:
        DamageFound: The store cannot be trusted.
    """
    after = b""
    section, _, rest = query.after.partition("\0")
    if section == _ORDER["timer"] and rest.count("\0") >= 2:
        # The name of a call that was sent holds a NUL.
        type, id, name = rest.split("\0", 2)
        after = parked_key(ObjectKey(type, id), name)
    return partition.memory.timers.parked(query.type, after, query.limit)


def timer_place(key: ObjectKey, timer: TimerSetting) -> str:
    """Return the place of a parked timer: behind all calls."""
    return "\0".join((_ORDER["timer"], *key, timer.name))


def _places(
    partition: Partition, query: Query, now_ms: int
) -> Iterator[tuple[str, str, Call | OutboxEntry]]:
    type = query.type
    for mailbox in partition.mailboxes:
        for call in mailbox.running:
            state = _state(call)
            if (type and call.key.type != type) or (query.parked_only and state != "parked"):
                continue
            if call.progress is not None or now_ms - call.since_ms >= query.older_than_ms:
                yield _place(state, call), state, call
        if query.parked_only:
            continue
        for call in mailbox.waiting:
            if type and call.key.type != type:
                break
            if now_ms - call.since_ms >= query.older_than_ms:
                yield _place("waiting", call), "waiting", call
    if not query.parked_only:
        for entry in partition.memory.underway.outbox.values():
            if not type or entry.type == type:
                # Several partitions may have calls to the same object.
                unique = f"{partition.number:05}:{entry.partition:05}:{entry.sequence:019}"
                yield "\0".join((_ORDER["leaving"], *entry.target, unique)), "leaving", entry


def _place(state: str, call: Call) -> str:
    request = call.request
    unique = f"{call.since_ms:015}:{request.session.hex()}:{request.sequence:019}"
    if call.firing:
        unique += f":{_timer_of(call)}"
    return "\0".join((_ORDER[state], *call.key, unique))


def _state(call: Call) -> str:
    return "running" if call.parked is None else "parked"


def _held_up(partition: Partition) -> str:
    if partition.draining:
        return "its node is being stopped"
    if partition.paused:
        return "too much waits for the disk: calls start when that has caught up"
    return "" if partition.room else "the disk is full: calls that write are refused"


def _call_facts(
    partition: Partition, call: Call, state: str, now_ms: int, place: str = ""
) -> CallFacts:
    request, progress = call.request, call.progress
    done, steps, reason = 0, list[Scheduled](), call.parked or ""
    if progress is not None:
        steps = open_steps(progress.events)
        made = {event.step for event in progress.events if isinstance(event, Scheduled)}
        done = len(made) - len(steps)
    return CallFacts(
        call.key,
        request.method,
        Kind(request.kind).name.lower().replace("_", " "),
        state,
        place or _place(state, call),
        "" if call.firing else str(CallId(request.session, partition.number, request.sequence)),
        _timer_of(call),
        max(0, now_ms - call.since_ms),
        call.resumed,
        progress is not None,
        done,
        [_step_facts(step) for step in islice(reversed(steps), _SHOWN_MAX)],
        len(steps),
        reason,
        [_link(link) for link in request.chain],
        call,
    )


def _outbox_facts(place: str, entry: OutboxEntry) -> CallFacts:
    return CallFacts(
        entry.target,
        entry.method,
        Kind(entry.kind).name.lower().replace("_", " "),
        "leaving",
        place,
        "",
        "",
        0,
        False,
        True,
        0,
        [],
        0,
        "",
        [_link(link) for link in entry.chain],
        None,
        (entry.partition, entry.sequence),
    )


def _step_facts(step: Scheduled) -> StepFacts:
    if step.kind == CALL:
        entry = OutboxEntry(*step.data)
        origin = (entry.partition, entry.sequence)
        return StepFacts(step.step, step.kind, step.name, entry.target, origin)
    due_ms = step.data if step.kind == "sleep" else None
    return StepFacts(step.step, step.kind, step.name, due_ms=due_ms)


def _timer_of(call: Call) -> str:
    timer = call.timer or call.fired
    return "" if timer is None else timer.name


def _link(link: list[str]) -> str:
    return f"{link[0]}/{link[1]}.{link[2]}"
