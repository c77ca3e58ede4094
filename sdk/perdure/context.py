"""The running call, as a method and as handles see it: `ctx`, and who sends nested calls.

Invariants:
  * `current_turn` is set exactly while a method runs, and in the tasks that it starts.
  * A context is made by the runtime and never travels: callers may pass one, it is dropped.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random as chance
from collections.abc import Callable
from contextvars import ContextVar
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from uuid import UUID, uuid4

from perdure.frames import Encoding, Kind
from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting

if TYPE_CHECKING:
    from perdure.client import Answer

__all__ = [
    "Caller",
    "DurableContext",
    "StepResult",
    "TimerSetting",
    "Turn",
    "ctx",
    "current_turn",
]


class Caller(Protocol):
    """Whoever can send calls: a client, or the turn of a running method."""

    @property
    def partition_count(self) -> int | None:
        """How many partitions the cluster has; None before the first welcome."""
        ...

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
        """Send a call now: it takes its place in the order before this returns.

        Args:
            target: The object. For LIST: the type, and the prefix in place of an id.
            kind: What is asked of it.
            method: The method's name. For LIST: the id to go on after. For GET: `*` asks
                for every attribute however large.
            arguments: The encoded arguments.
            encoding: How the arguments are written, and the result is to be.
            key: The user's idempotency key.
            timeout_s: How long the caller wants the answer; None for ever.
            have: The version of the state that the caller has, `(0, 0)` for none yet; None
                when it wants no state.
            partition: Where to ask, for LIST only: else the target's own.

        Returns:
            A future that is always answered, with a code for errors. Cancelling it ends
            only the waiting.
        """
        ...


class StepResult(NamedTuple):
    """How a step ended, as an answer says it."""

    code: int
    """0: `payload` is the encoded value. RAISED: a packed exception. Else: an error's args."""
    payload: bytes


class Turn(Caller, Protocol):
    """The turn of one call in its object: set in `current_turn` while the method runs.

    What makes a step numbers it at once, in the order of the asks, and performs it when the
    record that schedules it is durable.
    """

    @property
    def context(self) -> DurableContext:
        """What the method's `ctx` is."""
        ...

    def save(self) -> None:
        """Make a commit point of the object's state as it is now. Does not wait for the disk."""
        ...

    def service(
        self, service: str, method: str, payload: bytes | None
    ) -> asyncio.Future[StepResult]:
        """Call a named service as a step. `payload` is encoded; None: it gets none."""
        ...

    def run_step(self, name: str, function: Callable[[], Any]) -> asyncio.Future[StepResult]:
        """Run a function, whose result may be awaitable, as a step."""
        ...

    def sleep(self, until_ms: int) -> asyncio.Future[StepResult]:
        """Wait, as a step, until the wall clock shows this."""
        ...

    def value(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return what `make` returned when the method first came here."""
        ...

    def set_timer(self, timer: TimerSetting) -> None:
        """Set a timer of the object, in place of one of the same name, with the next commit."""
        ...

    def cancel_timer(self, name: str) -> bool:
        """Cancel a timer with the next commit. False: there is none of that name."""
        ...

    def timers(self) -> list[TimerSetting]:
        """Return the object's timers as this method has set them, by name."""
        ...

    def send(
        self, target: ObjectKey, method: str, arguments: bytes, due_ms: int, key: str | None
    ) -> asyncio.Future[Answer]:
        """Enqueue a call durably, with the next commit. `due_ms`: wall clock; 0: at once."""
        ...


current_turn: Final[ContextVar[Turn | None]] = ContextVar("perdure_turn", default=None)
"""The turn of the method that this code runs in; None at top level."""


class DurableContext:
    """What a method may know of its call. Injected for a parameter annotated with this class.

    `now()`, `uuid()` and `random()` give the same values to every attempt of one call when
    asked in the same order, so that a call run again decides as it did before.
    """

    __slots__ = ("_attempt", "_call_id", "_key", "_logger", "_method", "_object", "_random")

    def __init__(
        self,
        object: ObjectKey,
        method: str,
        call_id: str,
        *,
        attempt: int = 1,
        key: str | None = None,
    ) -> None:
        """Make the context of one attempt of a call.

        Args:
            object: The object whose method runs.
            method: The method's name.
            call_id: The call's id as text.
            attempt: How many times this call has been started, this one included.
            key: The idempotency key that the caller gave, if any.
        """
        self._object = object
        self._method = method
        self._call_id = call_id
        self._attempt = attempt
        self._key = key
        self._random: Random | None = None
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None

    def __repr__(self) -> str:
        return f"<DurableContext of {self._object}.{self._method}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a DurableContext belongs to one running call and cannot be pickled")

    @property
    def call_id(self) -> str:
        """The id of the call: equal for all its copies and attempts, for no other call."""
        return self._call_id

    @property
    def attempt(self) -> int:
        """How many times this call has been started, this one included."""
        return self._attempt

    @property
    def idempotency_key(self) -> str:
        """What to send along to services, so that they do this call's work once.

        The key that the caller gave, else the call id.
        """
        return self._call_id if self._key is None else self._key

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `durable_object`, `durable_method` and `call_id`."""
        if self._logger is None:
            self._logger = logging.LoggerAdapter(
                logging.getLogger(f"perdure.object.{self._object.type}"),
                {
                    "durable_object": str(self._object),
                    "durable_method": self._method,
                    "call_id": self._call_id,
                },
            )
        return self._logger

    def now(self) -> dt.datetime:
        """Return the time, aware, in UTC."""
        return dt.datetime.now(dt.UTC)

    def uuid(self) -> UUID:
        """Return a random UUID (version 4)."""
        return UUID(int=self._chance().getrandbits(128), version=4)

    def random(self) -> float:
        """Return a random number from 0 to 1, 1 excluded. Not for secrets."""
        return self._chance().random()

    def _chance(self) -> Random:
        if self._random is None:
            self._random = Random(self._call_id)
        return self._random


class _AmbientContext(DurableContext):
    """Stands for the context of whatever method is running; exported as `ctx`."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ObjectKey("", ""), "", "")

    def __repr__(self) -> str:
        turn = current_turn.get()
        return "<ctx, outside of a method>" if turn is None else repr(turn.context)

    @property
    def call_id(self) -> str:
        return _running("call_id").call_id

    @property
    def attempt(self) -> int:
        return _running("attempt").attempt

    @property
    def idempotency_key(self) -> str:
        return _running("idempotency_key").idempotency_key

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        turn = current_turn.get()
        return _TOP_LEVEL_LOGGER if turn is None else turn.context.logger

    def uuid(self) -> UUID:
        turn = current_turn.get()
        return uuid4() if turn is None else turn.context.uuid()

    def random(self) -> float:
        turn = current_turn.get()
        return chance.random() if turn is None else turn.context.random()

    def now(self) -> dt.datetime:
        turn = current_turn.get()
        return super().now() if turn is None else turn.context.now()


def _running(name: str) -> DurableContext:
    turn = current_turn.get()
    if turn is None:
        raise RuntimeError(f"ctx.{name} is there inside a method of a durable object only")
    return turn.context


_TOP_LEVEL_LOGGER: Final = logging.LoggerAdapter(logging.getLogger("perdure"), {})

ctx: Final[DurableContext] = _AmbientContext()
"""The context of the method that runs; at top level it has `now`, `uuid`, `random`, `logger`."""
