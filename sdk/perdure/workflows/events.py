"""The events of a run, for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from perdure.frames import Encoding

__all__ = ["RunEvent", "events_of"]


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of a run's journal."""

    place: int
    """Counted from 0."""
    kind: str
    """`step_scheduled`, `step_completed`, `hook_received` ..."""
    step: int
    """The number of the step that it is about; 0: it is about none."""
    name: str
    """Of the step, token, stream or function."""
    detail: Any
    """What else it says: a due time, an attempt, the code of an error."""
    time_ms: int
    """When it was recorded: wall clock."""
    packed: bytes = b""
    """The arguments, result, payload or error that it holds, as it travels; empty: none."""
    encoding: int = Encoding.MSGPACK
    """How that is written."""


_SCHEDULED: Final = {
    "hook": "hook_created",
    "reply": "hook_replied",
    "dispose": "hook_disposed",
    "sleep": "sleep_started",
    "write": "stream_written",
    "value": "value_decided",
    "send": "call_sent",
}


def events_of(rows: list[list[Any]], start: int = 0) -> list[RunEvent]:
    """Return what a node tells of a journal, beginning with the event `start`."""
    return [_event(place, row) for place, row in enumerate(rows, start)]


class _Said(NamedTuple):
    """What the fields of an event say."""

    kind: str
    step: int = 0
    name: str = ""
    detail: Any = None
    packed: bytes = b""
    encoding: int = Encoding.MSGPACK


def _event(place: int, row: list[Any]) -> RunEvent:
    time_ms, tag, *fields = row
    said = _Said(_BARE[tag]) if tag in _BARE else _OTHERS[tag](fields)
    kind, step, name, detail, packed, encoding = said
    return RunEvent(place, kind, step, name, detail, time_ms, packed, encoding)


def _scheduled(fields: list[Any]) -> _Said:
    step, kind, name, data = fields
    event = _SCHEDULED.get(kind, "step_scheduled")
    if kind == "call":
        encoding, arguments = data[6:8]
        if name.startswith("hook[") and name.endswith("].claim"):
            return _Said("hook_claiming", step, name[5:-7])
        return _Said(event, step, name, kind, arguments, encoding)
    if kind == "reply":
        place, encoding, payload = data
        return _Said(event, step, name, place, payload or b"", encoding)
    if kind == "service":
        return _Said(event, step, name, kind, data[2] or b"")
    if kind in ("step", "value"):
        return _Said(event, step, name, kind, data)
    return _Said(event, step, name, data if kind == "sleep" else kind)


def _checkpoint(fields: list[Any]) -> _Said:
    generation, hooks, _, received, dropped = fields
    detail = {
        "generation": generation,
        "dropped": dropped,
        "hooks": [hook[0] for hook in hooks],
        "payloads": [payload[0] for payload in received],
    }
    return _Said("checkpoint", detail=detail)


_OTHERS: Final[dict[str, Callable[[list[Any]], _Said]]] = {
    "s": _scheduled,
    "d": lambda f: _Said("step_failed" if f[1] else "step_completed", f[0], "", f[1], f[2]),
    "h": lambda f: _Said("hook_received", 0, f[0], None, f[1]),
    "a": lambda f: _Said("hook_unanswered", 0, "", f[0]),
    "y": lambda f: _Said("step_retrying", f[0], "", {"attempt": f[1], "due_ms": f[2]}, f[3]),
    "w": lambda f: _Said("stream_begun" if f[3] >= 0 else "stream_rewound", f[0], f[2], f[1]),
    "k": _checkpoint,
    "x": lambda f: _Said("patched", 0, f[0]),
    "c": lambda f: _Said("cancel_requested", 0, "", f[0]),
    "p": lambda f: _Said("parked", 0, "", f[0]),
}

_BARE: Final = {
    "u": "unparked",
    "b": "process_died",
    "v": "saved",
    "r": "run_again",
    "f": "fired",
    "e": "ended",
}
