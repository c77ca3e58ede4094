"""A call on its way: what calling a method of a handle returns.

Invariants:
  * The call is sent before its `Call` exists. Awaiting, cancelling or forgetting it changes
    nothing about that.
  * What the answer says of the object's state is applied once, when it arrives, awaited or not.
  * Nobody who waits can cancel the answer for the others: each waits on a future of its own.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from perdure.answers import Answer, PendingAnswer
from perdure.bodies import unpack_error
from perdure.errors import Code, error_from_wire
from perdure.frames import Reply
from perdure.ids import ObjectKey
from perdure.raised import unpack_exception
from perdure.step_future import StepFuture
from perdure.step_waiter import StepWaiter
from perdure.turn import current_turn

__all__ = ["Call", "error_of"]

_R_co = TypeVar("_R_co", covariant=True)

_OK: Final = int(Code.OK)

_logger: Final = logging.getLogger("perdure.call")


class Call(Coroutine[Any, Any, _R_co]):
    """A call that has been sent. Await it for its result, as often as you like.

    A coroutine that several tasks may drive at once: `await`, `gather`, `wait_for` (again after
    a time-out), `create_task`, `TaskGroup`, `as_completed`. Each await gives a fresh copy of
    the result, or raises a fresh copy of the error. Giving up waiting does not cancel the
    method. An error that nobody ever awaits is logged.
    """

    __slots__ = (
        "_arrived",
        "_drivers",
        "_future",
        "_label",
        "_read",
        "_target",
        "_unseen",
        "_waiters",
    )

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
        self._label = label
        self._future = future
        self._read = read
        self._arrived = arrived
        self._target = target
        self._waiters: list[asyncio.Future[None]] | None = []
        """None once the answer has been taken."""
        self._drivers: dict[asyncio.Task[Any] | None, Generator[Any, None, _R_co]] | None = None
        self._unseen: _Unseen | None = None
        future.add_done_callback(self._settle)

    def __repr__(self) -> str:
        state = "answered" if self._future.done() else "on its way"
        return f"<Call {self._label}, {state}>"

    # Every look at an attribute of a class with `__getattr__` is a slow one.

    def __await__(self) -> Generator[Any, None, _R_co]:
        """Wait for the answer; return the result or raise the error."""
        if not self._future.done():
            waiters = self._waiters
            assert waiters is not None
            waiter = self._waiter()
            waiters.append(waiter)
            try:
                yield from waiter
            except asyncio.CancelledError:
                if type(waiter) is StepWaiter and waiter.timed_out:
                    raise waiter.refusal(self._label) from None
                raise
            finally:
                if waiters:
                    waiters.remove(waiter)
        return self._outcome()

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
        if isinstance(self._future, PendingAnswer):
            call_id = self._future.call_id
            return None if call_id is None else str(call_id)
        return None

    def _waiter(self) -> asyncio.Future[None]:
        future = self._future
        if type(future) is StepFuture:
            if (waiters := self._waiters) is not None:
                future.waiters = waiters
        elif isinstance(future, PendingAnswer):
            # A client's calls know nothing of a journal. What a turn has sent is a step in it.
            return future.get_loop().create_future()
        if current_turn.get() is None:
            return future.get_loop().create_future()
        return StepWaiter(loop=future.get_loop())

    def _driver(self, task: asyncio.Task[Any] | None) -> Generator[Any, None, _R_co]:
        if self._drivers is None:
            self._drivers = {}
        driver = self._drivers.get(task)
        if driver is None:
            driver = self._drivers[task] = self.__await__()
        return driver

    def _drop(self, task: asyncio.Task[Any] | None) -> Generator[Any, None, _R_co] | None:
        return None if self._drivers is None else self._drivers.pop(task, None)

    def _settle(self, future: asyncio.Future[Answer]) -> None:
        """Take the answer in, once: as the future's callback, or by the first to need it."""
        waiters = self._waiters
        if waiters is None:
            return
        self._waiters = None
        if not future.cancelled():
            error = future.exception()
            if error is not None:
                self._unseen = _Unseen(self._label, lambda: error)
            else:
                answer = future.result()
                arrived = self._arrived
                if arrived is not None:
                    arrived(answer)
                if answer.code != _OK:
                    self._unseen = _Unseen(self._label, lambda: error_of(answer))
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _outcome(self) -> _R_co:
        future = self._future
        if self._waiters is not None:
            self._settle(future)
        if (unseen := self._unseen) is not None:
            unseen.seen = True
            self._unseen = None
        answer = future.result()
        if answer.code != _OK:
            raise error_of(answer)
        return self._read(answer.reply)

    def _refuse(self, *_: object) -> Any:
        raise TypeError(f"{self._label} is on its way: await it")

    if not TYPE_CHECKING:
        # A Call taken for its result is the commonest mistake: it must not pass as a value.
        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"{self._label} is on its way, it has no {name!r}: await it")


_VALUE_OPERATIONS: Final = """
    bool len iter getitem setitem delitem contains reversed
    int float complex index round trunc floor ceil neg pos abs invert
    lt le gt ge enter exit aenter aexit aiter
    add sub mul truediv floordiv mod divmod pow matmul lshift rshift and or xor
    radd rsub rmul rtruediv rfloordiv rmod rdivmod rpow rmatmul rlshift rrshift rand ror rxor
"""

for _name in _VALUE_OPERATIONS.split():
    setattr(Call, f"__{_name}__", Call._refuse)


class _Unseen:
    """Logs the error of a call when it is dropped before anybody has seen it."""

    __slots__ = ("_label", "_make_error", "seen")

    def __init__(self, label: str, make_error: Callable[[], BaseException]) -> None:
        self._label = label
        self._make_error = make_error
        self.seen = False

    def __del__(self) -> None:
        if not self.seen and not sys.is_finalizing():
            error = self._make_error()
            _logger.error(
                "%s failed and nobody awaited it: %s: %s",
                self._label,
                type(error).__name__,
                error,
                exc_info=error,
            )


def error_of(answer: Answer) -> Exception:
    """Return the error that an answer bears: a fresh one each time."""
    if answer.code == Code.RAISED:
        return unpack_exception(answer.reply.payload)
    return error_from_wire(answer.code, unpack_error(answer.reply.payload))


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
