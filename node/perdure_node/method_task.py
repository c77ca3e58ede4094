"""How the coroutine of a method is driven: at once, or in a task of its own."""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, cast

from perdure.context import current_turn

if TYPE_CHECKING:
    from perdure_node.turn import MethodTurn

__all__ = ["HandedOver", "MethodTask", "begun", "branch", "driver", "run_to_its_end", "watched"]

_NOT_BEGUN: Final = object()


class MethodTask(asyncio.Task[None]):
    """A method's task. A loop that ends does not cancel a method.

    `asyncio.run` cancels all tasks when it has stopped its loop, and then waits for them.
    Whoever cancels while the loop runs is the method's own code, a timeout or a task group.
    """

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the method, unless it is its loop that ends."""
        return self.get_loop().is_running() and super().cancel(msg)

    def end(self) -> None:
        """Cancel it after all: the node closes and has waited long enough."""
        super().cancel("the node is shutting down")


def begun(coroutine: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    """Run a coroutine up to its first wait, and return False and what it waits for.

    One that waits for nothing has ended: return True and its result.
    """
    try:
        return False, coroutine.send(None)
    except StopIteration as stop:
        return True, stop.value


@types.coroutine
def driver() -> Generator[Any, Any, Any]:
    """Return what runs one coroutine after the other: `send` it one, and get its result.

    The same as `begun`, for the coroutines of Python, without an exception for each that ends. It
    is at a coroutine's wait, and not at its end, as long as `gi_yieldfrom` is not None. It has to
    have been started with `send(None)`, and what a coroutine raises is its end.
    """
    coroutine = yield
    while True:
        # No variable for the result, which would be kept until the next coroutine comes.
        coroutine = yield (yield from coroutine)


class HandedOver(Coroutine[Any, Any, Any]):
    """A coroutine that waits, with the `driver` that has brought it there."""

    def __init__(self, driver: Generator[Any, Any, Any]) -> None:
        self._driver: Any = driver

    def send(self, value: Any) -> Any:
        """Go on up to the next wait."""
        return self._waits(self._driver.send(value))

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        return self._waits(self._driver.throw(*error))

    def close(self) -> None:
        """End it where it is."""
        self._driver.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("it is driven, and awaited by nobody")

    def _waits(self, given: Any) -> Any:
        if self._driver.gi_yieldfrom is None:
            raise StopIteration(given)
        return given


def run_to_its_end(coroutine: Coroutine[Any, Any, None], turn: MethodTurn) -> None:
    """Run what awaits nothing that waits."""
    token = current_turn.set(turn)
    try:
        coroutine.send(None)
    except StopIteration:
        return
    finally:
        current_turn.reset(token)
    raise AssertionError(f"{coroutine} waits")


@types.coroutine
def watched(
    coroutine: Coroutine[Any, Any, Any], turn: MethodTurn, waits_for: Any = _NOT_BEGUN
) -> Generator[Any, Any, Any]:
    """Await a method, and tell its turn each time that it suspends, and when it makes tasks.

    Args:
        coroutine: The method's.
        turn: Its turn.
        waits_for: What it has yielded, if it has been driven up to its first wait.
    """
    value: Any = None
    error: BaseException | None = None
    loop = turn.rounds.loop
    while True:
        if waits_for is _NOT_BEGUN:
            factory = loop.get_task_factory()
            if turn.is_alone:
                loop.set_task_factory(cast("Any", functools.partial(branch, turn, factory)))
            try:
                waits_for = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                loop.set_task_factory(factory)
        turn.suspended()
        error = None
        turn.waits_for = waits_for
        try:
            value = yield waits_for
        except BaseException as thrown:
            error = thrown
        turn.waits_for = None
        waits_for = _NOT_BEGUN


def branch(
    turn: MethodTurn,
    factory: Callable[..., Any] | None,
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    **options: Any,
) -> Any:
    """Make a task that a method wants, and note that it is not alone any more."""
    turn.is_alone = False
    if factory is None:
        return asyncio.Task(coroutine, loop=loop, **options)
    return factory(loop, coroutine, **options)
