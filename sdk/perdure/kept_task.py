"""Tasks that the end of an event loop waits for instead of cancelling them.

`asyncio.run` ends by cancelling every task and waiting until all have ended. What is under way
in a client or an embedded node must be finished then, not torn off.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

__all__ = ["KeptTask", "end_task", "keep"]

T = TypeVar("T")


class KeptTask(asyncio.Task[T], Generic[T]):
    """A task whose `cancel` does not cancel it. Whoever makes one sees to it that it ends."""

    on_cancel: Callable[[], None] | None = None
    """Called instead, each time."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - asyncio's signature
        """Do not cancel, but tell that the loop is about to end."""
        if self.on_cancel is not None and not self.done():
            self.on_cancel()
        return False

    def end(self) -> None:
        """Cancel it after all."""
        super().cancel()


def keep(
    coroutine: Coroutine[Any, Any, T],
    *,
    name: str | None = None,
    on_cancel: Callable[[], None] | None = None,
) -> KeptTask[T]:
    """Start a coroutine on the running loop as a kept task, in no one's context."""
    task = KeptTask(
        coroutine,
        loop=asyncio.get_running_loop(),
        name=name,
        # It lives longer than the code that happened to need it first.
        context=contextvars.Context(),
    )
    task.on_cancel = on_cancel
    return task


def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel a task, kept or not."""
    if isinstance(task, KeptTask):
        task.end()
    else:
        task.cancel()
