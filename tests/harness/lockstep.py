"""A node that dies when each of many calls has just one more entry in its journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.crash_points import die, wrap

from perdure_node.core.events import Done, Event

JOURNALLED = "core.journalled.Journalled"


def die_after_entry(type: str, entry: int, calls: int, end: int, result: bool = False) -> None:
    """Die once so many calls have this entry, durable. No call gets into another record.

    Args:
        type: Of the objects that are called.
        entry: Counts from 1. Each call has all entries before it. The last one of a record, because
            the entries of a record come and go together.
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
        original: Callable[..., Any], journal: Any, call: Any, added: Sequence[Event], *rest: Any
    ) -> None:
        """Make entries, unless it is too many: then the method waits for what never comes."""
        if call.key.type != type:
            original(journal, call, *rest)
            return
        before = len(call.progress.events) if call.progress is not None else 0
        if before < entry:
            original(journal, call, *rest)
            if before + len(added) >= entry and not result:
                journal._gate.let_out(pass_by, journal._recorder.record)
        elif result and any(isinstance(event, Done) for event in added):
            pass_by()

    def saved(original: Any, journal: Any, call: Any, values: Any, *rest: Any) -> None:
        record(original, journal, call, rest[2], values, *rest)

    def step(original: Any, journal: Any, call: Any, events: Any, *rest: Any) -> None:
        saved = rest[3]
        added = events if saved is None else [*saved.events, *events]
        record(original, journal, call, added, events, *rest)

    def happened(original: Any, journal: Any, call: Any, events: Any) -> None:
        record(original, journal, call, events, events)

    def method_returned(original: Any, partition: Any, call: Any, *rest: Any, **more: Any) -> None:
        if call.key.type != type:
            original(partition, call, *rest, **more)
        elif entry == end:
            original(partition, call, *rest, **more)
            partition.hold_all(pass_by)
        elif result:
            pass_by()

    wrap(f"{JOURNALLED}.saved", saved)
    wrap(f"{JOURNALLED}.step", step)
    wrap(f"{JOURNALLED}.happened", happened)
    wrap("core.partition.Partition.method_returned", method_returned)
