"""The runs of one node: begun, let go of, and ended."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from perdure import codec
from perdure.bodies import Request, pack_error
from perdure.errors import (
    BadArguments,
    BadPayload,
    Code,
    ResultNotStorable,
    ResultTooLarge,
    code_of,
)
from perdure.frames import Kind
from perdure.workflows.control import ContinueAsNew
from perdure.workflows.definitions import find_workflow
from perdure_node.arguments import arguments_of
from perdure_node.core.calls import Call
from perdure_node.core.cancelling import Stop
from perdure_node.core.events import Effect
from perdure_node.core.partition import Partition
from perdure_node.core.run import Hear, Run, Wake
from perdure_node.core.run_rows import CANCELLED, COMPLETED, FAILED, StartPayload
from perdure_node.retries import failure_of
from perdure_node.runs.turn import RunTurn
from perdure_node.surroundings import Surroundings

__all__ = ["RunDriver"]

_log = logging.getLogger("perdure.node")

_UNKNOWN: Final = "its code is gone: there is no workflow {}"


class RunDriver:
    """Drives the runs of one node."""

    def __init__(
        self,
        node: Surroundings,
    ) -> None:
        limits = dataclasses.replace(node.limits, steps_max=node.limits.run_steps_max)
        self._node = node._replace(limits=limits)
        self._limits = limits
        self._flush = node.flush
        self._loop = asyncio.get_running_loop()
        self._resting: OrderedDict[RunTurn, None] = OrderedDict()
        """Runs whose code waits in memory, the longest first."""
        self._graces: dict[Call, asyncio.TimerHandle] = {}
        self._warned: set[str] = set()
        self._closing = False

    def begin(self, partition: Partition, call: Call) -> None:
        """Run the code of a run: from the start, with the journal that it has."""
        workflow = find_workflow(call.request.method)
        if workflow is None:
            reason = _UNKNOWN.format(call.request.method)
            self._park(partition, call, reason, *pack_error(Code.UNKNOWN_TYPE, (reason,)))
            return
        turn = RunTurn(self, workflow, partition, call, self._node)
        earlier: RunTurn | None = call.turn
        if earlier is not None and earlier.given_up:
            turn.take_over(earlier)
            earlier.over = True
        call.turn = turn
        try:
            args, kwargs = arguments_of(workflow.method, arguments_request(call.request))
        except (BadArguments, BadPayload) as error:
            self._end(turn, FAILED, *pack_error(code_of(error), error.args))
            return
        turn.begin(args, kwargs)

    def hear(self, partition: Partition, output: Hear | Wake | Stop) -> None:
        """Let a run hear of something."""
        call = output.call
        turn: RunTurn | None = call.turn
        if isinstance(output, Stop) and output.kill:
            if call.key in partition.runs.live:
                self._kill(partition, call, output.reason)
            return
        if turn is None or turn.over:
            return  # It will hear of it when it begins.
        steps = turn.steps
        if isinstance(output, Wake):
            steps.wake()
        steps.grown()
        turn.hear()

    def soon(self, work: Callable[[], None]) -> None:
        """Do something in the next tick of the node's loop."""
        self._loop.call_soon(work)

    def came_to_rest(self, turn: RunTurn) -> None:
        """Take word that a run's code has gone as far as it can."""
        call, main = turn.admitted, turn.main
        assert main is not None
        if turn.broken is not None:
            error = turn.broken
            self._resting.pop(turn, None)
            turn.drop()
            self._park(turn.partition, call, error.reason, error.code, error.payload)
        elif main.done():
            if not turn.steps.is_working:
                self._finish(turn)
        else:
            self._rest(turn)
        self._flush(turn.partition)

    def _rest(self, turn: RunTurn) -> None:
        call, resting, limits = turn.admitted, self._resting, self._limits
        run: Run = call.run
        if not run.has_waited and not turn.steps.is_claiming:
            turn.runs.waits(call)
        progress = call.progress
        assert progress is not None
        if len(progress.events) >= limits.run_events_warn:
            self._warn(turn)
        resting[turn] = None
        resting.move_to_end(turn)
        while len(resting) > limits.runs_in_memory_max:
            oldest, _ = resting.popitem(last=False)
            if not oldest.over and not oldest.given_up:
                oldest.drop()

    def _warn(self, turn: RunTurn) -> None:
        key = turn.admitted.key
        if key.id not in self._warned:
            self._warned.add(key.id)
            _log.warning(
                "the run %s of %s has %d events, which a replay has to go through: "
                "let it `continue_as_new` now and then",
                key.id, turn.workflow.name, self._limits.run_events_warn,
            )  # fmt: skip

    def _finish(self, turn: RunTurn) -> None:
        """End a run whose function has returned or raised."""
        main = turn.main
        assert main is not None
        error = asyncio.CancelledError() if main.cancelled() else main.exception()
        if turn.loop.tasks:
            turn.end_tasks()
        if isinstance(error, ContinueAsNew):
            self._continue(turn, error)
        elif error is not None:
            gone = turn.cancelled is not None and isinstance(error, asyncio.CancelledError)
            self._end(turn, CANCELLED if gone else FAILED, *failure_of(turn, error))
        else:
            try:
                self._end(turn, COMPLETED, 0, self._encoded(turn, main.result()))
            except (ResultNotStorable, ResultTooLarge) as failed:
                self._end(turn, FAILED, *pack_error(code_of(failed), failed.args))

    def _encoded(self, turn: RunTurn, result: object) -> bytes:
        what = f"the workflow {turn.workflow.name}"
        try:
            payload = codec.encode(result)
        except codec.NotEncodable as error:
            raise ResultNotStorable(f"{what}{error.path}", error.problem) from None
        if len(payload) > self._limits.result_bytes_max:
            raise ResultTooLarge(what, len(payload), self._limits.result_bytes_max)
        return payload

    def _end(self, turn: RunTurn, status: str, code: int, payload: bytes) -> None:
        call = turn.admitted
        made, calls = turn.steps.leave(failed=False)
        releases = turn.steps.releases()
        turn.over = True
        self._forget(turn)
        effects: list[Effect] = [*made, *calls, *releases]
        self._note_time(turn.partition)
        turn.runs.ended(call, status, code, payload, turn.taken, effects)
        turn.depart([*made, *releases])
        turn.end_loop()
        self._flush(turn.partition)

    def _continue(self, turn: RunTurn, error: ContinueAsNew) -> None:
        """Let a run go on from the start of its function, with other arguments."""
        call = turn.admitted
        try:
            packed = turn.workflow.method.pack(*error.arguments)
        except BadArguments as refused:
            self._end(turn, FAILED, *pack_error(code_of(refused), refused.args))
            return
        made, calls = turn.steps.leave(failed=False)
        turn.over = True
        self._forget(turn)
        turn.runs.continued(call, packed, turn.taken, [*made, *calls])
        turn.depart(made)
        turn.end_loop()
        call.turn = None
        self._loop.call_soon(self._begin_anew, turn.partition, call)
        self._flush(turn.partition)

    def _begin_anew(self, partition: Partition, call: Call) -> None:
        if call.key in partition.runs.live and partition.stopped is None and not self._closing:
            self.begin(partition, call)
            self._flush(partition)

    def _forget(self, turn: RunTurn) -> None:
        self._resting.pop(turn, None)
        self._drop_grace(turn.admitted)

    def _drop_grace(self, call: Call) -> None:
        grace = self._graces.pop(call, None)
        if grace is not None:
            grace.cancel()

    # Runs that do not go on by themselves.

    def _park(
        self, partition: Partition, call: Call, reason: str, code: int, payload: bytes
    ) -> None:
        _log.error("the run %s cannot go on: %s", call.key.id, reason)
        partition.journalled.park_run(call, reason)
        partition.runs.parked(call, code, payload)
        cancelled = call.run.journal.cancelled
        if cancelled is not None:
            # Whoever has cancelled it was told that it ends, and does not look again.
            self._end_in_time(partition, call, cancelled)
        self._flush(partition)

    def cancelled(self, turn: RunTurn, reason: str) -> None:
        """See that a run that was cancelled does end."""
        self._end_in_time(turn.partition, turn.admitted, reason)

    def _end_in_time(self, partition: Partition, call: Call, reason: str) -> None:
        if call not in self._graces:
            grace_s = self._limits.run_grace_ms / 1_000
            self._graces[call] = self._loop.call_later(
                grace_s, self._kill_late, partition, call, reason
            )

    def _kill_late(self, partition: Partition, call: Call, reason: str) -> None:
        self._graces.pop(call, None)
        if partition.runs.live.get(call.key) is call.run and not self._closing:
            if partition.stopped is not None:
                return
            _log.warning("the run %s has not cleaned up in time and is ended", call.key.id)
            self._kill(partition, call, reason)

    def _kill(self, partition: Partition, call: Call, reason: str) -> None:
        turn: RunTurn | None = call.turn
        error = pack_error(Code.CANCELLED, (str(call.key), reason))
        if turn is None or turn.over:
            self._drop_grace(call)
            self._note_time(partition)
            partition.runs.ended(call, CANCELLED, *error, (), ())
        else:
            if turn.given_up:
                turn.given_up = False
            self._end(turn, CANCELLED, *error)
        self._flush(partition)

    def _note_time(self, partition: Partition) -> None:
        """See that the partition's time is now: it may be that of a record long ago."""
        memory = partition.memory
        memory.time_ms = max(memory.time_ms, self._node.performer.wall_ms())

    def close(self) -> None:
        """Let all runs go: they go on after the next start."""
        self._closing = True
        for grace in self._graces.values():
            grace.cancel()
        for turn in list(self._resting):
            if not turn.over and not turn.given_up:
                turn.drop()
        self._resting.clear()


def arguments_request(request: Request) -> Any:
    """Return the request of a run with the arguments of its function alone."""
    arguments = StartPayload.of(request).arguments
    return request.with_arguments(int(Kind.CALL), arguments)
