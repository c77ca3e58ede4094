"""Services in Python: one attempt to call one.

Async ones run on the node's loop, sync ones each in a thread of its own. A thread cannot be
ended from outside: one whose time is over goes on, beside the next attempt, as the work of a
remote server would. It keeps its place among the service's concurrent attempts until it ends.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from perdure import codec
from perdure.context import StepResult
from perdure.service_context import service_context
from perdure.services import Retry, ServiceMethod
from perdure_node.service_attempt import Again, Attempt, answered, raised_by

if TYPE_CHECKING:
    from perdure.client import Client

__all__ = ["PythonServices"]

_log = logging.getLogger("perdure.service")


class PythonServices:
    """Calls what `@durable.service` decorates."""

    def __init__(self, bytes_max: int, client: Client | None) -> None:
        """Prepare to call.

        Args:
            bytes_max: The limit of an encoded result.
            client: Makes the calls that services make, on the node's loop.
        """
        self._bytes_max: Final = bytes_max
        self._client: Final = client

    async def attempt(
        self,
        attempt: Attempt,
        method: ServiceMethod,
        chain: Sequence[Sequence[str]],
        places: asyncio.Semaphore,
    ) -> StepResult | Again:
        """Call a service once. A place has been taken, and is given back.

        Args:
            attempt: What to call.
            method: What is registered under that name.
            chain: The calls that the step is inside of.
            places: Where the place is given back.
        """
        running = _Running(places)
        scope = asyncio.timeout(attempt.timeout_s)
        try:
            async with scope:
                value = await self._call(attempt, method, chain, running)
        except BaseException as error:
            # SystemExit too: a service may not end the node. What it raises when it is cancelled
            # from outside is no answer.
            if isinstance(error, GeneratorExit):
                raise
            if _is_cancelled():
                raise asyncio.CancelledError from error
            if scope.expired():
                return Again("TimeoutError", f"it took longer than {attempt.timeout_s:g} s")
            if isinstance(error, Retry):
                return Again("Retry", str(error), error.after_s or 0.0)
            return raised_by(attempt, error)
        finally:
            running.ended()
        return answered(attempt, value, self._bytes_max)

    async def _call(
        self,
        attempt: Attempt,
        method: ServiceMethod,
        chain: Sequence[Sequence[str]],
        running: _Running,
    ) -> Any:
        with service_context(
            attempt.service,
            attempt.method,
            key=attempt.key,
            attempt=attempt.number,
            client=self._client,
            chain=chain,
        ):
            function = method.bind()
            args = () if attempt.payload is None else (codec.decode(attempt.payload),)
            if method.is_async:
                return await function(*args)
            value = await running.in_thread(function, args)
            # A function that only returns somebody else's coroutine.
            return await value if inspect.isawaitable(value) else value


class _Running:
    """One attempt's place: given back once the attempt has ended, and its thread if it has one."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._users = 1

    def ended(self) -> None:
        self._users -= 1
        if not self._users:
            self._places.release()

    def in_thread(self, function: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Call a function in a thread of its own, which no shutdown waits for."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = copy_context()

        def deliver(value: Any, error: BaseException | None) -> None:
            self.ended()
            if future.cancelled():
                if inspect.iscoroutine(value):
                    value.close()
            elif error is None:
                future.set_result(value)
            else:
                future.set_exception(_for_a_future(error))

        def run() -> None:
            value, error = None, None
            try:
                value = context.run(function, *args)
            except BaseException as caught:
                error = caught
            try:
                loop.call_soon_threadsafe(deliver, value, error)
            except RuntimeError:
                # The loop has ended without waiting. What is not recorded is attempted again.
                _log.debug("a service has ended after its node")

        thread = threading.Thread(target=run, name="perdure service", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise Retry(reason=f"the node has no thread for it: {error}") from None
        self._users += 1
        return future


def _for_a_future(error: BaseException) -> BaseException:
    """Return an exception that a future takes, and hands out as it is."""
    if isinstance(error, StopIteration | asyncio.CancelledError):
        return RuntimeError(f"the service raised {type(error).__name__}")
    return error


def _is_cancelled() -> bool:
    """Tell whether somebody has cancelled this task, and not the service itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
