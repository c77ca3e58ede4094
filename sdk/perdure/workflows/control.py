"""What a workflow does with its own run: it sleeps, begins anew, takes new ways."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, NoReturn

from perdure import asking
from perdure.call import Call
from perdure.context import ctx
from perdure.schedules import due_at
from perdure.turn import current_turn
from perdure.workflows.turn import run_here

__all__ = ["ContinueAsNew", "continue_as_new", "patched", "sleep"]


class ContinueAsNew(BaseException):
    """Ends the code of a run, which goes on from the start with other arguments.

    Not an `Exception`: it has to pass through `except Exception`.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.arguments = args, kwargs


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """Let this run go on from the start of its workflow, with these arguments and no journal.

    Id, tokens and payloads that have come for them stay; so does what the run has written to
    streams. Steps that run are waited for. Whoever waits for a reply gets None.

    Raises:
        RuntimeError: No workflow runs here.
        BadArguments: They do not fit the workflow, or cannot be stored.
    """
    run_here("continue_as_new")
    raise ContinueAsNew(args, kwargs)


def patched(name: str) -> bool:
    """Tell whether this run takes a way that its workflow did not have at first.

    `if patched("new-mail"): ... else: ...`: runs that have passed here before the change keep to
    the old way, in every replay; all others take the new one.

    Raises:
        RuntimeError: No workflow runs here.
    """
    return run_here("patched").patched(name)


def sleep(delay: dt.timedelta | dt.datetime | float) -> Call[None]:
    """Wait durably, in a workflow or method: a crash meanwhile makes it no longer.

    Args:
        delay: How long, a number means seconds; or until when, aware.

    Raises:
        TypeError: It is something else.
        ValueError: It is no number (NaN), or more than ten years.
        RuntimeError: Neither a workflow nor a method runs here.
    """
    if isinstance(delay, dt.datetime):
        turn = current_turn.get()
        if turn is not None:
            # In a replay the time that was recorded counts.
            return asking.sleep(turn, due_at(delay, -(-time.time_ns() // 1_000_000)))
        delay = 0.0
    return ctx.sleep(delay)
