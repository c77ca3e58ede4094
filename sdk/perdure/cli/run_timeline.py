"""What the events of a run say, as things that begin, go on side by side, and end.

Pure. Events are about moments; people want to know what took how long, what it was given, what
came of it, and what is not over yet. Here events become items, one for each row of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from perdure.bodies import unpack_reply
from perdure.cli.shown_values import json_of
from perdure.errors import BadPayload
from perdure.frames import Encoding
from perdure.workflows.events import RunEvent

__all__ = ["Attempt", "Item", "OpenHook", "Packed", "Timeline", "timeline_of"]

_RUNS: Final = "workflow["
_ASKED: Final = "ask workflow["


@dataclass(frozen=True, slots=True)
class Packed:
    """A value as it travels."""

    data: bytes
    encoding: int = Encoding.MSGPACK


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt of a step that has failed, and was not the last one."""

    number: int
    begun_ms: int
    failed_ms: int
    error: bytes
    """A packed exception."""
    next_ms: int
    """When the next one is due."""


@dataclass(slots=True)
class Item:
    """Something that has happened in a run, or goes on there."""

    place: int
    """Of the event that it begins with."""
    kind: str
    """`step`, `call`, `service`, `run`, `read`, `start` (of another run), `result` (of another
    run), `sleep`: these take their time. `hook`, `payload`, `reply`, `closed`, `stream`, `value`,
    `send`, `timer`, `cancel`, `note`: these just happen."""
    name: str
    """Of the step, method, service, token or stream; what a note says."""
    begun_ms: int
    step: int = 0
    """Its number; 0: it has none."""
    given: Packed | None = None
    """The arguments, or the payload."""
    target: str = ""
    """The run that is started or asked."""
    end_place: int | None = None
    ended_ms: int | None = None
    code: int = 0
    """Of the error that it has ended with; 0: none."""
    got: Packed | None = None
    """The result, the reply, or the error of `code`."""
    attempts: list[Attempt] = field(default_factory=list)
    due_ms: int | None = None
    """When a sleep ends."""
    waited_ms: int | None = None
    """How long the hook had been open for this payload, or the payload for this reply."""
    count: int = 1
    """Of chunks or values."""
    payload: int = 0
    """Which one was received or answered, counted from 1."""
    answer: str = ""
    """What became of a payload: empty (not known), `replied` or `none`."""
    remarks: list[str] = field(default_factory=list)
    lane: int = 0
    """Counted from 0: items that go on at the same time have different ones."""
    beside: list[int] = field(default_factory=list)
    """Lanes of earlier items that go on when this one begins."""

    @property
    def takes_time(self) -> bool:
        """Whether it has a beginning and an end."""
        return self.kind in _TAKE_TIME

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.takes_time and self.end_place is None

    @property
    def attempt(self) -> int:
        """The number of the attempt that goes on, or was the last one."""
        return self.attempts[-1].number + 1 if self.attempts else 1

    @property
    def was_woken(self) -> bool:
        """Whether it is a sleep that somebody has ended."""
        return None not in (self.due_ms, self.ended_ms) and self.ended_ms < self.due_ms  # type: ignore[operator]


_TAKE_TIME: Final = frozenset(
    {"step", "call", "service", "run", "read", "start", "result", "sleep"}
)


@dataclass(slots=True)
class OpenHook:
    """A hook that takes payloads."""

    token: str
    since_ms: int
    """When it was opened, or has got or answered its last payload."""
    payloads: int = 0
    """So many have come."""
    holder: str | None = None
    """Another run that has the token."""
    is_claimed: bool = True


@dataclass(slots=True)
class Timeline:
    """What has happened in a run."""

    items: list[Item] = field(default_factory=list)
    hooks: dict[str, OpenHook] = field(default_factory=dict)
    """Those that are open, by token."""
    dropped: int = 0
    """Events before it was continued as new the last time."""
    generation: int = 0
    """How often that was."""
    lanes: int = 1
    """As many are needed."""

    @property
    def open_lanes(self) -> set[int]:
        """Lanes of what has not ended."""
        return {item.lane for item in self.open_items}

    @property
    def open_items(self) -> list[Item]:
        """What has begun and not ended."""
        return [item for item in self.items if item.is_open]


def timeline_of(events: Iterable[RunEvent], started_ms: int) -> Timeline:
    """Return what the events of a run say.

    Args:
        events: All that there are, in their order.
        started_ms: When the run began: wall clock.
    """
    builder = _Builder(started_ms)
    for event in events:
        builder.add(event)
    _give_lanes(builder.timeline)
    return builder.timeline


class _Builder:
    """Puts items together, event by event."""

    def __init__(self, started_ms: int) -> None:
        self.timeline = Timeline()
        self._items = self.timeline.items
        self._hooks = self.timeline.hooks
        self._begun_ms = started_ms
        self._steps: dict[int, Item] = {}
        self._claims: dict[int, str] = {}
        self._payloads: list[Item | None] = []
        """All that have come; None: one that came before the run was continued as new."""

    def add(self, event: RunEvent) -> None:
        """Take over what an event says."""
        add = _ADD.get(event.kind)
        if add is not None:
            add(self, event)
        elif event.kind != "ended":
            self._note(event, _NOTES.get(event.kind, event.kind.replace("_", " ")))

    def _item(self, event: RunEvent, kind: str, name: str, **facts: Any) -> Item:
        item = Item(event.place, kind, name, event.time_ms, event.step, **facts)
        self._items.append(item)
        if item.takes_time:
            self._steps[event.step] = item
        return item

    def _note(self, event: RunEvent, text: str) -> None:
        self._item(event, "note", text)

    # Steps.

    def _scheduled(self, event: RunEvent) -> None:
        given = Packed(event.packed, event.encoding) if event.packed else None
        kind, name = str(event.detail), event.name
        if kind == "call" and name.startswith(_RUNS):
            run, _, workflow = name.removeprefix(_RUNS).rpartition("].")
            self._item(event, "start", workflow, target=run, given=_given_to_run(event))
        elif kind == "read" and name.startswith(_ASKED):
            run = name.removeprefix(_ASKED).removesuffix("]")
            self._item(event, "result", run, target=run)
        else:
            self._item(event, kind, name, given=given)

    def _sleeping(self, event: RunEvent) -> None:
        self._item(event, "sleep", "", due_ms=event.detail)

    def _retrying(self, event: RunEvent) -> None:
        item = self._steps.get(event.step)
        if item is not None:
            number, next_ms = event.detail["attempt"], event.detail["due_ms"]
            begun_ms = item.attempts[-1].next_ms if item.attempts else item.begun_ms
            attempt = Attempt(number, begun_ms, event.time_ms, event.packed, next_ms)
            item.attempts.append(attempt)

    def _ended(self, event: RunEvent) -> None:
        token = self._claims.pop(event.step, None)
        if token is not None:
            self._claimed(token, event)
            return
        item = self._steps.get(event.step)
        if item is None:
            return
        item.end_place, item.ended_ms, item.code = event.place, event.time_ms, event.detail
        if item.kind in ("call", "read", "start", "result"):
            item.got = _of_answer(event.packed)
        else:
            item.got = Packed(event.packed)
        if item.kind == "result":
            _take_end_of_run(item)

    # Hooks.

    def _hook(self, event: RunEvent) -> None:
        hook = self._hooks.get(event.name)
        if hook is None:
            self._hooks[event.name] = OpenHook(event.name, event.time_ms)
            self._item(event, "hook", event.name)

    def _claiming(self, event: RunEvent) -> None:
        self._claims[event.step] = event.name
        hook = self._hooks.get(event.name)
        if hook is not None:
            hook.is_claimed = False

    def _claimed(self, token: str, event: RunEvent) -> None:
        hook = self._hooks.get(token)
        if hook is None:
            return
        hook.is_claimed = True
        answer = _of_answer(event.packed)
        holder = json_of(answer.data) if answer is not None and not event.detail else None
        if holder is not None:
            del self._hooks[token]
            for item in self._items:
                if item.kind == "hook" and item.name == token:
                    item.remarks = [f"the run {holder} holds the token"]

    def _received(self, event: RunEvent) -> None:
        hook = self._hooks.setdefault(event.name, OpenHook(event.name, self._begun_ms))
        given = Packed(event.packed, event.encoding)
        waited_ms = max(0, event.time_ms - hook.since_ms)
        item = self._item(event, "payload", event.name, given=given, waited_ms=waited_ms)
        self._payloads.append(item)
        item.payload = len(self._payloads)
        hook.payloads += 1
        hook.since_ms = event.time_ms

    def _replied(self, event: RunEvent) -> None:
        got = Packed(event.packed, event.encoding) if event.packed else None
        item = self._item(event, "reply", event.name, got=got, payload=event.detail)
        payload = self._payload(event.detail)
        if payload is not None:
            payload.answer = "replied"
            item.waited_ms = max(0, event.time_ms - payload.begun_ms)
        hook = self._hooks.get(event.name)
        if hook is not None:
            hook.since_ms = event.time_ms

    def _unanswered(self, event: RunEvent) -> None:
        for place in event.detail:
            payload = self._payload(place)
            if payload is not None:
                payload.answer = "none"

    def _disposed(self, event: RunEvent) -> None:
        self._hooks.pop(event.name, None)
        self._item(event, "closed", event.name)

    def _payload(self, number: int) -> Item | None:
        return self._payloads[number - 1] if 0 < number <= len(self._payloads) else None

    # What else happens.

    def _written(self, event: RunEvent) -> None:
        self._merged(event, "stream")

    def _value(self, event: RunEvent) -> None:
        self._merged(event, "value")

    def _merged(self, event: RunEvent, kind: str) -> None:
        """Add an item, or count one more of what has just happened."""
        last = self._items[-1] if self._items else None
        if last is not None and (last.kind, last.name) == (kind, event.name):
            last.count += 1
        else:
            given = Packed(event.packed) if event.packed else None
            self._item(event, kind, event.name, given=given)

    def _effect(self, event: RunEvent) -> None:
        self._item(event, "send", event.name)

    def _writing(self, event: RunEvent) -> None:
        item = self._steps.get(event.step)
        if item is not None:
            item.remarks.append(f"attempt {event.detail} writes to the stream {event.name}")

    def _rewound(self, event: RunEvent) -> None:
        item = self._steps.get(event.step)
        if item is not None:
            item.remarks.append(f"what was written to the stream {event.name} before is void")

    def _checkpoint(self, event: RunEvent) -> None:
        facts = event.detail
        self.timeline.dropped = facts["dropped"]
        self.timeline.generation = facts["generation"]
        self._begun_ms = event.time_ms
        for token in facts["hooks"]:
            self._hooks[token] = OpenHook(token, event.time_ms)
        for token in facts["payloads"]:
            self._payloads.append(None)
            self._hooks.setdefault(token, OpenHook(token, event.time_ms)).payloads += 1
        self._note(event, f"continued as new (generation {facts['generation']})")

    def _says(self, event: RunEvent) -> None:
        said = {"patched": event.name, "parked": event.detail, "cancel_requested": event.detail}
        self._note(event, f"{_NOTES[event.kind]}: {said[event.kind]}")


_NOTES: Final = {
    "patched": "takes the new way",
    "parked": "parked",
    "cancel_requested": "cancel requested",
    "unparked": "sent on its way again",
    "process_died": "its process died while it ran",
}

_ADD: Final[dict[str, Callable[[_Builder, RunEvent], None]]] = {
    "step_scheduled": _Builder._scheduled,
    "sleep_started": _Builder._sleeping,
    "step_retrying": _Builder._retrying,
    "step_completed": _Builder._ended,
    "step_failed": _Builder._ended,
    "hook_created": _Builder._hook,
    "hook_claiming": _Builder._claiming,
    "hook_received": _Builder._received,
    "hook_replied": _Builder._replied,
    "hook_unanswered": _Builder._unanswered,
    "hook_disposed": _Builder._disposed,
    "stream_written": _Builder._written,
    "value_decided": _Builder._value,
    "call_sent": _Builder._effect,
    "stream_begun": _Builder._writing,
    "stream_rewound": _Builder._rewound,
    "checkpoint": _Builder._checkpoint,
    "patched": _Builder._says,
    "parked": _Builder._says,
    "cancel_requested": _Builder._says,
}


def _of_answer(body: bytes) -> Packed | None:
    """Return what the answer to a call says."""
    try:
        return Packed(unpack_reply(body).payload)
    except ValueError:
        return None


def _given_to_run(event: RunEvent) -> Packed | None:
    """Return the arguments of a workflow that is started."""
    from perdure.codec import decode

    if event.encoding == Encoding.JSON:
        return Packed(event.packed, event.encoding)
    try:
        arguments = decode(event.packed)[0]
    except (BadPayload, TypeError, IndexError):
        return None
    return Packed(arguments) if arguments else None


def _take_end_of_run(item: Item) -> None:
    """Take the end of another run out of the answer to the question for it."""
    from perdure.codec import decode

    if item.code or item.got is None:
        return
    try:
        code, payload = decode(item.got.data)
    except (BadPayload, TypeError, ValueError):
        return  # It was asked for something else.
    if isinstance(code, int) and isinstance(payload, bytes):
        item.code, item.got = code, Packed(payload)


def _give_lanes(timeline: Timeline) -> None:
    """Put items that go on at the same time beside one another."""
    taken: list[Item | None] = []
    for item in timeline.items:
        for lane, other in enumerate(taken):
            if other is not None and other.end_place is not None and other.end_place < item.place:
                taken[lane] = None
        item.beside = [lane for lane, other in enumerate(taken) if other is not None]
        lane = next((i for i, other in enumerate(taken) if other is None), len(taken))
        item.lane = lane
        timeline.lanes = max(timeline.lanes, lane + 1)
        if item.takes_time:
            if lane == len(taken):
                taken.append(item)
            else:
                taken[lane] = item
