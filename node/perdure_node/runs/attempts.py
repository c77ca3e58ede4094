"""Attempts of steps: a function of the user's runs until it succeeds, or has failed too often."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from perdure import codec, raised
from perdure.context import StepResult, current_turn
from perdure.errors import Code
from perdure.frames import pack_error
from perdure.service_context import ServiceTurn
from perdure.workflows.metadata import StepMetadata, current_step
from perdure.workflows.steps import StepFunction
from perdure_node.core.events import Retrying
from perdure_node.performer import Performer

if TYPE_CHECKING:
    from perdure_node.runs.run_steps import RunSteps

__all__ = ["Attempts"]


class Attempts:
    """The functions that the steps of one run are."""

    def __init__(self, steps: RunSteps, performer: Performer) -> None:
        self._steps = steps
        self._performer = performer

    def begin(self, step: int, function: StepFunction[..., Any], data: bytes) -> None:
        """Run a function, at once or when its next attempt is due."""
        self._steps.begun(step)
        if self._steps.turn.is_driven:
            # In a replay. Functions run on the node's loop, and not on that of the run.
            self._steps.turn.driver.soon(lambda: self._go_on(step, function, data))
        else:
            self._go_on(step, function, data)

    def _go_on(self, step: int, function: StepFunction[..., Any], data: bytes) -> None:
        last = self._steps.turn.journal.attempts.get(step)
        if last is None:
            self._attempt(step, function, data, 1)
            return
        next_one = functools.partial(self._attempt, step, function, data, last.attempt + 1)
        self._performer.wake_at(last.due_ms, next_one)

    def _attempt(
        self, step: int, function: StepFunction[..., Any], data: bytes, number: int
    ) -> None:
        turn = self._steps.turn
        if turn.over or turn.partition.stopped is not None:
            return
        turn.rewind(step, number)
        metadata = StepMetadata(
            f"{turn.context.call_id}/{step}", function.name, number, self._performer.wall_ms()
        )
        port = turn.stream_port(step, number)
        work = self._run(function, data, metadata, port)
        if not function.waits:
            result = self._run_at_once(work)
            if result is not None:
                port.is_over = True
                self._ended(step, function, data, number, result)
                return

        def done(result: Any) -> None:
            port.is_over = True
            self._ended(step, function, data, number, result)

        self._performer.start(turn.driven(work), done)

    def _run_at_once(self, work: Coroutine[Any, Any, tuple[StepResult, Any]]) -> Any:
        """Run what waits for nothing, without a task."""
        turn = self._steps.turn
        driving = turn.driving
        outer = driving.outer()
        driving.begin(turn.partition.number, turn.admitted)
        try:
            copy_context().run(work.send, None)
        except StopIteration as stop:
            return stop.value
        finally:
            driving.end(outer)
        raise AssertionError(f"{work} waits")

    async def _run(
        self, function: StepFunction[..., Any], data: bytes, metadata: StepMetadata, port: Any
    ) -> Any:
        """Run one attempt, in a context of its own.

        Returns:
            Its result, and when to try again if that is an error.
        """
        turn = self._steps.turn
        current_step.set((metadata, port))
        # What it calls is no step of the run: that could not be found again.
        key, number, loop = metadata.step_id, metadata.attempt, turn.rounds.loop
        current_turn.set(
            ServiceTurn("step", function.name, key, number, turn.client, turn.chain, loop)
        )
        try:
            payload = codec.encode(await self._call(function, data))
        except codec.NotEncodable as error:
            what = f"the result of the step {function.name}{error.path}"
            return StepResult(*pack_error(Code.RESULT_NOT_STORABLE, (what, error.problem))), None
        except Exception as error:
            packed = raised.pack_exception(
                error,
                object=str(turn.admitted.key),
                method=function.name,
                call_id=metadata.step_id,
            )
            pause_s = function.pause_s(error, metadata.attempt)
            return StepResult(int(Code.RAISED), packed), pause_s
        return StepResult(0, payload), None

    @staticmethod
    async def _call(function: StepFunction[..., Any], data: bytes) -> Any:
        args, kwargs = codec.decode(data) if data else ((), {})
        result = function.function(*args, **kwargs)
        if not inspect.isawaitable(result):
            return result
        if function.timeout_s is None:
            return await result
        async with asyncio.timeout(function.timeout_s):
            return await result

    def _ended(
        self, step: int, function: StepFunction[..., Any], data: bytes, number: int, ended: Any
    ) -> None:
        result, pause_s = ended
        turn = self._steps.turn
        if turn.over or turn.partition.stopped is not None:
            return
        if pause_s is None:
            self._steps.over(step)
            self._steps.ended(step, result)
            return
        due_ms = self._performer.wall_ms() + int(pause_s * 1_000)
        turn.record(Retrying(step, number, due_ms, result.payload))
        next_one = functools.partial(self._attempt, step, function, data, number + 1)
        self._performer.wake_at(due_ms, next_one)
        turn.flush()
