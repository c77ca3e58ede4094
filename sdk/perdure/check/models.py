"""What each kind of object would do if there were one copy of it and calls came one by one.

A state is hashable and small. What a completed operation was told leaves at most one state after
it, so a search has little to choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Protocol

from perdure.check.history import Operation, Outcome

__all__ = ["MODELS", "Counter", "Items", "Model", "Register"]

READS: Final = frozenset({"read", "peek", "get"})
"""Three ways to read: a call, a shared call, and the committed state beside the mailbox."""


class Model(Protocol):
    """One object, made for one history of it."""

    @property
    def initial(self) -> Hashable:
        """The state of a new object."""
        ...

    def apply(self, state: Hashable, operation: Operation) -> Hashable | None:
        """Return the state after an operation; None when its caller was told something else.

        One of unknown outcome is told nothing, so it always has a state.
        """
        ...

    def looks(self, operation: Operation) -> bool:
        """Tell whether a completed operation changed nothing, in whatever state it ran."""
        ...

    def alike(self, operation: Operation) -> Hashable | None:
        """Return what two operations of unknown outcome share when either may stand for the other.

        None: whether the operation happened makes no difference to anybody who was told anything.
        """
        ...


class Counter:
    """`add(amount)` returns the new value; reads return the value."""

    def __init__(self, _operations: Iterable[Operation]) -> None:
        """Make the model; nothing of the history is needed."""
        self.initial: Hashable = 0

    def apply(self, state: Hashable, operation: Operation) -> Hashable | None:
        """See `Model`."""
        assert isinstance(state, int)
        after = state
        if operation.method not in READS:
            after += operation.arguments[0]
        return after if _is_told(operation, after) else None

    def looks(self, operation: Operation) -> bool:
        """See `Model`."""
        return operation.method in READS

    def alike(self, operation: Operation) -> Hashable | None:
        """See `Model`."""
        return None if operation.method in READS else operation.arguments


class Register:
    """`write(value)`, `cas(expected, value)` returning what it found, and reads."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        """Find out which values anybody has seen.

        A value that was only written by operations of unknown outcome and that nobody was told
        makes no difference: what every completed operation but a plain write returns is the
        value that it met.
        """
        self.initial: Hashable = ""
        self._seen = {
            operation.result for operation in operations if operation.outcome is Outcome.OK
        }
        unknown = [
            operation.arguments
            for operation in operations
            if operation.outcome is Outcome.UNKNOWN and operation.method == "cas"
        ]
        # What an unknown compare-and-set may have met counts when what it then wrote counts.
        while more := {old for old, new in unknown if new in self._seen} - self._seen:
            self._seen |= more

    def apply(self, state: Hashable, operation: Operation) -> Hashable | None:
        """See `Model`."""
        if operation.method in READS:
            return state if _is_told(operation, state) else None
        if operation.method == "write":
            after: Hashable = operation.arguments[0]
            return after
        expected, value = operation.arguments
        if not _is_told(operation, state):
            return None
        return value if state == expected else state

    def looks(self, operation: Operation) -> bool:
        """See `Model`."""
        if operation.method == "cas":
            found: bool = operation.result == operation.arguments[0]
            return not found
        return operation.method in READS

    def alike(self, operation: Operation) -> Hashable | None:
        """See `Model`."""
        if operation.method in READS or operation.arguments[-1] not in self._seen:
            return None
        return (operation.method, operation.arguments)


class Items:
    """`append(item)` returns the new length; reads return all items.

    Every read shows the beginning of the longest one, or there is no order at all. So the state
    is a length, and what comes at each place is known up to that of the longest read.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        """Find the longest read."""
        self.initial: Hashable = 0
        reads = [
            operation.result
            for operation in operations
            if operation.outcome is Outcome.OK and operation.method in READS
        ]
        longest: Sequence[Any] = max(reads, key=len, default=())
        self._items = [_hashable(item) for item in longest]
        self._places = set(self._items)

    def apply(self, state: Hashable, operation: Operation) -> Hashable | None:
        """See `Model`."""
        assert isinstance(state, int)
        if operation.method in READS:
            if operation.outcome is Outcome.UNKNOWN:
                return state
            shown = operation.result
            if len(shown) != state:
                return None
            same = all(_hashable(item) == self._items[k] for k, item in enumerate(shown))
            return state if same else None
        if not _is_told(operation, state + 1):
            return None
        # An item that the longest read shows has its place there; any other comes behind.
        item = _hashable(operation.arguments[0])
        fits = self._items[state] == item if state < len(self._items) else True
        return state + 1 if fits else None

    def looks(self, operation: Operation) -> bool:
        """See `Model`."""
        return operation.method in READS

    def alike(self, operation: Operation) -> Hashable | None:
        """See `Model`."""
        if operation.method in READS:
            return None
        item = _hashable(operation.arguments[0])
        # Those that no read shows differ in nothing but when they began.
        return ("shown", item) if item in self._places else ("not shown",)


MODELS: Final[dict[str, Callable[[Sequence[Operation]], Model]]] = {
    "counter": Counter,
    "register": Register,
    "list": Items,
}
"""By the kind of operations."""


def _is_told(operation: Operation, result: Hashable) -> bool:
    if operation.outcome is Outcome.UNKNOWN:
        return True
    told: bool = operation.result == result
    return told


def _hashable(item: Any) -> Hashable:
    return tuple(item) if isinstance(item, list) else item
