"""Histories made by hand and by chance, for the tests of `perdure check`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from perdure.check.history import Operation, Outcome
from perdure.check.models import MODELS, Model


def op(
    method: str,
    *arguments: Any,
    at: tuple[int, int | None],
    told: Any = None,
    kind: str = "counter",
    outcome: Outcome | None = None,
    caller: int = 1,
    object: str = "o",
) -> Operation:
    """An operation from one place to another; without an end its outcome is unknown."""
    begun, ended = at
    if outcome is None:
        outcome = Outcome.UNKNOWN if ended is None else Outcome.OK
    return Operation(
        begun,
        caller,
        kind,
        object,
        method,
        arguments,
        begun,
        begun / 1000,
        outcome,
        told,
        "",
        ended,
        None if ended is None else ended / 1000,
    )


def counter(*told: tuple[str, tuple[int, int | None], Any]) -> list[Operation]:
    """Adds of one (`+`) and reads (`?`) of a counter."""
    return [
        op("add", 1, at=at, told=value) if what == "+" else op("read", at=at, told=value)
        for what, at, value in told
    ]


def brute_force(operations: Sequence[Operation], model: Model) -> bool:
    """Try every order of every choice of unknown operations: what the search must agree with."""
    told = [item for item in operations if item.outcome is Outcome.OK]
    unknown = [item for item in operations if item.outcome is Outcome.UNKNOWN]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*told, *chosen]):
                if _keeps_time(order) and _explains(order, model):
                    return True
    return False


def _keeps_time(order: Sequence[Operation]) -> bool:
    return not any(
        later.ended is not None and later.ended < earlier.begun
        for earlier, later in itertools.combinations(order, 2)
    )


def _explains(order: Iterable[Operation], model: Model) -> bool:
    state = model.initial
    for item in order:
        after = model.apply(state, item)
        if after is None:
            return False
        state = after
    return True


class Plain:
    """One object that does what it should: where correct histories come from."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.value: Any = {"counter": 0, "register": "", "list": []}[kind]

    def do(self, method: str, arguments: tuple[Any, ...]) -> Any:
        match method:
            case "add":
                self.value += arguments[0]
                return self.value
            case "write":
                self.value = arguments[0]
                return None
            case "cas":
                found = self.value
                if found == arguments[0]:
                    self.value = arguments[1]
                return found
            case "append":
                self.value = [*self.value, arguments[0]]
                return len(self.value)
        return self.value


def drawn(kind: str, chance: Random, count: int, width: int, unknown: float) -> list[Operation]:
    """Draw a history of an object that does what it should.

    Each operation takes effect at some moment between its begin and its end; those of unknown
    outcome at any moment after the begin, or never.
    """
    plain = Plain(kind)
    plans: list[tuple[float, float, float, bool, str, tuple[Any, ...]]] = []
    for number in range(count):
        begun = chance.uniform(0, count)
        ended = begun + chance.uniform(0.01, width)
        lost = chance.random() < unknown
        last = 2.0 * count if lost and chance.random() < 0.5 else ended
        effect = chance.uniform(begun, last)
        method, arguments = _drawn_call(kind, chance, number)
        plans.append((effect, begun, ended, lost, method, arguments))
    made: list[tuple[float, float, Operation]] = []
    for effect, begun, ended, lost, method, arguments in sorted(plans, key=lambda plan: plan[0]):
        never = lost and chance.random() < 0.3
        result = None if never else plain.do(method, arguments)
        item = op(method, *arguments, at=(0, 0), told=result, kind=kind)
        made.append((begun, ended, item.as_unknown() if lost else item))
        assert effect >= begun
    return _in_places(made)


def _drawn_call(kind: str, chance: Random, number: int) -> tuple[str, tuple[Any, ...]]:
    if chance.random() < 0.3:
        return "read", ()
    match kind:
        case "counter":
            return "add", (chance.choice((1, 1, 3)),)
        case "list":
            return "append", (number,)
    if chance.random() < 0.5:
        return "write", (f"v{number % 4}",)
    return "cas", (f"v{chance.randrange(4)}", f"v{number % 4}")


def _in_places(made: list[tuple[float, float, Operation]]) -> list[Operation]:
    """Give each begin and each end a place of its own; at one moment all begins come first."""
    moments = sorted(
        moment
        for number, (begun, ended, _) in enumerate(made)
        for moment in ((begun, False, number), (ended, True, number))
    )
    place = {(is_end, number): at for at, (_, is_end, number) in enumerate(moments, 1)}
    operations = []
    for number, (begun, ended, item) in enumerate(made):
        is_told = item.outcome is Outcome.OK
        operations.append(
            replace(
                item,
                number=place[False, number],
                begun=place[False, number],
                begun_s=begun,
                ended=place[True, number] if is_told else None,
                ended_s=ended if is_told else None,
            )
        )
    return sorted(operations, key=lambda item: item.begun)


def model_of(kind: str, operations: Sequence[Operation]) -> Model:
    return MODELS[kind](operations)
