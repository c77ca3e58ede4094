"""What `ctx.call` and `ctx.run` do where no method runs: the work, and no record of it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol
from uuid import uuid4

from perdure.config import load_config
from perdure.turn import StepResult

__all__ = ["call_service", "run"]


class _Services(Protocol):
    """What `perdure_node.services.Services(settings)` makes."""

    async def call(
        self, service: str, method: str, payload: bytes | None, key: str, attempt: int
    ) -> StepResult: ...

    async def close(self) -> None: ...


class _Open:
    """The services of one loop, while there are calls of them."""

    def __init__(self) -> None:
        # By name: the sdk stands without the node.
        module = importlib.import_module("perdure_node.services")
        config = load_config(None, os.environ, {})
        self.services: _Services = module.Services(config.services)
        self.users = 0


_open: dict[asyncio.AbstractEventLoop, _Open] = {}

_tasks: Final[set[asyncio.Task[Any]]] = set()
"""Held here: a loop alone does not keep its tasks."""


def call_service(service: str, method: str, payload: bytes | None) -> asyncio.Future[StepResult]:
    """Call a service from here, written in Python or configured; with a new key each time."""
    return _start(_call(service, method, payload, uuid4().hex))


def run(function: Callable[[], Any]) -> tuple[asyncio.Future[StepResult], Callable[[], Any]]:
    """Run a function.

    Returns:
        A future of its end, which bears what it raises, and what then returns its result.
    """
    loop = asyncio.get_running_loop()
    results: list[Any] = []

    async def wait(awaitable: Any) -> StepResult:
        results.append(await awaitable)
        return StepResult(0, b"")

    future: asyncio.Future[StepResult] = loop.create_future()
    try:
        result = function()
    except Exception as error:
        future.set_exception(error)
    else:
        if inspect.isawaitable(result):
            future = _start(wait(result))
        else:
            results.append(result)
            future.set_result(StepResult(0, b""))
    return future, lambda: results[0]


async def _call(service: str, method: str, payload: bytes | None, key: str) -> StepResult:
    loop = asyncio.get_running_loop()
    opened = _open.get(loop)
    if opened is None:
        opened = _open[loop] = _Open()
    opened.users += 1
    try:
        return await opened.services.call(service, method, payload, key, 1)
    finally:
        opened.users -= 1
        if not opened.users:
            # Nobody says when a loop needs them no more, so they live as long as their calls.
            del _open[loop]
            await opened.services.close()


def _start(work: Coroutine[Any, Any, StepResult]) -> asyncio.Future[StepResult]:
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task
