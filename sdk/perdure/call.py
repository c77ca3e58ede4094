"""A call on its way: what calling a method of a handle returns.

Invariants:
  * The call is sent before its `Call` exists. Awaiting, cancelling or forgetting it changes
    nothing about that.
  * What the answer says of the object's state is applied once, when it arrives, awaited or not.
  * Nobody who waits can cancel the answer for the others: each waits on a future of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from perdure.answers import Answer, PendingAnswer
from perdure.arrival import Arrival
from perdure.frames import Reply
from perdure.ids import ObjectKey
from perdure.step_waiter import StepWaiter

__all__ = ["Call"]

_R_co = TypeVar("_R_co", covariant=True)


class Call(Coroutine[Any, Any, _R_co]):
    """A call that has been sent. Await it for its result, as often as you like.

    A coroutine that several tasks may drive at once: `await`, `gather`, `wait_for` (again after
    a time-out), `create_task`, `TaskGroup`, `as_completed`. Each await gives a fresh copy of
    the result, or raises a fresh copy of the error. Giving up waiting does not cancel the
    method. An error that nobody ever awaits is logged.
    """

    __slots__ = ("_arrival", "_drivers", "_target")

    def __init__(
        self,
        label: str,
        future: asyncio.Future[Answer],
        read: Callable[[Reply], _R_co],
        arrived: Callable[[Answer], None] | None = None,
        target: ObjectKey | None = None,
    ) -> None:
        """Wrap the future of a call's answer.

        Args:
            label: How errors name the call: `Cart.total()`.
            future: What the caller's `call` returned.
            read: Makes the result of a reply without error; once for each await.
            arrived: Called once with the answer when it comes, an error too.
            target: The object that is called, where the call can be cancelled.
        """
        self._arrival = Arrival(label, future, read, arrived)
        self._target = target
        self._drivers: dict[asyncio.Task[Any] | None, Generator[Any, None, _R_co]] | None = None

    def __repr__(self) -> str:
        state = "answered" if self._arrival.future.done() else "on its way"
        return f"<Call {self._arrival.label}, {state}>"

    def __await__(self) -> Generator[Any, None, _R_co]:
        """Wait for the answer; return the result or raise the error."""
        arrival = self._arrival
        waiter = arrival.wait()
        if waiter is not None:
            try:
                yield from waiter
            except asyncio.CancelledError:
                if type(waiter) is StepWaiter and waiter.timed_out:
                    raise waiter.refusal(arrival.label) from None
                raise
            finally:
                arrival.waited(waiter)
        return arrival.outcome()

    def send(self, value: Any, /) -> Any:
        """Go on for the task that runs now; each has an iterator of its own."""
        task = _current_task()
        driver = self._driver(task)
        try:
            return driver.send(value)
        except BaseException:
            self._drop(task)
            raise

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any:
        """Raise an exception where the task that runs now waits."""
        error = _exception(typ, val)
        task = _current_task()
        driver = self._driver(task)
        try:
            return driver.throw(error if tb is None else error.with_traceback(tb))
        except BaseException:
            self._drop(task)
            raise

    def close(self) -> None:
        """End the waiting of the task that runs now."""
        driver = self._drop(_current_task())
        if driver is not None:
            driver.close()

    @property
    def id(self) -> str | None:
        """The call's id, `session:partition:sequence`. None until it has one, and for reads.

        A call has its id once it is on its way, about when the loop comes round next. One that a
        method makes has none that its method can see.
        """
        if isinstance(self._arrival.future, PendingAnswer):
            call_id = self._arrival.future.call_id
            return None if call_id is None else str(call_id)
        return None

    def _driver(self, task: asyncio.Task[Any] | None) -> Generator[Any, None, _R_co]:
        if self._drivers is None:
            self._drivers = {}
        driver = self._drivers.get(task)
        if driver is None:
            driver = self._drivers[task] = self.__await__()
        return driver

    def _drop(self, task: asyncio.Task[Any] | None) -> Generator[Any, None, _R_co] | None:
        return None if self._drivers is None else self._drivers.pop(task, None)

    def _refuse(self, *_: object) -> Any:
        raise TypeError(f"{self._arrival.label} is on its way: await it")

    if not TYPE_CHECKING:
        # A Call taken for its result is the commonest mistake: it must not pass as a value.
        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"{self._arrival.label} is on its way, it has no {name!r}: await it"
            )


_VALUE_OPERATIONS: Final = """
    bool len iter getitem setitem delitem contains reversed
    int float complex index round trunc floor ceil neg pos abs invert
    lt le gt ge enter exit aenter aexit aiter
    add sub mul truediv floordiv mod divmod pow matmul lshift rshift and or xor
    radd rsub rmul rtruediv rfloordiv rmod rdivmod rpow rmatmul rlshift rrshift rand ror rxor
"""

for _name in _VALUE_OPERATIONS.split():
    setattr(Call, f"__{_name}__", Call._refuse)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # No loop runs: somebody drives the coroutine by hand.
        return None


def _exception(typ: type[BaseException] | BaseException, val: object) -> BaseException:
    if isinstance(typ, BaseException):
        return typ
    if isinstance(val, BaseException):
        return val
    return typ() if val is None else typ(val)
