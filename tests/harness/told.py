"""Events of runs that never ran, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from perdure.bodies import pack_error, pack_reply
from perdure.codec import encode
from perdure.errors import Code
from perdure.frames import Encoding
from perdure.raised import pack_exception
from perdure.workflows.events import RunEvent, events_of
from perdure.workflows.runs import RunStatus

START_MS = 1_772_357_400_000
"""2026-03-01 09:30:00 UTC."""


class Story:
    """Tells a run event by event, as a node would. Times are in ms since its start."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.now_ms = 0
        self._steps = 0

    def events(self) -> list[RunEvent]:
        return events_of(self.rows)

    def at(self, time_ms: int) -> Story:
        self.now_ms = time_ms
        return self

    def _tell(self, tag: str, *fields: Any) -> None:
        self.rows.append([START_MS + self.now_ms, tag, *fields])

    def _asked(self, kind: str, name: str, data: Any) -> int:
        self._steps += 1
        self._tell("s", self._steps, kind, name, data)
        return self._steps

    # Steps.

    def step(self, name: str, *args: Any, **kwargs: Any) -> int:
        return self._asked("step", name, encode([list(args), kwargs]))

    def call(self, name: str, *args: Any) -> int:
        entry = [3, 1, "T", "id", 0, "m", 0, encode([list(args), {}]), None, None, [], 0, 0, "o"]
        return self._asked("call", name, entry)

    def child(self, run: str, workflow: str, *args: Any) -> int:
        packed = encode([encode([list(args), {}]), None])
        entry = [3, 1, "workflow", run, 9, workflow, 0, packed, None, None, [], 0, 0, "o"]
        return self._asked("call", f"workflow[{run}].{workflow}", entry)

    def ask_end(self, run: str) -> int:
        return self._asked(
            "read", f"ask workflow[{run}]", ["workflow", run, 13, "result", None, b""]
        )

    def service(self, name: str, payload: Any) -> int:
        return self._asked("service", name, [*name.split("."), encode(payload)])

    def function(self, name: str) -> int:
        return self._asked("run", name, None)

    def sleep(self, until_ms: int) -> int:
        return self._asked("sleep", "", START_MS + until_ms)

    def value(self, name: str, value: Any) -> None:
        self._asked("value", name, encode(value))

    def write(self, stream: str) -> None:
        self._asked("write", stream, None)

    def sent(self, name: str) -> None:
        self._asked("send", name, None)

    def done(self, step: int, result: Any = None) -> None:
        self._tell("d", step, 0, encode(result))

    def answered(self, step: int, result: Any = None) -> None:
        """End a call or a question: it brings a whole answer."""
        self._tell("d", step, 0, pack_reply(encode(result)))

    def failed(self, step: int, error: Exception) -> None:
        self._tell("d", step, int(Code.RAISED), packed(error))

    def refused(self, step: int, code: Code, *args: Any) -> None:
        number, payload = pack_error(code, args)
        self._tell("d", step, number, pack_reply(payload))

    def retries(self, step: int, attempt: int, error: Exception, next_ms: int) -> None:
        self._tell("y", step, attempt, START_MS + next_ms, packed(error))

    def wrote(self, step: int, attempt: int, stream: str, first: int) -> None:
        self._tell("w", step, attempt, stream, first)

    # Hooks.

    def hook(self, token: str, *, holder: str | None = None, is_claimed: bool = True) -> None:
        self._asked("hook", token, ["", "claim"])
        step = self._asked(
            "call", f"hook[{token}].claim", [0, 0, "hook", token, 0, "claim", 0, b""]
        )
        if is_claimed:
            self.answered(step, holder)

    def payload(self, token: str, payload: Any) -> None:
        self._tell("h", token, encode(payload), b"", 0, 0)

    def reply(self, token: str, place: int, value: Any, *, is_kept: bool = True) -> None:
        data = [place, int(Encoding.MSGPACK), encode(value) if is_kept else None]
        self._asked("reply", token, data)

    def unanswered(self, *places: int) -> None:
        self._tell("a", list(places))

    def dispose(self, token: str) -> None:
        self._asked("dispose", token, None)

    # The run itself.

    def anew(self, generation: int, hooks: list[str], payloads: list[str], dropped: int) -> None:
        held = [[token, "", "c"] for token in hooks]
        received = [[token, b"", b"", 0, 0, "h"] for token in payloads]
        self._tell("k", generation, held, [], received, dropped)

    def patched(self, name: str) -> None:
        self._tell("x", name)

    def cancel(self, reason: str) -> None:
        self._tell("c", reason)

    def parked(self, reason: str) -> None:
        self._tell("p", reason)

    def unparked(self) -> None:
        self._tell("u")

    def died(self) -> None:
        self._tell("b", 2)

    def ended(self) -> None:
        self._tell("e")


def packed(error: Exception) -> bytes:
    return pack_exception(error, object="workflow[r]", method="f", call_id="c")


def told_status(status: str = "running", ended_ms: int = 0, **changes: Any) -> RunStatus:
    facts: dict[str, Any] = {
        "id": "order-1",
        "workflow": "order",
        "version": "1",
        "status": status,
        "started_ms": START_MS,
        "ended_ms": START_MS + ended_ms if ended_ms else 0,
        "parent": "",
        "parked": None,
        "cancelling": False,
        "hooks": [],
        "generation": 0,
        "events": 0,
        "left": [],
    }
    return RunStatus(**(facts | changes))
