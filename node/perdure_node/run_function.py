"""Functions that methods give to `ctx.run`: one attempt, and the result to be recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure import codec, raised
from perdure.bodies import pack_error
from perdure.context import StepResult, current_turn
from perdure.errors import Code

if TYPE_CHECKING:
    from perdure_node.turn import MethodTurn

__all__ = ["run_function"]


async def run_function(turn: MethodTurn, function: Callable[[], Any]) -> StepResult:
    """Run a function in a task of its own, as a step of a turn."""
    # A step inside of a step could not be found again.
    current_turn.set(None)
    try:
        result = function()
        if inspect.isawaitable(result):
            result = await result
        return StepResult(0, codec.encode(result))
    except codec.NotEncodable as error:
        args = (f"{turn.what}: the result of ctx.run{error.path}", error.problem)
        return StepResult(*pack_error(Code.RESULT_NOT_STORABLE, args))
    except Exception as error:
        packed = raised.pack_exception(
            error,
            object=str(turn.admitted.key),
            method=turn.admitted.request.method,
            call_id=turn.context.call_id,
        )
        return StepResult(int(Code.RAISED), packed)
