"""`perdure.wait_for`: a step and a durable clock, whichever is first."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable
from typing import TypeVar

from perdure.context import ctx
from perdure.turn import current_turn

__all__ = ["wait_for"]

_T = TypeVar("_T")


async def wait_for(awaitable: Awaitable[_T], timeout: dt.timedelta | float | None) -> _T:
    """Wait for a call, a step or a coroutine of steps, but no longer than a time.

    In a method this is what `asyncio.wait_for` cannot be: the time is a durable `ctx.sleep`, and
    whichever came first is what a run after a crash sees too. At top level it is
    `asyncio.wait_for`.

    Args:
        awaitable: Calls and steps go on when the time is over, and what becomes of them is
            ignored. A coroutine, task or future is cancelled, as by `asyncio.wait_for`.
        timeout: A number means seconds. None: for ever. It is counted from now.

    Raises:
        TimeoutError: The time was over first.
        TypeError: The timeout is something else.
        ValueError: It is no number (NaN), or more than ten years.
        RuntimeError: In a `@durable.shared` method and in `on_activate`, which have no steps.
    """
    if timeout is None:
        return await awaitable
    if current_turn.get() is None:
        seconds = timeout.total_seconds() if isinstance(timeout, dt.timedelta) else timeout
        return await asyncio.wait_for(awaitable, seconds)
    try:
        clock = asyncio.ensure_future(ctx.sleep(timeout))
    except BaseException:
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        raise
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait((task, clock), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
    except asyncio.CancelledError:
        task.cancel()
        raise
    finally:
        clock.cancel()
    if task.cancelled():
        raise TimeoutError
    return task.result()
