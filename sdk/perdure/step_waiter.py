"""What waits for a step: it knows when a clock, and not the method, has ended the waiting.

It can also wake the task that awaits it at once, which then goes on up to its next wait before
`wake` returns. A future of asyncio wakes it in a later round of the loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final, NoReturn

__all__ = ["StepWaiter"]

_CLOCKS: Final = frozenset(
    function.__code__
    for function in (
        getattr(asyncio.Timeout, "_on_timeout", None),
        getattr(asyncio.tasks, "_cancel_and_wait", None),
    )
    if function is not None
)
"""The code that ends a wait when the time of `asyncio.timeout` and `asyncio.wait_for` is over."""


class StepWaiter(asyncio.Future[None]):
    """A future that one `await` of a step waits for.

    A run after a crash gets the results of its steps at once, so a wait that the event loop's
    clock has ended would not end there, and the method would go another way. Who cancels is seen
    on the stack, because a task passes `cancel` on to what it waits for, in the same call.
    Ways round several tasks (`asyncio.wait(timeout=)`, a group of tasks inside of a timeout)
    cannot be seen from here.
    """

    # Not in an `__init__`: it would cost more than the rest.
    timed_out = False
    """Whether it was cancelled because some time of the event loop's was over."""
    _wake_up: tuple[Callable[[Any], object], Context] | None = None
    """The first callback: that of the task that waits. Kept, so that `wake` can call it."""

    def add_done_callback(
        self, fn: Callable[[Any], object], /, *, context: Context | None = None
    ) -> None:
        """Call this when the waiting is over."""
        if self._wake_up is None and not self.done():
            self._wake_up = fn, context or copy_context()
        else:
            super().add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Callable[[Any], object], /) -> int:
        """Do not call this."""
        removed = super().remove_done_callback(fn)
        if self._wake_up is not None and self._wake_up[0] == fn:
            self._wake_up = None
            removed += 1
        return removed

    def wake(self) -> None:
        """End the waiting, and let the task that waits go on now. No task may run meanwhile."""
        wake_up, self._wake_up = self._wake_up, None
        super().set_result(None)
        if wake_up is not None:
            callback, context = wake_up
            try:
                context.run(callback, self)
            except (KeyboardInterrupt, SystemExit) as error:
                # The loop is who has to hear of it.
                self.get_loop().call_soon(_raise, error)

    def set_result(self, result: None, /) -> None:
        """End the waiting: the task goes on when the loop comes round."""
        self._give_back()
        super().set_result(result)

    def set_exception(self, exception: type | BaseException, /) -> None:
        """End the waiting with an error: likewise."""
        self._give_back()
        super().set_exception(exception)

    def _give_back(self) -> None:
        wake_up, self._wake_up = self._wake_up, None
        if wake_up is not None:
            super().add_done_callback(wake_up[0], context=wake_up[1])

    def cancel(self, msg: Any | None = None) -> bool:
        """End the waiting; see who wants that."""
        frame = sys._getframe(1)
        caller: Any = frame
        while caller is not None and not self.timed_out:
            self.timed_out = caller.f_code in _CLOCKS
            caller = caller.f_back
        self._give_back()
        return super().cancel(msg)

    def refusal(self, label: str) -> RuntimeError:
        """Return what to raise where the waiting has ended so."""
        return RuntimeError(
            f"{label} is a step of a method, and asyncio.timeout or asyncio.wait_for has ended "
            f"the wait for it: after a crash the method could not do the same again; "
            f"use perdure.wait_for(step, timeout)"
        )


def _raise(error: BaseException) -> NoReturn:
    raise error
