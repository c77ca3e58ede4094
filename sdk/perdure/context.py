"""The running call, as its method sees it: `ctx`, its steps and its timers.

Invariants:
  * A context is made by the runtime and never travels: callers may pass one, it is dropped.
  * What a context asks for belongs to the turn that runs here, which must be its own.
"""

from __future__ import annotations

import datetime as dt
import logging
import random as chance
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, NoReturn, ParamSpec, TypeVar, overload
from uuid import UUID, uuid4

from perdure import asking, timers
from perdure.call import Call
from perdure.codec import decode, encode
from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting, due_at, due_of, every_of, next_due
from perdure.timers import Timer
from perdure.turn import Caller, StepResult, Turn, current_turn

__all__ = [
    "Caller",
    "DurableContext",
    "StepResult",
    "Timer",
    "TimerSetting",
    "Turn",
    "ctx",
    "current_turn",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class DurableContext:
    """What a method may know and ask for. Injected for a parameter annotated with this class.

    `call`, `run` and `sleep` are steps. Each is sent when it is called, awaited or not, and its
    result is recorded: a call that is resumed after a crash gets it from there. So the same steps
    must be asked for in the same order whenever a method runs again. `now()`, `uuid()` and
    `random()` give the same values to every attempt of one call when asked in the same order.

    Timers are set and cancelled in the same commit as the state of the object.
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

    # What is known of the call.

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

    # Values that are decided once.

    def now(self) -> dt.datetime:
        """Return the time, aware, in UTC."""
        turn = current_turn.get()
        if turn is None or turn.context is not self:
            return dt.datetime.now(dt.UTC)
        recorded: dt.datetime = decode(turn.value("now", _encoded_now))
        return recorded

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

    # Steps.

    def call(
        self,
        service: str,
        method: str,
        payload: Any = asking.NOTHING,
    ) -> Call[Any]:
        """Call a named service: `await ctx.call("payment", "charge", {"cents": 500})`.

        It is attempted at least once, always with the same idempotency key, and its answer is
        recorded once.

        Args:
            service: The name given to `@durable.service`, or that of an HTTP service in the
                configuration.
            method: What of it is called.
            payload: What it gets. Left out: it gets none.

        Returns:
            The answer, when awaited. Then it raises `ServiceError` for an error that the service
            answered with, and `ServiceNotFound`.

        Raises:
            TypeError: A name is no text.
            BadArguments: The payload cannot be sent; nothing is.
        """
        return asking.call_service(self._turn("call"), service, method, payload)

    @overload
    def run(
        self,
        name: str,
        function: Callable[_P, Awaitable[_R]],
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> Call[_R]: ...
    @overload
    def run(
        self, name: str, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Call[_R]: ...
    def run(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Call[Any]:
        """Run a function as a step: `await ctx.run("quote", fetch_quote, symbol)`.

        Whatever has an effect outside of the object, or another outcome each time, belongs in
        one. It runs at least once, on the object's node, and there may be no steps in it. What
        it returned or raised is recorded once.

        Args:
            name: What the step is called in logs and in the journal.
            function: Sync or async. A sync one holds up the whole node while it runs.
            args: For the function.
            kwargs: For the function.

        Raises:
            TypeError: `name` is no text or `function` cannot be called.
        """
        return asking.run(self._turn("run"), name, function, args, kwargs)

    def sleep(self, delay: dt.timedelta | float) -> Call[None]:
        """Wait durably: a crash meanwhile makes it no longer. A number means seconds.

        Raises:
            TypeError: The delay is something else.
            ValueError: It is no number (NaN), or more than ten years.
            RuntimeError: No method runs here.
        """
        turn = self._turn("sleep") or _refuse("sleep", "use asyncio.sleep here")
        return asking.sleep(turn, due_of(delay, _now_ms()))

    # Timers.

    def after(
        self,
        delay: dt.timedelta | float,
        method: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Have a method of this object called later: `ctx.after(3600, self.expire)`.

        The timer is set with the next commit of the state, in place of one of the same name. It
        fires at least once, and what the method does is done exactly once.

        Args:
            delay: A number means seconds. A negative one is over now.
            method: A public method of this object, as it is: `self.expire`.
            args: For the method.
            name: What to cancel it by; the method's name by default. An argument of the method
                that is called `name` is given by its position.
            kwargs: For the method.

        Returns:
            The timer's name.

        Raises:
            TypeError: `delay` is no delay, or `method` is no such method.
            ValueError: `delay` or `name` has no possible value.
            BadArguments: The arguments do not fit the method, or cannot be stored.
            RuntimeError: No method runs here.
        """
        turn = self._turn_of_object("after")
        due_ms = due_of(delay, _now_ms())
        return timers.set_timer(turn, "after", name, due_ms, method, args, kwargs)

    def at(
        self,
        when: dt.datetime,
        method: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Have a method of this object called at a time, which is aware; see `after`.

        Raises:
            TypeError: `when` is no datetime with a time zone, or as for `after`.
            ValueError: It is more than ten years away, or as for `after`.
            BadArguments: As for `after`.
            RuntimeError: No method runs here.
        """
        turn = self._turn_of_object("at")
        due_ms = due_at(when, _now_ms())
        return timers.set_timer(turn, "at", name, due_ms, method, args, kwargs)

    def every(
        self,
        schedule: str | dt.timedelta,
        method: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        tz: str | dt.tzinfo | None = None,
        **kwargs: Any,
    ) -> str:
        """Have a method of this object called again and again; see `after`.

        What was missed in an outage is made up for by one call.

        Args:
            schedule: A cron expression of five fields, or six with seconds first; or an interval,
                the first of which begins now.
            method: As for `after`.
            args: For the method.
            name: As for `after`.
            tz: The time zone of a cron expression; UTC by default.
            kwargs: For the method.

        Raises:
            TypeError: As for `after`.
            ValueError: There is no such schedule or time zone, or as for `after`.
            BadArguments: As for `after`.
            RuntimeError: No method runs here.
        """
        turn = self._turn_of_object("every")
        every = every_of(schedule, tz)
        due_ms = next_due(every, _now_ms())
        return timers.set_timer(turn, "every", name, due_ms, method, args, kwargs, every)

    def cancel(self, name: str) -> bool:
        """Cancel a timer of this object, with the next commit of the state.

        Returns:
            Whether there was one of that name.

        Raises:
            RuntimeError: No method runs here.
        """
        turn = self._turn_of_object("cancel")
        return turn.cancel_timer(timers.check_name(name))

    def timers(self) -> list[Timer]:
        """Return the timers of this object, as they are set by now, by name.

        Raises:
            RuntimeError: No method runs here.
        """
        return [timers.timer_of(setting) for setting in self._turn_of_object("timers").timers()]

    def _turn(self, name: str) -> Turn | None:
        """Return who performs what this context is asked for; None: nobody records it.

        Raises:
            RuntimeError: Another call runs here, or none.
        """
        turn = current_turn.get()
        if turn is None or turn.context is not self:
            raise RuntimeError(f"ctx.{name}: the call of {self!r} is not running here")
        return turn

    def _turn_of_object(self, name: str) -> Turn:
        return self._turn(name) or _refuse(name, "timers belong to an object")


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

    def _turn(self, name: str) -> Turn | None:  # noqa: ARG002 - whichever runs is the right one
        return current_turn.get()


def _running(name: str) -> DurableContext:
    turn = current_turn.get()
    if turn is None:
        raise RuntimeError(f"ctx.{name} is there inside a method of a durable object only")
    return turn.context


def _refuse(name: str, hint: str) -> NoReturn:
    raise RuntimeError(f"ctx.{name} works inside the methods of durable objects only: {hint}")


def _now_ms() -> int:
    # Rounded up, so that nothing that is due some time after it comes early.
    return -(-time.time_ns() // 1_000_000)


def _encoded_now() -> bytes:
    return encode(dt.datetime.now(dt.UTC))


_TOP_LEVEL_LOGGER: Final = logging.LoggerAdapter(logging.getLogger("perdure"), {})

ctx: Final[DurableContext] = _AmbientContext()
"""The context of the method that runs. At top level it has `call` and `run`, which nobody records
there, and `now`, `uuid`, `random`, `logger`."""
