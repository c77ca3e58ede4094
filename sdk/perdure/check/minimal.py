"""A history that no order explains, made as small as it can be without explaining it.

Every step keeps this true: if the smaller history has no order, neither has the larger one. So
what is left is a proof, and not an accident of what was left out:
  * Whatever ended after a moment is of unknown outcome, and what began after it never was.
  * An operation that may have happened at any time, or never, claims less than one that has.
  * What only one state can come before may begin with that state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from perdure.check.history import Operation, Outcome
from perdure.check.linearizability import Decision, decide
from perdure.check.models import Model

__all__ = ["Counterexample", "shrink"]

_TRIES_MAX: Final = 50_000

_CHECKS_MAX: Final = 300
"""So often the search is run to see what can go: some seconds. What is left then stays."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Operations of one object that no order explains."""

    start: Hashable
    """The object's state before them."""
    operations: list[Operation]
    """In the order in which they began. Those of unknown outcome may or may not have happened."""


def shrink(
    operations: Sequence[Operation], make_model: Callable[[Sequence[Operation]], Model]
) -> Counterexample:
    """Return as few of the operations as still have no order.

    Args:
        operations: A violated history of one object.
        make_model: Of its kind.

    Raises:
        ValueError: The operations have an order, or it is not known whether they have one.
    """
    every = sorted(operations, key=lambda item: item.begun)
    every = [item for item in every if item.outcome is not Outcome.FAILED]
    model = make_model(every)
    start = model.initial

    def fails(start: Hashable, some: Sequence[Operation]) -> bool:
        # With a model that knows no more than what is left shows.
        found = decide(some, make_model(some), start=start, tries_max=_TRIES_MAX)
        return found is Decision.VIOLATED

    if not fails(start, every):
        raise ValueError("these operations have an order, or it takes too long to find out")
    smaller = _until_first_failure(every, lambda some: fails(start, some))
    start, smaller = _from_last_known_state(start, smaller, model, fails)
    smaller = _without_needless(smaller, lambda some: fails(start, some))
    model = make_model(smaller)
    smaller = [item for item in smaller if _is_told(item) or model.alike(item) is not None]
    return Counterexample(start, smaller)


def _until_first_failure(
    operations: list[Operation], fails: Callable[[Sequence[Operation]], bool]
) -> list[Operation]:
    """Cut behind the first end by which there was no order any more."""
    ends = sorted(item.ended for item in operations if _is_told(item) and item.ended is not None)
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if fails(_as_of(operations, ends[middle])):
            high = middle
        else:
            low = middle + 1
    cut = _as_of(operations, ends[high])
    return cut if fails(cut) else operations


def _as_of(operations: Sequence[Operation], moment: int) -> list[Operation]:
    return [
        item if item.ended is not None and item.ended <= moment else item.as_unknown()
        for item in operations
        if item.begun <= moment
    ]


def _from_last_known_state(
    start: Hashable,
    operations: list[Operation],
    model: Model,
    fails: Callable[[Hashable, Sequence[Operation]], bool],
) -> tuple[Hashable, list[Operation]]:
    """Cut before the last moment at which nothing was open and the state can be told."""
    for cut in reversed(_quiet_places(operations)):
        before, after = operations[:cut], operations[cut:]
        states = _states_after(start, before, model)
        if len(states) == 1 and fails(next(iter(states)), after):
            return next(iter(states)), after
    return start, operations


def _quiet_places(operations: Sequence[Operation]) -> list[int]:
    """Return where everything before has ended before everything after began."""
    found: list[int] = []
    last_end = 0.0
    for place, item in enumerate(operations):
        if place and item.begun > last_end:
            found.append(place)
        ended = item.ended if _is_told(item) else None
        last_end = max(last_end, float("inf") if ended is None else ended)
    return found


def _states_after(start: Hashable, operations: Sequence[Operation], model: Model) -> set[Hashable]:
    """Return every state in which completed operations can leave the object."""
    found: set[Hashable] = set()
    todo: list[tuple[int, Hashable]] = [(0, start)]
    known = set(todo)
    full = (1 << len(operations)) - 1
    while todo and len(known) < _TRIES_MAX:
        taken, state = todo.pop()
        if taken == full:
            found.add(state)
            continue
        left = [k for k in range(len(operations)) if not taken >> k & 1]
        first_end = min(_end(operations[k]) for k in left)
        for k in left:
            if operations[k].begun > first_end:
                break
            after = model.apply(state, operations[k])
            if after is not None and (taken | 1 << k, after) not in known:
                known.add((taken | 1 << k, after))
                todo.append((taken | 1 << k, after))
    return set() if todo else found


def _without_needless(
    operations: list[Operation], fails: Callable[[Sequence[Operation]], bool]
) -> list[Operation]:
    """Take for unknown what is not needed: many at a time as long as that goes, then one by one."""
    kept, checks = operations, 0
    size = len(operations)
    while size:
        # The last one to end is needed: before its end there was an order.
        told = sorted((item for item in kept if _is_told(item)), key=_end)[:-1]
        for first in range(0, len(told), size):
            doubted = {item.number for item in told[first : first + size]}
            unknown = [item.as_unknown() if item.number in doubted else item for item in kept]
            checks += 1
            if checks > _CHECKS_MAX:
                return kept
            if fails(unknown):
                kept = unknown
        size //= 2
    return kept


def _is_told(item: Operation) -> bool:
    return item.outcome is Outcome.OK


def _end(item: Operation) -> float:
    return float("inf") if item.ended is None else item.ended
