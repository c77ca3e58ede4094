"""What callers did and what they were told, in the order in which it happened.

Invariants:
  * All events of a run have one order: that of their places. Whatever is noted as begun is noted
    before it is sent, whatever is noted as ended after it has arrived.
  * An operation that has not ended is one of unknown outcome.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TextIO

__all__ = ["History", "Operation", "Outcome", "read_events", "write_events"]


class Outcome(Enum):
    """What a caller was told about an operation."""

    OK = "ok"
    FAILED = "fail"
    """It was refused: nothing of it is or will be done."""
    UNKNOWN = "unknown"
    """It may have happened, or happen at any time from its begin on, or never."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one object, as its caller saw it."""

    number: int
    """Of all operations of the run."""
    caller: int
    kind: str
    """Of object and workload: `counter`, `register`, ..."""
    object: str
    method: str
    arguments: tuple[Any, ...]
    begun: int
    """Its place among all events."""
    begun_s: float
    outcome: Outcome = Outcome.UNKNOWN
    result: Any = None
    code: str = ""
    """Why it did not succeed: the name of one of our codes."""
    ended: int | None = None
    """Its place among all events; None while nobody has been told anything."""
    ended_s: float | None = None

    def as_unknown(self) -> Operation:
        """Return the operation as if its caller had never heard of it again."""
        return replace(self, outcome=Outcome.UNKNOWN, result=None, ended=None, ended_s=None)


class History:
    """All operations of a run, written down as they happen."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with nothing.

        Args:
            clock: Monotonic, in seconds. Only shown: the order is that of the calls made here.
        """
        self._clock = clock
        self._operations: list[Operation] = []
        self._events = 0
        self._open = 0

    def __len__(self) -> int:
        return len(self._operations)

    @property
    def open_count(self) -> int:
        """Operations that have begun and not ended."""
        return self._open

    @property
    def operations(self) -> list[Operation]:
        """The operations, in the order in which they began."""
        return self._operations

    def invoke(
        self, caller: int, kind: str, object: str, method: str, arguments: tuple[Any, ...]
    ) -> int:
        """Note that an operation is about to be sent; return its number."""
        number = len(self._operations)
        self._operations.append(
            Operation(number, caller, kind, object, method, arguments, self._next(), self._clock())
        )
        self._open += 1
        return number

    def ok(self, number: int, result: Any) -> None:
        """Note that an operation has succeeded."""
        self._end(number, Outcome.OK, result, "")

    def fail(self, number: int, code: str) -> None:
        """Note that an operation was refused: it has not happened and never will."""
        self._end(number, Outcome.FAILED, None, code)

    def unknown(self, number: int, code: str) -> None:
        """Note that nobody will say whether an operation has happened."""
        self._end(number, Outcome.UNKNOWN, None, code)

    def _end(self, number: int, outcome: Outcome, result: Any, code: str) -> None:
        operation = self._operations[number]
        assert operation.ended is None
        self._open -= 1
        self._operations[number] = replace(
            operation,
            outcome=outcome,
            result=result,
            code=code,
            ended=self._next(),
            ended_s=self._clock(),
        )

    def _next(self) -> int:
        self._events += 1
        return self._events


def write_events(operations: Iterable[Operation], file: TextIO) -> None:
    """Write a history as JSON lines: an event `invoke` for each begin, another for each end."""
    events: list[tuple[int, dict[str, Any]]] = []
    for operation in operations:
        begin = {
            "event": "invoke",
            "time_s": round(operation.begun_s, 6),
            "number": operation.number,
            "caller": operation.caller,
            "kind": operation.kind,
            "object": operation.object,
            "method": operation.method,
            "arguments": operation.arguments,
        }
        events.append((operation.begun, begin))
        if operation.ended is None or operation.ended_s is None:
            continue
        end: dict[str, Any] = {
            "event": operation.outcome.value,
            "time_s": round(operation.ended_s, 6),
            "number": operation.number,
        }
        if operation.outcome is Outcome.OK:
            end["result"] = operation.result
        else:
            end["code"] = operation.code
        events.append((operation.ended, end))
    for _, event in sorted(events, key=lambda item: item[0]):
        file.write(json.dumps(event) + "\n")


def read_events(lines: Iterable[str]) -> list[Operation]:
    """Read a history that `write_events` wrote.

    Raises:
        ValueError: It is none.
    """
    operations: dict[int, Operation] = {}
    for place, event in enumerate(_events(lines), 1):
        number, time_s = event["number"], event["time_s"]
        if event["event"] == "invoke":
            operations[number] = Operation(
                number,
                event["caller"],
                event["kind"],
                event["object"],
                event["method"],
                tuple(_as_sent(value) for value in event["arguments"]),
                place,
                time_s,
            )
        else:
            operations[number] = replace(
                operations[number],
                outcome=Outcome(event["event"]),
                result=event.get("result"),
                code=event.get("code", ""),
                ended=place,
                ended_s=time_s,
            )
    return list(operations.values())


def _events(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        event = json.loads(line)
        if not (isinstance(event, dict) and event.keys() >= {"event", "number", "time_s"}):
            raise ValueError(f"line {number} is no event: {line!r:.100}")
        yield event


def _as_sent(value: Any) -> Any:
    # Arguments are compared and hashed: JSON has no tuples.
    return tuple(value) if isinstance(value, list) else value
