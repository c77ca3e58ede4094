"""What waits for a step: it knows when a clock, and not the method, has ended the waiting."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

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

    __slots__ = ("timed_out",)

    timed_out: bool

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.timed_out = False
        """Whether it was cancelled because some time of the event loop's was over."""

    def cancel(self, msg: Any | None = None) -> bool:
        """End the waiting; see who wants that."""
        frame = sys._getframe(1)
        caller: Any = frame
        while caller is not None and not self.timed_out:
            self.timed_out = caller.f_code in _CLOCKS
            caller = caller.f_back
        return super().cancel(msg)

    def refusal(self, label: str) -> RuntimeError:
        """Return what to raise where the waiting has ended so."""
        return RuntimeError(
            f"{label} is a step of a method, and asyncio.timeout or asyncio.wait_for has ended "
            f"the wait for it: after a crash the method could not do the same again; "
            f"use perdure.wait_for(step, timeout)"
        )
