"""What a method gets for a call that it has made: the answer that its journal has."""

from __future__ import annotations

import asyncio

from perdure.bodies import unpack_reply
from perdure.client import Answer
from perdure.context import StepResult
from perdure.step_future import StepFuture

__all__ = ["answer_of"]


def answer_of(step: StepFuture[StepResult]) -> asyncio.Future[Answer]:
    """Return the answer that is recorded in a step's result."""
    answer: StepFuture[Answer] = StepFuture(loop=asyncio.get_running_loop())
    step.passed_on = answer

    def pass_on(done: asyncio.Future[StepResult]) -> None:
        if answer.done():
            return  # It was cancelled, or told before the loop has come round.
        if done.cancelled():
            answer.cancel()
        else:
            code, body = done.result()
            answer.set_result(Answer(code, unpack_reply(body)))

    step.pass_on = pass_on
    step.add_done_callback(pass_on)
    return answer
