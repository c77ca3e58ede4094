"""What a running method can ask of its object's node: calls, steps, timers; and who runs here.

Invariants:
  * `current_turn` is set exactly while a method runs, and in the tasks that it starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from perdure.frames import Encoding, Kind
from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting

if TYPE_CHECKING:
    from perdure.answers import Answer
    from perdure.context import DurableContext

__all__ = ["Caller", "StepResult", "TimerSetting", "Turn", "current_turn"]


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

    @property
    def reply(self) -> StepResult:
        """What the body of an answer is: it has the payload, and no more is asked of it."""
        return self


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
