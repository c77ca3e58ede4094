"""Calls from code without an event loop: scripts, Django views, a plain prompt.

    import perdure.sync

    def view(request):
        cart = perdure.sync.run(Cart.get_or_create, request.user)
        perdure.sync.run(cart.add, "apple", 2)

    perdure.sync.run(perdure.connect, "localhost:7400", routing="direct")    # or PERDURE_ADDRESS

One event loop in a thread of its own serves the whole process, from the first call to its end.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Final, ParamSpec, TypeVar

__all__ = ["run"]

P = ParamSpec("P")
R = TypeVar("R")

_EXIT_S: Final = 15.0
"""How long the end of the process waits for the calls under way."""


def run(function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call an async function, or a method of a handle, and wait for its result.

    Raises:
        RuntimeError: An event loop runs here already: `await` it instead.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("an event loop runs here: await the function instead")

    async def called() -> R:
        # Called there, not here: a handle sends when it is called.
        return await function(*args, **kwargs)

    future = asyncio.run_coroutine_threadsafe(called(), _loop_thread().loop)
    try:
        return future.result()
    except BaseException:
        # Ctrl-C ends the waiting; what was called gets the cancellation.
        future.cancel()
        raise


class _LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="perdure.sync", daemon=True)
        self._thread.start()
        self.loop = self._started.result()

    def end(self) -> None:
        """Finish what was called, and end the loop and the thread."""
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_EXIT_S)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._started.set_result(asyncio.get_running_loop())
        await self._stop.wait()


_lock = threading.Lock()
_thread: _LoopThread | None = None


def _loop_thread() -> _LoopThread:
    global _thread
    with _lock:
        if _thread is None:
            _thread = _LoopThread()
            _at_exit(_thread.end)
        return _thread


def _at_exit(function: Callable[[], Any]) -> None:
    # Thread pools refuse work before `atexit` functions run, and a node needs one to close. So
    # this is registered where concurrent.futures registers itself, and after it: last in, first
    # called.
    importlib.import_module("concurrent.futures.thread")
    register = getattr(threading, "_register_atexit", atexit.register)
    register(function)


def _forget_in_child() -> None:
    """Forget, after a fork, the thread: it exists in the parent only."""
    global _thread, _lock
    _thread = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
