"""Which coroutine functions never wait: they are run at once, without a task of their own.

A task costs several microseconds. What a function awaits is read from its bytecode, which is what
runs whatever has become of its source.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from typing import Any, Final

__all__ = ["may_wait"]

_WAITING: Final = frozenset(("GET_AWAITABLE", "GET_ANEXT", "BEFORE_ASYNC_WITH", "YIELD_VALUE"))
"""Every `await`, `async for`, `async with` and `yield` has one of them."""


def may_wait(function: Callable[..., Any]) -> bool:
    """Tell whether a coroutine of this function may have to wait for something.

    Args:
        function: Anything that can be called. What is no plain `async def` may wait.
    """
    code = getattr(function, "__code__", None)
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(instruction.opname in _WAITING for instruction in dis.get_instructions(code))
