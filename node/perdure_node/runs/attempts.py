"""Attempts of steps: a function of the user's runs until it succeeds, or has failed too often."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Coroutine
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

import msgspec

from perdure import codec, raised
from perdure.bodies import pack_error
from perdure.context import StepResult, current_turn
from perdure.errors import Code
from perdure.service_context import ServiceTurn
from perdure.workflows.metadata import StepMetadata, current_step
from perdure.workflows.steps import StepFunction
from perdure_node.core.events import Retrying
from perdure_node.performer import Performer

if TYPE_CHECKING:
    from perdure_node.runs.run_steps import RunSteps
    from perdure_node.runs.stream_port import StreamPort

__all__ = ["Attempts"]


_Ended = tuple[StepResult, float | None]
"""The result of an attempt, and how long to wait before the next one; None: there is none."""


class _Step(msgspec.Struct, frozen=True, gc=False):
    """What there are attempts of."""

    number: int
    function: StepFunction[..., Any]
    data: bytes
    """Its arguments, encoded."""


class Attempts:
    """The functions that the steps of one run are."""

    def __init__(self, steps: RunSteps, performer: Performer) -> None:
        self._steps = steps
        self._performer = performer
        self._driving, self._client = steps.turn.driving, steps.turn.client
        self._loop = steps.turn.rounds.loop

    def begin(self, function: StepFunction[..., Any], number: int, data: bytes) -> None:
        """Run the function of a step, at once or when its next attempt is due."""
        self._steps.begun(number)
        step = _Step(number, function, data)
        if self._steps.turn.is_driven:
            # In a replay. Functions run on the node's loop, and not on that of the run.
            self._steps.turn.driver.soon(lambda: self._go_on(step))
        else:
            self._go_on(step)

    def _go_on(self, step: _Step) -> None:
        last = self._steps.turn.run.journal.attempts.get(step.number)
        if last is None:
            self._attempt(step, 1)
        else:
            self._attempt_at(last.due_ms, step, last.attempt + 1)

    def _attempt_at(self, due_ms: int, step: _Step, attempt: int) -> None:
        self._performer.wake_at(due_ms, functools.partial(self._attempt, step, attempt))

    def _attempt(self, step: _Step, attempt: int) -> None:
        turn = self._steps.turn
        if turn.over or turn.partition.stopped is not None:
            return
        if turn.run.journal.wrote:
            turn.rewind(step.number, attempt)
        key, name = f"{turn.context.call_id}/{step.number}", step.function.name
        metadata = StepMetadata(key, name, attempt, self._performer.wall_ms())
        port = turn.stream_port(step.number, attempt)
        if not step.function.waits:
            ended = self._run_at_once(step, metadata, port)
            port.is_over = True
            self._ended(step, attempt, ended)
            return

        def done(ended: Any) -> None:
            port.is_over = True
            self._ended(step, attempt, ended)

        work = cast("Coroutine[Any, Any, Any]", self._run(step, metadata, port))
        self._performer.start(turn.driven(work), done)

    def _run_at_once(self, step: _Step, metadata: StepMetadata, port: StreamPort) -> _Ended:
        """Run what waits for nothing, without a task and in a context of its own."""
        turn = self._steps.turn
        driving = self._driving
        outer = driving.outer()
        driving.begin(turn.partition.number, turn.admitted)
        try:
            return copy_context().run(self._perform, step, metadata, port)
        finally:
            driving.end(outer)

    def _perform(self, step: _Step, metadata: StepMetadata, port: StreamPort) -> _Ended:
        self._enter(metadata, port)
        try:
            args, kwargs = codec.decode(step.data) if step.data else ((), {})
            result = step.function.function(*args, **kwargs)
            if type(result) is CoroutineType or inspect.isawaitable(result):
                result = _result_at_once(step.function.name, result)
            return StepResult(0, codec.encode(result)), None
        except Exception as error:
            return self._failed(step, metadata, error)

    async def _run(self, step: _Step, metadata: StepMetadata, port: StreamPort) -> _Ended:
        """Run one attempt, in a task and so in a context of its own."""
        self._enter(metadata, port)
        function = step.function
        try:
            args, kwargs = codec.decode(step.data) if step.data else ((), {})
            async with asyncio.timeout(function.timeout_s):
                result = await function.function(*args, **kwargs)
            return StepResult(0, codec.encode(result)), None
        except Exception as error:
            return self._failed(step, metadata, error)

    def _enter(self, metadata: StepMetadata, port: StreamPort) -> None:
        """Let what runs now know that it is an attempt, and no workflow."""
        turn = self._steps.turn
        current_step.set((metadata, port))
        # What it calls is no step of the run: that could not be found again.
        name, key, number = metadata.step_name, metadata.step_id, metadata.attempt
        current_turn.set(
            ServiceTurn("step", name, key, number, self._client, turn.chain, self._loop)
        )

    def _failed(self, step: _Step, metadata: StepMetadata, error: Exception) -> _Ended:
        name = step.function.name
        if isinstance(error, codec.NotEncodable):
            what = f"the result of the step {name}{error.path}"
            return StepResult(*pack_error(Code.RESULT_NOT_STORABLE, (what, error.problem))), None
        packed = raised.pack_exception(
            error,
            object=str(self._steps.turn.admitted.key),
            method=name,
            call_id=metadata.step_id,
        )
        pause_s = step.function.pause_s(error, metadata.attempt)
        return StepResult(int(Code.RAISED), packed), pause_s

    def _ended(self, step: _Step, attempt: int, ended: _Ended) -> None:
        result, pause_s = ended
        turn = self._steps.turn
        if turn.over or turn.partition.stopped is not None:
            return
        if pause_s is None:
            self._steps.over(step.number)
            self._steps.ended(step.number, result)
            return
        due_ms = self._performer.wall_ms() + int(pause_s * 1_000)
        turn.record(Retrying(step.number, attempt, due_ms, result.payload))
        self._attempt_at(due_ms, step, attempt + 1)
        turn.flush()


def _result_at_once(name: str, work: Awaitable[Any]) -> Any:
    """Return what is awaited, without a loop: an async function that never waits.

    Raises:
        TypeError: It waits: a function that is not async has returned it.
    """
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value
    raise TypeError(f"the step {name} returns what has to wait: make it an `async def`")
