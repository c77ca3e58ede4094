"""Calls, steps, timers and times as people read them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import Message

from perdure.sent import sender_of
from perdure.wire.v1 import cluster_pb2

__all__ = ["as_dict", "call_name", "counted", "duration", "object_name", "step_text", "what_runs"]

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def duration(milliseconds: int) -> str:
    """Return a time as `0.35 s`, `12 s`, `4.2 min`, `3.5 h` or `12 d`."""
    seconds = milliseconds / 1_000
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{_rounded(seconds / size)} {unit}"
    return f"{_rounded(seconds)} s"


def _rounded(number: float) -> str:
    if number >= 10:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def counted(number: int, what: str) -> str:
    """Return `no call`, `1 call` or `2 calls`."""
    if number == 0:
        return f"no {what}"
    return f"{number:,} {what}{'s' if number > 1 else ''}"


def object_name(type: str, id: str) -> str:
    """Return an object as it is typed after a command."""
    return shlex.quote(f"{type}/{id}")


def what_runs(call: cluster_pb2.OpenCall) -> str:
    """Return what is called: a method, or what has none."""
    return call.method or call.kind


def call_name(call: cluster_pb2.OpenCall) -> str:
    """Return by what a call is known: its id, or the timer that it is the firing of."""
    if call.call_id:
        return f"call {call.call_id}"
    sender = sender_of(call.timer)
    if sender is not None:
        return f"sent as call {sender}"
    return f"the firing of the timer {call.timer!r}" if call.timer else "no id"


def step_text(step: cluster_pb2.OpenStep) -> str:
    """Return at which step a call is, and what of it is known."""
    text = f"step {step.number} ({f'{step.kind} {step.name}'.strip()})"
    if step.kind == "sleep":
        left = step.next_ms if step.HasField("next_ms") else 0
        return f"{text}, which ends in {duration(left)}"
    if step.HasField("age_ms"):
        text += f" for {duration(step.age_ms)}"
    if step.attempt > 1 or step.failure:
        text += f", attempt {step.attempt}"
    if step.failure:
        text += f" after this failure: {step.failure}"
    if step.HasField("next_ms"):
        text += f"; the next attempt is in {duration(step.next_ms)}"
    return text


def as_dict(message: Message) -> dict[str, Any]:
    """Return a message for JSON: all fields under their names, those that are absent as None."""
    return {
        field.name: None
        if field.has_presence and not message.HasField(field.name)
        else _as_value(getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
    }


def _as_value(value: Any) -> Any:
    if isinstance(value, Message):
        return as_dict(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_as_value(item) for item in value]
    return value
