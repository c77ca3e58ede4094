"""The event loop of one run: it knows no time and no I/O, so a second run does what the first did.

Tasks, futures, `gather`, task groups, locks and queues of asyncio work on it as on any loop, in
the order in which they become ready. It is driven until nothing is ready, in one go, whenever
the run hears of something. (The idea of Temporal's Python SDK.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, NoReturn, TypeVar, cast

import msgspec

__all__ = ["ForeignAwait", "RunLoop"]

_log = logging.getLogger("perdure.node")

_T = TypeVar("_T")


class ForeignAwait(RuntimeError):
    """A workflow waits for something that a second run could not wait for in the same way."""


class _Handle(msgspec.Struct):
    """A callback that is to be run: what asyncio's own has, in a fraction of the time."""

    callback: Callable[..., Any] | None
    args: tuple[Any, ...]
    context: Context

    def cancel(self) -> None:
        """Do not run it."""
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        """Tell whether it is not to be run."""
        return self.callback is None


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(loop: RunLoop, *_args: object, **_kwargs: object) -> NoReturn:
        loop._refuse(f"the network, files or processes ({name})", "put that into a @step")

    return refuse


def _refusing_the_rest(cls: type[_T]) -> type[_T]:
    """Refuse what loops of asyncio have beside what a class has: sockets, signals, servers.

    By methods: a `__getattr__` would make every look at an attribute a slow one.
    """
    for name in dir(asyncio.AbstractEventLoop):
        if not hasattr(cls, name):
            setattr(cls, name, _refusing(name))
    return cls


@_refusing_the_rest
class RunLoop:
    """Runs the tasks of one run.

    No subclass of asyncio's loops: what is not here is refused.
    """

    def __init__(self, name: str, refused: Callable[[ForeignAwait], BaseException]) -> None:
        """Make a loop with nothing to do.

        Args:
            name: Of the run, for people.
            refused: Is told what the run has asked for in vain, and returns what to raise.
        """
        self._name = name
        self._refused = refused
        self.ready: deque[_Handle] = deque()
        """What is to be run by `drive`."""
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._closed = False
        self._as_loop: asyncio.AbstractEventLoop = cast("Any", self)

    def drive(self) -> None:
        """Run what is ready, and what that makes ready, until nothing is."""
        ready = self.ready
        outer = events._get_running_loop()
        events._set_running_loop(self._as_loop)
        try:
            while ready:
                handle = ready.popleft()
                callback = handle.callback
                if callback is None:
                    continue
                try:
                    handle.context.run(callback, *handle.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    message = f"an exception in the callback {callback!r}"
                    self.call_exception_handler({"message": message, "exception": error})
        finally:
            events._set_running_loop(outer)

    def drop(self, context: Context) -> None:
        """End everything where it is. `finally` runs, and finds that nothing can be asked for.

        Args:
            context: Of the run's code.
        """
        self._closed = True
        self.ready.clear()
        outer = events._get_running_loop()
        events._set_running_loop(self._as_loop)
        try:
            for task in list(self._tasks):
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    coroutine: Any = task.get_coro()
                    with contextlib.suppress(BaseException):
                        context.run(coroutine.close)
        finally:
            events._set_running_loop(outer)
        self.ready.clear()

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those that have not ended."""
        return [task for task in self._tasks if not task.done()]

    # What asyncio asks of a loop.

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run something in this drive."""
        handle = _Handle(callback, args, copy_context() if context is None else context)
        if not self._closed:
            self.ready.append(handle)
        return cast("asyncio.Handle", handle)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this run."""
        return asyncio.Future(loop=self._as_loop)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        """Run a coroutine beside the others of this run."""
        task = asyncio.Task(coro, loop=self._as_loop, name=name, context=context)
        self._tasks.add(task)
        return task

    time = staticmethod(time.monotonic)
    """Returns a time that is good for nothing but being shown."""

    get_debug = staticmethod(bool)
    """Tells asyncio, which asks for each future, not to look closer: `bool()` is False, in C."""

    def is_running(self) -> bool:
        """Tell whether it is driven: whoever can ask is driven by it."""
        return not self._closed

    def is_closed(self) -> bool:
        """Tell whether it is dropped."""
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what went wrong where nobody could catch it."""
        error = context.get("exception")
        if not self._closed and not isinstance(error, GeneratorExit):
            _log.error("the run %s: %s", self._name, context.get("message"), exc_info=error)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See `call_exception_handler`."""
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: generators end with what holds them."""

    # What a run cannot do.

    def _refuse(self, what: str, fix: str) -> NoReturn:
        text = (
            f"a workflow cannot wait for {what}: a run after a crash could not do the same again; "
            f"{fix}"
        )
        raise self._refused(ForeignAwait(text))

    def call_later(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Refuse."""
        self._refuse(
            "asyncio.sleep, asyncio.timeout, asyncio.wait_for or call_later",
            "use perdure.sleep(...) and perdure.wait_for(..., timeout), which are durable",
        )

    call_at = call_later

    def run_in_executor(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Refuse."""
        self._refuse("a thread", "put what it does into a function with @step")

    call_soon_threadsafe = run_in_executor
