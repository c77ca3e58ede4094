"""Whether there is an order of all operations that explains what every caller was told.

The search of Wing and Gong, with Lowe's memory of what was tried (as in Porcupine). Objects are
decided one by one: a history is linearizable if and only if that of each object is.

An order is found by taking one operation after the other. One may be next when no operation that
is left had ended before it began. Two things keep the choice small, and lose no order:
  * A completed operation that only looks is taken as soon as it may be next and has seen what is
    there: whoever has an order with it later has one with it now.
  * Of operations of unknown outcome that do the same, the one that began first is taken first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from perdure.check.history import Operation, Outcome
from perdure.check.models import Model

__all__ = ["TRIES_MAX", "Decision", "by_object", "decide"]

TRIES_MAX: Final = 500_000
"""Operations tried for one object before it is left undecided: some seconds."""


class Decision(Enum):
    """What is known of one object's history."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "not linearizable"
    UNDECIDED = "undecided"
    """The search was given up. Nothing has been shown, neither way."""


def by_object(operations: Iterable[Operation]) -> dict[tuple[str, str], list[Operation]]:
    """Sort operations by kind and object."""
    found: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    for operation in operations:
        found[operation.kind, operation.object].append(operation)
    return dict(found)


def decide(
    operations: Sequence[Operation],
    model: Model,
    *,
    start: Hashable | None = None,
    tries_max: int = TRIES_MAX,
) -> Decision:
    """Decide about the history of one object.

    Args:
        operations: In the order in which they began.
        model: What the object would do.
        start: Its state before the first of them; None: that of a new object.
        tries_max: How much to try before giving up.
    """
    return _Search(operations, model).run(model.initial if start is None else start, tries_max)


class _Step(NamedTuple):
    """A choice that was made, and the others that there were."""

    chosen: int
    before: Hashable
    others: Iterator[int]


class _Search:
    """The operations of one object, and which of them have been taken."""

    def __init__(self, operations: Sequence[Operation], model: Model) -> None:
        self._model = model
        told = [item for item in operations if item.outcome is Outcome.OK]
        told.sort(key=lambda item: item.begun)
        open_ended = self._that_matter(operations)
        self._operations = [*told, *(item for group in open_ended for item in group)]
        self._told_count = len(told)
        self._looks = [model.looks(item) for item in told]
        self._groups: list[list[int]] = []
        place = len(told)
        for group in open_ended:
            self._groups.append(list(range(place, place + len(group))))
            place += len(group)
        # Those of `told` that are left, as a list linked both ways; the last place is its head.
        self._next = [*range(1, len(told) + 1), 0]
        self._back = [len(told), *range(len(told))]
        self._used = [0] * len(self._groups)
        self._group_of = {
            index: number for number, group in enumerate(self._groups) for index in group
        }

    def _that_matter(self, operations: Sequence[Operation]) -> list[list[Operation]]:
        groups: dict[Hashable, list[Operation]] = defaultdict(list)
        for item in operations:
            if item.outcome is Outcome.UNKNOWN:
                alike = self._model.alike(item)
                if alike is not None:
                    groups[alike].append(item)
        return [sorted(group, key=lambda item: item.begun) for group in groups.values()]

    def run(self, state: Hashable, tries_max: int) -> Decision:
        left, taken, tries = self._told_count, 0, 0
        known: set[tuple[int, Hashable]] = set()
        steps: list[_Step] = []
        choices = self._choices(state)
        while left:
            chosen = -1
            for index in choices:
                tries += 1
                after = self._model.apply(state, self._operations[index])
                if after is None:
                    continue
                is_told = index < self._told_count
                if after == state and not is_told:
                    continue  # It may as well not have happened.
                configuration = (taken | 1 << index, after)
                if configuration in known:
                    continue
                known.add(configuration)
                chosen = index
                steps.append(_Step(index, state, choices))
                self._take(index)
                state, taken, left = after, configuration[0], left - is_told
                choices = self._choices(state)
                break
            if chosen >= 0:
                continue
            if tries > tries_max:
                return Decision.UNDECIDED
            if not steps:
                return Decision.VIOLATED
            index, state, choices = steps.pop()
            self._put_back(index)
            taken ^= 1 << index
            left += index < self._told_count
        return Decision.LINEARIZABLE

    def _choices(self, state: Hashable) -> Iterator[int]:
        """Return what may be next: first what was told something, which has to come some time."""
        operations, head = self._operations, self._told_count
        found: list[int] = []
        first_end: float = float("inf")
        index = self._next[head]
        while index != head and operations[index].begun < first_end:
            found.append(index)
            ended = operations[index].ended
            assert ended is not None
            first_end = min(first_end, ended)
            index = self._next[index]
        for index in found:
            # What only looks, and has seen this state, is the only choice.
            if self._looks[index] and self._model.apply(state, operations[index]) == state:
                return iter((index,))
        for group, used in zip(self._groups, self._used, strict=True):
            if used < len(group) and operations[group[used]].begun < first_end:
                found.append(group[used])
        return iter(found)

    def _take(self, index: int) -> None:
        if index >= self._told_count:
            self._used[self._group_of[index]] += 1
            return
        before, after = self._back[index], self._next[index]
        self._next[before], self._back[after] = after, before

    def _put_back(self, index: int) -> None:
        if index >= self._told_count:
            self._used[self._group_of[index]] -= 1
            return
        before, after = self._back[index], self._next[index]
        self._next[before] = self._back[after] = index
