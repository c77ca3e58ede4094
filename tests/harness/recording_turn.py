"""A turn in the hands of a test: it sees what a method asks for and says how that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from perdure.answers import Answer
from perdure.bodies import pack_error
from perdure.codec import decode, encode
from perdure.context import DurableContext, StepResult, TimerSetting, current_turn
from perdure.errors import Code, code_of
from perdure.frames import Encoding, Kind, Reply
from perdure.ids import ObjectKey
from perdure.raised import pack_exception

CART = ObjectKey("Cart", "u1")


class RecordingTurn:
    """Keeps every ask; a step ends when the test calls `finish` or `fail` with its number."""

    partition_count = 4

    def __init__(
        self,
        object: ObjectKey = CART,
        *,
        values: list[bytes] | None = None,
        refuses: bool = False,
        **options: Any,
    ) -> None:
        self.context = DurableContext(object, "pay", "call 7", **options)
        self.asks: list[tuple[Any, ...]] = []
        """What was asked for, in order: its kind and what came with it."""
        self.steps: list[asyncio.Future[Any]] = []
        self.values: list[bytes] = []
        self.refuses = refuses
        """As in a shared method."""
        self.settings: dict[str, TimerSetting] = {}
        self._recorded = values or []

    @contextmanager
    def running(self):
        token = current_turn.set(self)
        try:
            yield self
        finally:
            current_turn.reset(token)

    # How steps end.

    def finish(self, value: object = None, step: int = 1) -> None:
        self._end(step, Code.OK, encode(value))

    def fail(self, error: Exception, step: int = 1) -> None:
        code, payload = pack_error(code_of(error), error.args)
        self._end(step, code, payload)

    def raise_in(self, error: Exception, step: int = 1) -> None:
        payload = pack_exception(error, object="Cart[u1]", method="pay", call_id="call 7")
        self._end(step, Code.RAISED, payload)

    def _end(self, step: int, code: int, payload: bytes) -> None:
        future = self.steps[step - 1]
        kind = self.asks[step - 1][0]
        answer = Answer(code, Reply(payload, None, None))
        future.set_result(answer if kind in ("call", "send") else StepResult(code, payload))

    def _ask(self, *ask: Any) -> asyncio.Future[Any]:
        if self.refuses:
            raise RuntimeError("no steps here")
        self.asks.append(ask)
        self.steps.append(asyncio.get_running_loop().create_future())
        return self.steps[-1]

    # The protocol.

    def save(self) -> None:
        raise AssertionError("not asked here")

    def call(
        self,
        target: ObjectKey,
        kind: Kind,
        method: str = "",
        *,
        arguments: bytes = b"",
        encoding: Encoding = Encoding.MSGPACK,
        key: str | None = None,
        timeout_s: float | None = 30.0,
        have: tuple[int, int] | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Answer]:
        return self._ask("call", str(target), kind, method, arguments and decode(arguments))

    def service(self, service: str, method: str, payload: bytes | None) -> asyncio.Future[Any]:
        given = () if payload is None else (decode(payload),)
        return self._ask("service", service, method, *given)

    def run_step(self, name: str, function: Callable[[], Any]) -> asyncio.Future[Any]:
        return self._ask("run", name, function)

    def sleep(self, until_ms: int) -> asyncio.Future[Any]:
        return self._ask("sleep", until_ms)

    def value(self, name: str, make: Callable[[], bytes]) -> bytes:
        number = len(self.values)
        self.values.append(self._recorded[number] if number < len(self._recorded) else make())
        return self.values[-1]

    def set_timer(self, timer: TimerSetting) -> None:
        if self.refuses:
            raise RuntimeError("no steps here")
        self.settings[timer.name] = timer

    def cancel_timer(self, name: str) -> bool:
        if self.refuses:
            raise RuntimeError("no steps here")
        return self.settings.pop(name, None) is not None

    def timers(self) -> list[TimerSetting]:
        return [self.settings[name] for name in sorted(self.settings)]

    def send(
        self, target: ObjectKey, method: str, arguments: bytes, due_ms: int, key: str | None
    ) -> asyncio.Future[Answer]:
        return self._ask("send", str(target), method, arguments and decode(arguments), due_ms, key)
