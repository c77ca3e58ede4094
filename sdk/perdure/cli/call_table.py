"""What `perdure calls` prints, and where its next page begins."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from perdure.cli.failure import USAGE, CommandFailed
from perdure.cli.wording import as_dict, call_name, counted, duration, step_text, what_runs
from perdure.wire.v1 import cluster_pb2

__all__ = ["pack_place", "print_calls", "unpack_place"]

_WIDTH_OF_A_FILE: Final = 240


def pack_place(place: str) -> str:
    """Return a place as it can be typed."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def unpack_place(text: str) -> str:
    """Read a place that was typed.

    Raises:
        CommandFailed: It is none.
    """
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise CommandFailed(
            f"--after takes what an earlier list has ended with, not {text!r}", USAGE
        ) from None


def print_calls(page: cluster_pb2.CallPage, *, as_json: bool) -> None:
    """Print one page of calls and parked timers."""
    if as_json:
        content = {
            "calls": [_as_dict(call) for call in page.calls],
            "timers": [_as_dict(timer) for timer in page.timers],
            "after": pack_place(page.next) if page.more else None,
            "missing": list(page.missing),
        }
        sys.stdout.write(json.dumps(content) + "\n")
        return
    if not page.calls and not page.timers:
        sys.stdout.write("no such calls\n")
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    table = Table("state", "object", "method", "for", "call", "at", "node", box=None)
    for call in page.calls:
        age = "" if call.state == "leaving" else duration(call.age_ms)
        name = call.call_id or call_name(call)
        row = (call.state, f"{call.type}/{call.id}", what_runs(call), age, name, _at(call))
        table.add_row(*map(escape, row), call.node)
    for timer in page.timers:
        failed = f"the timer has failed: {counted(timer.attempts, 'attempt')}"
        whose = f"{timer.type}/{timer.id}"
        row = ("parked", whose, timer.method, "", f"timer {timer.name}", failed)
        table.add_row(*map(escape, row), timer.node)
    console.print(table)


def _at(call: cluster_pb2.OpenCall) -> str:
    if call.reason:
        return call.reason
    if call.steps:
        return step_text(call.steps[0])
    return counted(call.steps_done, "step") + " done" if call.journalled else ""


def _as_dict(entry: cluster_pb2.OpenCall | cluster_pb2.OpenTimer) -> dict[str, object]:
    content = as_dict(entry)
    del content["place"]
    return content
