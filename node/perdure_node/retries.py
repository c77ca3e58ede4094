"""What becomes of a method that raises: its exception is the outcome, or it is run again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from perdure import raised
from perdure.bodies import pack_error
from perdure.errors import CODE_OF, CallFailed, Code, RemoteError, UnknownType, code_of
from perdure.frames import Kind
from perdure_node.core.calls import Call
from perdure_node.core.events import Retried
from perdure_node.core.limits import Limits
from perdure_node.core.partition import Partition
from perdure_node.turn import MethodTurn

__all__ = ["Retries", "failure_of"]

_TRAVEL_AS_THEY_ARE: Final = frozenset(CODE_OF) - {RemoteError}


class Retries:
    """The methods of one node that have raised and are to be run again.

    Such a call holds its object. Its failed run stays in place until the next one begins, so
    that results of steps still arrive, and it can be killed.
    """

    def __init__(self, limits: Limits, run: Callable[[Partition, Call], None]) -> None:
        """Prepare.

        Args:
            limits: How long the pauses are.
            run: Runs a call.
        """
        self._limits = limits
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[MethodTurn, asyncio.TimerHandle] = {}

    def again(self, turn: MethodTurn, error: BaseException) -> bool:
        """Run a method again that has raised, after a pause. False: it has failed for good."""
        call = turn.admitted
        assert turn.activation is not None
        if (
            not isinstance(error, Exception)
            or call.shared
            or call.firing  # Its timer fires again.
            or call.request.kind != Kind.CALL
            or turn.cancelled is not None
            or turn.partition.stopped is not None
        ):
            return False
        if call.progress is not None:
            call.retries = sum(isinstance(event, Retried) for event in call.progress.events)
        if call.retries >= turn.activation.type.retries:
            return False
        if call.progress is not None:
            turn.partition.journalled.retried(call, turn.steps.give_up())
        call.retries += 1
        call.starts += 1
        turn.give_up()
        turn.flush()
        pause_ms = self._limits.method_retry_ms << min(call.retries - 1, 16)
        pause_s = min(pause_ms, self._limits.method_retry_max_ms) / 1_000
        self._pauses[turn] = self._loop.call_later(pause_s, self._begin, turn)
        return True

    def hurry(self, turn: MethodTurn) -> None:
        """End the pause before the next run, if there is one: that run is to hear something."""
        pause = self._pauses.get(turn)
        if pause is not None:
            pause.cancel()
            self._loop.call_soon(self._begin, turn)

    def close(self) -> None:
        """Run nothing any more."""
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()

    def _begin(self, turn: MethodTurn) -> None:
        pause = self._pauses.pop(turn, None)
        if pause is None or turn.over:
            return  # The node closes; or it was killed meanwhile.
        turn.over = True
        self._run(turn.partition, turn.admitted)
        turn.flush()


def failure_of(turn: MethodTurn, error: BaseException) -> tuple[int, bytes]:
    """Return code and payload for whatever left a method."""
    if isinstance(error, (CallFailed, UnknownType)) and type(error) in _TRAVEL_AS_THEY_ARE:
        # What failed for good inside fails for good outside. Anything else that a nested
        # call said ("it did not run") would be wrong about this call, which did run.
        return pack_error(code_of(error), error.args)
    call = turn.admitted
    request = call.request
    call_id = turn.context.call_id
    if turn.cancelled is not None and isinstance(error, asyncio.CancelledError):
        return pack_error(Code.CANCELLED, (f"{call.key}.{request.method}", turn.cancelled))
    method = request.method or "get_or_create"
    payload = raised.pack_exception(error, object=str(call.key), method=method, call_id=call_id)
    return int(Code.RAISED), payload
