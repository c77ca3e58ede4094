"""The code of one run of a workflow, as far as it has come in this process.

It is driven whenever the run's journal says something that it has not heard. It may be dropped
while it waits: then the next thing to hear begins it anew, and it is told all of the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, cast

from perdure.bodies import pack_error
from perdure.context import StepResult, current_turn
from perdure.errors import Code
from perdure.frames import Encoding, Kind
from perdure.ids import ObjectKey
from perdure.workflows.definitions import WorkflowFunction
from perdure.workflows.metadata import WorkflowMetadata
from perdure.workflows.steps import StepFunction
from perdure_node.core.calls import Call
from perdure_node.core.events import Chunk, Done, Effect, Event, OutboxEntry, Wrote
from perdure_node.core.journalled import SavedPart
from perdure_node.core.partition import Partition
from perdure_node.core.run import Run
from perdure_node.core.run_journal import RunJournal
from perdure_node.core.runs import Runs
from perdure_node.runs.loop import ForeignAwait, RunLoop
from perdure_node.runs.run_steps import HOOK_TYPE, RunSteps
from perdure_node.runs.stream_port import StreamPort
from perdure_node.signals import CannotGoOn, OwnershipLost
from perdure_node.surroundings import Surroundings
from perdure_node.turn import MethodTurn

if TYPE_CHECKING:
    from perdure_node.runs.driver import RunDriver
    from perdure_node.runs.hook import RunHook

__all__ = ["RunTurn"]


class RunTurn(MethodTurn):
    """A `workflows.turn.RunTurn` over a partition's run."""

    steps_type = RunSteps
    is_run = True

    def __init__(
        self,
        driver: RunDriver,
        workflow: WorkflowFunction[..., Any],
        partition: Partition,
        call: Call,
        node: Surroundings,
    ) -> None:
        self.driver = driver
        self.workflow = workflow
        self.loop = RunLoop(call.key.id, self._refused)
        self.main: asyncio.Task[Any] | None = None
        self.taken: set[int] = set()
        """The places of the payloads that the code has got."""
        self.is_driven = False
        """Whether the run's code is being driven now, on its own loop."""
        self.runs: Runs = partition.runs
        """The rules for the runs of its partition."""
        self._context_vars = copy_context()
        self._context_vars.run(current_turn.set, self)
        self.run: Run = call.run
        self.run.taken = 0
        self.generation = self.run.journal.generation
        super().__init__(partition, call, None, node)

    @property
    def journal(self) -> RunJournal:
        """What the run's events say."""
        return self.run.journal

    @property
    def steps(self) -> RunSteps:
        """The steps of this run: there are always some."""
        return cast("RunSteps", self._steps)

    @property
    def metadata(self) -> WorkflowMetadata:
        """What the run is."""
        row = self.run.row
        return WorkflowMetadata(
            self.admitted.key.id, row.workflow, row.version, row.started_ms, row.parent or None
        )

    @property
    def _may_have_steps(self) -> bool:
        return True

    # How it is driven.

    def begin(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Call the workflow's function."""
        coroutine = self.workflow.method.invoke(None, self.context, args, kwargs)
        self.main = self.loop.create_task(coroutine, context=self._context_vars)
        self.hear()

    def can_hear(self) -> bool:
        """Tell whether the run's code waits, and can hear of something now."""
        return not (
            self.is_driven
            or self.given_up
            or self.over
            or self.main is None
            or self.loop.ready
            or self.partition.stopped is not None
        )

    def hear(self, ahead: Done | None = None) -> None:
        """Let the code hear what it has not heard, and go on up to its next wait.

        Args:
            ahead: A result that it hears first, and that is in no record yet: in the next one
                that the code makes, else in one of its own.
        """
        if self.over or self.is_driven or self.partition.stopped is not None:
            return
        if self.given_up:
            if self.admitted.parked is None:
                self.driver.begin(self.partition, self.admitted)
            return
        driving = self.driving
        outer = driving.outer()
        driving.begin(self.partition.number, self.admitted)
        self.is_driven = True
        try:
            self._drive(ahead)
        except CannotGoOn as error:
            self.broken = error
        finally:
            self.is_driven = False
            driving.end(outer)
        self.driver.came_to_rest(self)

    def _drive(self, ahead: Done | None) -> None:
        main, steps, loop = self.main, self.steps, self.loop
        assert main is not None
        if ahead is not None:
            try:
                steps.give(ahead)
                loop.drive()
            finally:
                steps.record_ahead()
        elif loop.ready:
            loop.drive()
        while self.broken is None and not main.done() and steps.hear_next():
            loop.drive()
        if self.broken is None:
            steps.check_heard()

    def flush(self) -> None:
        """Tell the node that the partition has something to do: once, when the code rests."""
        if not self.is_driven:
            self._node.flush(self.partition)

    def cancel(self, reason: str) -> None:
        """End the run's code, which may clean up."""
        self.cancelled = reason
        assert self.main is not None
        self.main.cancel()
        self.driver.cancelled(self, reason)

    def drop(self) -> None:
        """Let the code go; what it has begun goes on."""
        self.given_up = True
        self.steps.drop()
        self.end_loop()

    def end_loop(self) -> None:
        """Let go of the code, wherever it is."""
        self.loop.drop(self._context_vars)
        self.main = None

    def end_tasks(self) -> None:
        """Cancel what the run's code has left running, and let that clean up."""
        self.is_driven = True
        try:
            for task in self.loop.tasks:
                task.cancel()
            self.loop.drive()
        finally:
            self.is_driven = False

    def _refused(self, error: ForeignAwait) -> BaseException:
        """Stop a run that waits for what it cannot: a fixed program may go on with it."""
        args = (str(self.admitted.key), self.steps.asked_count, "a durable wait", str(error))
        code, payload = pack_error(Code.NON_DETERMINISTIC, args)
        self.broken = CannotGoOn(code, payload, str(error))
        return self.broken

    def check_step(self) -> None:
        """Refuse a step where there can be none: a run that goes on may ask for one anywhere."""
        if self.given_up or self.over:
            self._check_alive()
        if self.broken is not None:
            raise self.broken
        if self.partition.stopped is not None:
            raise OwnershipLost(self.partition.stopped.code.name)

    def _check_may_call(self, kind: Kind) -> None:
        """Refuse calls of code that is dropped, too."""
        self._check_alive()
        super()._check_may_call(kind)

    def _check_alive(self) -> None:
        if self.given_up or self.over:
            raise CannotGoOn(int(Code.CANCELLED), b"", "the code of this run was let go of")

    # What the run's code asks for.

    def step_function(
        self, function: StepFunction[..., Any], args: bytes
    ) -> asyncio.Future[StepResult]:
        """See `workflows.turn.RunTurn`."""
        return self.steps.function(function, args)

    def hook_of(self, token: str) -> RunHook | None:
        """See `workflows.turn.RunTurn`."""
        self._check_alive()
        hook = self.steps.hooks.get(token)
        return hook if hook is not None and hook.is_created and not hook.is_disposed else None

    def create_hook(self, token: str, schema: str, described: bytes) -> RunHook:
        """See `workflows.turn.RunTurn`."""
        return self.steps.hook(token, schema, described)

    def dispose_hook(self, hook: RunHook) -> None:
        """See `workflows.turn.RunTurn`."""
        if not hook.is_disposed:
            self.steps.dispose(hook)

    # For hooks.

    def took(self, place: int, before: int | None) -> None:
        """Take word that the code has got a payload, and leaves the one before unanswered."""
        if self.given_up:
            return
        self.taken.add(place)
        self.run.taken += 1
        if before is not None:
            self.forgo(before)

    def forgo(self, place: int) -> None:
        """Tell the sender of a payload that there will be no reply."""
        self.flush_values()
        self.runs.unanswered(self.admitted, [place])
        self.steps.grown()
        self.flush()

    def reply(self, token: str, place: int, encoded: Callable[[int], bytes]) -> None:
        """Answer a payload."""
        self.steps.reply(token, place, encoded)

    # Records.

    def schedule(
        self,
        events: Sequence[Event],
        saved: SavedPart | None,
        sends: Sequence[OutboxEntry],
        perform: Callable[[], None],
    ) -> None:
        """Have a step recorded; `perform` is called when it is durable, behind these sends."""
        if sends:
            super().schedule(events, saved, sends, perform)
        else:
            # A run has no state that could have been saved before.
            self.runs.add(self.admitted, events, token=perform)
            self.flush()

    def record(self, *events: Event, effects: Sequence[Effect] = ()) -> None:
        """Commit some events of the run."""
        self.runs.add(self.admitted, [*self.steps.take_values(), *events], effects)
        self.steps.grown()

    def flush_values(self) -> None:
        """Commit the values that were decided: what follows may tell of them."""
        values = self.steps.take_values()
        if values:
            self.runs.add(self.admitted, values)
            self.steps.grown()

    def entry(self, target: ObjectKey, kind: Kind, method: str, arguments: bytes) -> OutboxEntry:
        """Return a call of the runtime's own, which waits for its turn for ever."""
        made = self._entry(target, kind, method, arguments, None)
        return made._replace(chain=[], encoding=int(Encoding.MSGPACK))

    def release(self, token: str, claim: str) -> OutboxEntry:
        """Return the call that lets go of a token."""
        from perdure import codec

        args = codec.encode([[self.admitted.key.id, claim], {}])
        entry = self.entry(ObjectKey(HOOK_TYPE, token), Kind.CALL, "release", args)
        sequence = self.partition.memory.underway.next_sequence(entry.partition)
        return entry._replace(sequence=sequence)

    def patched(self, name: str) -> bool:
        """See `workflows.turn.RunTurn`."""
        return self.steps.patched(name)

    # Streams.

    def write(self, stream: str, chunk: bytes) -> None:
        """See `workflows.turn.RunTurn`."""
        self.steps.write(stream, chunk)

    def rewind(self, step: int, attempt: int) -> None:
        """Take back what earlier attempts of a step have written."""
        key = self.admitted.key
        for (writer, stream), wrote in list(self.journal.wrote.items()):
            if writer != step:
                continue
            index = self.partition.memory.streams.length(key.id, stream)
            void = Wrote(step, attempt, stream, -1)
            self.record(void, effects=[Chunk(stream, index, b"", wrote.first)])
            self.written(stream)

    def stream_port(self, step: int, attempt: int) -> StreamPort:
        """Return where an attempt of a step writes to."""
        return StreamPort(self, step, attempt)

    def written(self, stream: str) -> None:
        """Tell those who follow a stream that there is more."""
        self.runs.written(self.admitted, stream)
        self.flush()
