"""Asynchronous tests: each runs on a loop of its own and ends by itself."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

LONGEST_S = 60.0


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test function, with the fixtures it asks for, under `asyncio.run`."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(*args, **kwargs), LONGEST_S)

        asyncio.run(bounded())

    return run


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that comes about by itself; for as long as `on_loop` lets the test."""
    while not is_so():
        await asyncio.sleep(0)
