"""What `perdure runs list` prints."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from perdure.cli.run_picture import state_of, style_of
from perdure.cli.run_wording import plain, took
from perdure.cli.shown_values import json_of
from perdure.cli.wording import counted
from perdure.workflows.runs import RunStatus

__all__ = ["STATES", "asked_status", "print_runs", "status_as_json"]

STATES: Final = ("running", "completed", "failed", "cancelled", "parked", "cancelling")
"""What `--status` takes. The last two are running ones."""

_WIDTH_OF_A_FILE: Final = 240


def asked_status(state: str | None) -> str | None:
    """Return what nodes are asked for, to find the runs of a state among the answers."""
    return "running" if state in ("parked", "cancelling") else state


def print_runs(runs: list[RunStatus], after: str | None, *, as_json: bool) -> None:
    """Print a page of runs, in the order that they have.

    Args:
        runs: The page.
        after: What goes on where it ends; None: there are no more.
        as_json: For programs.
    """
    if as_json:
        content = {"runs": [status_as_json(run) for run in runs], "after": after}
        sys.stdout.write(json.dumps(content) + "\n")
        return
    if not runs:
        sys.stdout.write("no such runs\n")
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
    now_ms = time.time_ns() // 1_000_000
    table = Table("run", "workflow", "state", "started", "took", "now", box=None)
    for run in runs:
        state = state_of(run)
        ago = f"{took(max(0, now_ms - run.started_ms))} ago"
        lasted = took(max(0, run.ended_ms - run.started_ms)) if run.ended_ms else ""
        table.add_row(
            Text(plain(run.id)),
            Text(plain(run.workflow)),
            Text(state, style=style_of(state)),
            ago,
            lasted,
            Text(_now(run)),
        )
    console.print(table)


def _now(run: RunStatus) -> str:
    if run.parked is not None:
        return plain(run.parked)
    if run.hooks:
        others = f" and {counted(len(run.hooks) - 1, 'hook')} more" if len(run.hooks) > 1 else ""
        return f"hook {plain(run.hooks[0])}{others}"
    return f"{counted(len(run.left), 'payload')} not taken" if run.left else ""


def status_as_json(run: RunStatus) -> dict[str, Any]:
    """Return how a run stands, for programs."""
    left = [{"token": token, "payload": json_of(payload)} for token, payload in run.left]
    return {**asdict(run), "state": state_of(run), "ended_ms": run.ended_ms or None, "left": left}
