"""A node that dies when each of many calls has just one more entry in its journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.crash_points import die, wrap

JOURNALLED = "core.journalled.Journalled"


def die_after_entry(type: str, entry: int, calls: int, end: int, result: bool = False) -> None:
    """Die once so many calls have this entry, durable. No call gets beyond it.

    Args:
        type: Of the objects that are called.
        entry: Counts from 1. Each call has all entries before it.
        calls: How many there are.
        end: The entry that is the end of a call.
        result: Die later, once each call's step has a result that is not recorded.
    """
    left = calls

    def pass_by() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    def record(
        original: Callable[..., Any], journal: Any, call: Any, added: int, *rest: Any
    ) -> None:
        """Make an entry, unless it is one too many: then the method waits for what never comes."""
        if call.key.type != type:
            original(journal, call, *rest)
            return
        number = added + (len(call.progress.events) if call.progress is not None else 0)
        if number > entry:
            return
        original(journal, call, *rest)
        if number == entry and not result:
            journal._gate.let_out(pass_by, journal._recorder.record)

    def saved(original: Any, journal: Any, call: Any, values: Any, *rest: Any) -> None:
        events = rest[2]
        record(original, journal, call, len(events), values, *rest)

    def step(original: Any, journal: Any, call: Any, events: Any, *rest: Any) -> None:
        record(original, journal, call, len(events), events, *rest)

    def step_done(original: Any, journal: Any, call: Any, *rest: Any) -> None:
        record(original, journal, call, 1, *rest)
        if result and call.key.type == type:
            pass_by()

    def method_returned(original: Any, partition: Any, call: Any, *rest: Any, **more: Any) -> None:
        if call.key.type != type:
            original(partition, call, *rest, **more)
        elif entry == end:
            original(partition, call, *rest, **more)
            partition.hold_all(pass_by)

    wrap(f"{JOURNALLED}.saved", saved)
    wrap(f"{JOURNALLED}.step", step)
    wrap(f"{JOURNALLED}.step_done", step_done)
    wrap("core.partition.Partition.method_returned", method_returned)
