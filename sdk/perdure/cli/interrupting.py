"""Work on an event loop that a signal ends, Ctrl-C say, whenever it comes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

__all__ = ["run_until_interrupted"]

_R = TypeVar("_R")


def run_until_interrupted(
    work: Coroutine[Any, Any, _R], by: Sequence[signal.Signals] = (signal.SIGINT,)
) -> _R:
    """Run a coroutine and return its result. Ctrl-C cancels it, or another signal of `by`.

    As `asyncio.run`, whose own handler does not wake a loop that is just about to wait when the
    signal comes: until something else happens there, it would have heard nothing.

    Raises:
        KeyboardInterrupt: One of these signals has come, and the work has ended.
    """

    async def interruptible() -> _R:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in by:
            loop.add_signal_handler(number, task.cancel)
        try:
            return await work
        finally:
            # Whoever does not want to wait for the end of the loop either sends it again.
            for number in by:
                loop.remove_signal_handler(number)

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
