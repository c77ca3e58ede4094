"""`@step`: functions whose results a workflow's journal holds, so that they run once.

An attempt that fails is made again, after a pause that grows, until it succeeds or `retries` are
used up. Whatever happens, the workflow gets one result.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from perdure import values
from perdure.call import Call
from perdure.codec import decode
from perdure.frames import Reply
from perdure.methods import Method
from perdure.schedules import due_at
from perdure.waiting import may_wait
from perdure.workflows.functions import check_name, method_of
from perdure.workflows.turn import current_run

__all__ = ["FatalError", "RetryableError", "StepFunction", "step"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_RETRIES: Final = 3
_BACKOFF_S: Final = 1.0
_PAUSE_MAX_S: Final = 300.0


class FatalError(Exception):
    """Raised in a step: it has failed for good, another attempt would not help."""


class RetryableError(Exception):
    """Raised in a step: it has failed, and may be tried again after a while."""

    def __init__(
        self, *args: object, retry_after: dt.timedelta | dt.datetime | float = 1.0
    ) -> None:
        """Say what went wrong, and when the next attempt makes sense.

        Args:
            args: As for any exception.
            retry_after: How long to wait, a number means seconds; or until when.
        """
        super().__init__(*args)
        self.retry_after = retry_after


values.register(FatalError, "perdure.FatalError")
values.register(RetryableError, "perdure.RetryableError")


class StepFunction(Generic[_P, _R]):
    """What `@step` makes of a function: a workflow that calls it gets its recorded result."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        retries: int,
        backoff_s: float,
        timeout_s: float | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.retries = retries
        self.backoff_s = backoff_s
        self.timeout_s = timeout_s
        self.method: Method = method_of("step", name, function)
        self.waits = timeout_s is not None or (
            inspect.iscoroutinefunction(function) and may_wait(function)
        )
        """Whether it may have to wait for something."""
        self._label = f"{name}()"
        self.__signature__ = self.method.signature

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Call[_R]:
        """Run the function: in a workflow as a step, elsewhere as the plain function it is.

        Raises:
            BadArguments: They do not fit the function, or cannot travel; nothing is run.
        """
        run = current_run()
        if run is None:
            return cast("Call[_R]", self.function(*args, **kwargs))
        future = run.step_function(self, self.method.pack(args, kwargs))
        return Call(self._label, cast("Any", future), _value)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be sent or stored: name it where it is needed")

    def pause_s(self, error: Exception, attempt: int) -> float | None:
        """Return how long to wait before another attempt, in seconds; None: there is none."""
        if isinstance(error, FatalError) or attempt > self.retries:
            return None
        if isinstance(error, RetryableError):
            return _seconds_until(error.retry_after)
        pause_s = self.backoff_s * 2.0 ** min(attempt - 1, 32)
        return min(pause_s, max(_PAUSE_MAX_S, self.backoff_s))


@overload
def step(function: Callable[_P, Coroutine[Any, Any, _R]], /) -> StepFunction[_P, _R]: ...
@overload
def step(function: Callable[_P, _R], /) -> StepFunction[_P, _R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retries: int = _RETRIES,
    backoff: dt.timedelta | float = _BACKOFF_S,
    timeout: dt.timedelta | float | None = None,
) -> _Decorator: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = _RETRIES,
    backoff: dt.timedelta | float = _BACKOFF_S,
    timeout: dt.timedelta | float | None = None,
) -> Any:
    """Make a step of a function: `@step`, or `@step(retries=5, timeout=10)`.

    It runs at least once, and its workflow gets one result. Outside of workflows it is the plain
    function.

    Args:
        function: Sync or async. A sync one holds up the whole node while it runs.
        name: The step's name; the function's by default.
        retries: How many times it is tried again when it raises; `FatalError` ends that.
        backoff: The pause before the first retry, in seconds unless it is a timedelta. It doubles
            each time, up to five minutes. `RetryableError` says another one.
        timeout: How long an attempt may take, in seconds unless it is a timedelta; for async
            functions. An attempt that takes longer has failed with `TimeoutError`.

    Raises:
        TypeError: It is no function, or an option is something else.
        ValueError: An option has no possible value.
    """
    made = functools.partial(
        _define,
        name=name,
        retries=_count("retries", retries),
        backoff_s=_seconds("backoff", backoff),
        timeout_s=None if timeout is None else _seconds("timeout", timeout),
    )
    return made if function is None else made(function)


class _Decorator:
    """What `@step(...)` returns, for type checkers."""

    @overload
    def __call__(self, function: Callable[_P, Coroutine[Any, Any, _R]]) -> StepFunction[_P, _R]: ...
    @overload
    def __call__(self, function: Callable[_P, _R]) -> StepFunction[_P, _R]: ...
    def __call__(self, function: Any) -> Any:
        """Make a step of a function."""
        return function


def _define(
    function: Callable[..., Any],
    *,
    name: str | None,
    retries: int,
    backoff_s: float,
    timeout_s: float | None,
) -> StepFunction[..., Any]:
    name = check_name("step", function, name)
    if timeout_s is not None and not inspect.iscoroutinefunction(function):
        raise TypeError(f"the step {name} has a timeout, so it is an async function")
    return StepFunction(function, name, retries, backoff_s, timeout_s)


def _count(name: str, value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{name} of a step is an int, not {type(value).__name__}")
    if not 0 <= value <= 1_000_000:
        raise ValueError(f"{name} of a step is from 0 to 1,000,000, not {value}")
    return value


def _seconds(name: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if type(seconds) not in (int, float):
        raise TypeError(f"{name} of a step is a timedelta or a number of seconds, not {value!r}")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} of a step is not negative and finite, not {value!r}")
    return float(seconds)


def _seconds_until(when: dt.timedelta | dt.datetime | float) -> float:
    if isinstance(when, dt.datetime):
        now_ms = time.time_ns() // 1_000_000
        return max(0, due_at(when, now_ms) - now_ms) / 1_000
    return max(0.0, when.total_seconds() if isinstance(when, dt.timedelta) else float(when))


def _value(reply: Reply) -> Any:
    return decode(reply.payload)
