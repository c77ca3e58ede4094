"""The events of a run, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

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


def _event(place: int, row: list[Any]) -> RunEvent:
    tag, fields = row[0], row[1:]
    if tag == "s":
        step, kind, name, data = fields
        detail = data if kind == "sleep" else kind
        if kind == "call" and name.startswith("hook[") and name.endswith("].claim"):
            return RunEvent(place, "hook_claiming", step, name[5:-7], None)
        return RunEvent(place, _SCHEDULED.get(kind, "step_scheduled"), step, name, detail)
    if tag == "d":
        step, code, _ = fields
        return RunEvent(place, "step_failed" if code else "step_completed", step, "", code)
    if tag in _BARE:
        return RunEvent(place, _BARE[tag], 0, "", None)
    return RunEvent(place, *_OTHERS[tag](fields))


_OTHERS: Final[dict[str, Any]] = {
    "h": lambda f: ("hook_received", 0, f[0], None),
    "a": lambda f: ("hook_unanswered", 0, "", f[0]),
    "y": lambda f: ("step_retrying", f[0], "", {"attempt": f[1], "due_ms": f[2]}),
    "w": lambda f: ("stream_begun" if f[3] >= 0 else "stream_rewound", f[0], f[2], f[1]),
    "k": lambda f: ("checkpoint", 0, "", {"generation": f[0], "dropped": f[4]}),
    "x": lambda f: ("patched", 0, f[0], None),
    "c": lambda f: ("cancel_requested", 0, "", f[0]),
    "p": lambda f: ("parked", 0, "", f[0]),
}

_BARE: Final = {
    "u": "unparked",
    "b": "process_died",
    "v": "saved",
    "r": "run_again",
    "f": "fired",
    "e": "ended",
}
