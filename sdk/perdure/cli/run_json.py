"""What `perdure runs show` says to programs."""

from __future__ import annotations

from typing import Any

from perdure.cli.run_picture import Shown
from perdure.cli.run_table import status_as_json
from perdure.cli.run_timeline import Item, OpenHook, Packed
from perdure.cli.shown_values import arguments_as_json, error_as_json, json_of
from perdure.errors import Code
from perdure.workflows.events import RunEvent

__all__ = ["event_as_json", "run_as_json"]


def run_as_json(run: Shown) -> dict[str, Any]:
    """Return all that is known of a run."""
    encoding, arguments = run.input
    has_ended = run.status.status != "running"
    failed = has_ended and run.code != 0
    timeline = run.timeline
    return {
        **status_as_json(run.status),
        "input": arguments_as_json(arguments, encoding),
        "result": json_of(run.result) if has_ended and not failed else None,
        "error": error_as_json(run.code, run.result) if failed else None,
        "streams": run.streams,
        "dropped_events": timeline.dropped,
        "timeline": [item_as_json(item) for item in timeline.items],
        "waits_for": _waits(run),
    }


def _waits(run: Shown) -> list[dict[str, Any]]:
    if run.status.status != "running":
        return []
    items = [
        {"kind": item.kind, "name": item.name, "step": item.step, "since_ms": item.begun_ms}
        for item in run.timeline.open_items
    ]
    return [*items, *(_hook_as_json(hook) for hook in run.timeline.hooks.values())]


def _hook_as_json(hook: OpenHook) -> dict[str, Any]:
    return {
        "kind": "hook",
        "name": hook.token,
        "since_ms": hook.since_ms,
        "payloads": hook.payloads,
        "claimed": hook.is_claimed,
    }


def item_as_json(item: Item) -> dict[str, Any]:
    """Return something that has happened. What it does not have is left out."""
    content: dict[str, Any] = {
        "kind": item.kind,
        "name": item.name,
        "begun_ms": item.begun_ms,
        "step": item.step or None,
        "run": item.target or None,
        "ended_ms": item.ended_ms,
        "took_ms": None if item.ended_ms is None else item.ended_ms - item.begun_ms,
        "open": item.is_open or None,
        "due_ms": item.due_ms,
        "waited_ms": item.waited_ms,
        "payload": item.payload or None,
        "answer": item.answer or None,
        "count": item.count if item.kind in ("stream", "value") else None,
        "remarks": item.remarks or None,
    }
    content = {name: value for name, value in content.items() if value is not None}
    if item.given is not None:
        has_arguments = item.takes_time and item.kind != "service"
        read = arguments_as_json if has_arguments else json_of
        content["given"] = read(item.given.data, item.given.encoding)
    if item.got is not None and item.code:
        content["error"] = error_as_json(item.code, item.got.data)
    elif item.got is not None:
        content["got"] = _value(item.got)
    if item.attempts:
        content["failed_attempts"] = [
            {
                "number": attempt.number,
                "begun_ms": attempt.begun_ms,
                "failed_ms": attempt.failed_ms,
                "next_ms": attempt.next_ms,
                "error": error_as_json(Code.RAISED, attempt.error),
            }
            for attempt in item.attempts
        ]
    return content


def _value(packed: Packed) -> Any:
    return json_of(packed.data, packed.encoding)


def event_as_json(event: RunEvent) -> dict[str, Any]:
    """Return an event as it is recorded."""
    return {
        "place": event.place,
        "time_ms": event.time_ms,
        "kind": event.kind,
        "step": event.step or None,
        "name": event.name,
        "detail": event.detail,
        "value": json_of(event.packed, event.encoding) if event.packed else None,
    }
