"""Methods that wait for nothing but their steps: they go on where a step ends, without a task.

A task costs several microseconds, and so do the rounds of the loop in which it is woken. What
such a method needs of a task is to be driven when the step that it awaits has ended, in a context
of its own. As soon as it has to hear anything else it goes on in a task after all: a
cancellation, or because it waits for something that is no step.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from perdure.step_waiter import StepWaiter
from perdure_node.beginning import Beginnings
from perdure_node.method_task import HandedOver, branch, watched

if TYPE_CHECKING:
    from perdure_node.turn import MethodTurn

__all__ = ["Runner", "Stepwise"]


class Runner(Protocol):
    """Who runs such a method."""

    beginnings: Beginnings
    """Lends what drives coroutines."""
    stepwise: set[Stepwise]
    """Those that wait."""

    def returned(self, turn: MethodTurn, result: object) -> None:
        """Take the result of a method."""
        ...

    def raised(self, turn: MethodTurn, error: BaseException) -> None:
        """Take what a method has raised."""
        ...

    def go_on_in_task(self, turn: MethodTurn, rest: Callable[[], Awaitable[Any]]) -> None:
        """Run the rest of a method in a task."""
        ...


class Stepwise:
    """One run of such a method, from its first wait to its end."""

    __slots__ = ("_context", "_driver", "_loop", "_next", "_runner", "_turn", "_waiter")

    def __init__(
        self,
        runner: Runner,
        turn: MethodTurn,
        coroutine: CoroutineType[Any, Any, Any],
        context: Context,
    ) -> None:
        """Prepare.

        Args:
            runner: Is told of the end.
            turn: That of the method.
            coroutine: The method's, not begun.
            context: In which it runs.
        """
        self._runner = runner
        self._turn = turn
        self._loop = turn.rounds.loop
        self._driver: Any = runner.beginnings.take()
        self._next: CoroutineType[Any, Any, Any] | None = coroutine
        """What the driver is sent next: the coroutine, and then nothing."""
        self._context = context
        self._waiter: StepWaiter | None = None

    def go_on(self) -> None:
        """Drive the method up to its next wait, or to its end. It is noted that its code runs."""
        turn, loop, driver = self._turn, self._loop, self._driver
        first, self._next = self._next, None
        factory = loop.get_task_factory()
        # So that it is seen when the method makes tasks.
        noticed: Any = functools.partial(branch, turn, factory)
        loop.set_task_factory(noticed)
        try:
            try:
                given = driver.send(first)
            finally:
                loop.set_task_factory(factory)
        except BaseException as error:
            self._leave()
            self._runner.raised(turn, error)
            return
        if driver.gi_yieldfrom is None:
            self._leave()
            self._runner.beginnings.give_back(driver)
            self._runner.returned(turn, given)
            return
        if turn.unwritten:
            turn.suspended()
        if type(given) is StepWaiter and turn.cancelled is None:
            if self._waiter is None:
                self._runner.stepwise.add(self)
                turn.stepwise = self
            self._waiter = turn.waits_for = given
            given.add_done_callback(self._woken, context=self._context)
        else:
            self._leave()
            self._runner.go_on_in_task(
                turn, functools.partial(watched, HandedOver(driver), turn, given)
            )

    def _woken(self, waiter: StepWaiter) -> None:
        """Go on: the waiting is over."""
        turn = self._turn
        if turn.stepwise is not self or waiter is not self._waiter:
            return  # It goes on in a task.
        turn.waits_for = None
        if turn.is_noted:
            self.go_on()
            return
        driving = turn.driving
        outer = driving.outer()
        driving.begin(turn.partition.number, turn.admitted)
        try:
            self.go_on()
        finally:
            driving.end(outer)

    def into_task(self) -> None:
        """Wait in a task from now on, which can be cancelled."""
        turn, waiter = self._turn, self._waiter
        assert waiter is not None
        waiter.remove_done_callback(self._woken)
        self._leave()
        rest = functools.partial(watched, HandedOver(self._driver), turn, waiter)
        self._context.run(self._runner.go_on_in_task, turn, rest)

    def _leave(self) -> None:
        if self._waiter is not None:
            self._runner.stepwise.discard(self)
            self._turn.stepwise = self._waiter = None
