"""The steps of a run: those of any method, and functions, hooks and replies.

A run's loop is driven until nothing is ready, so between two results there is nothing to wait
for: what one causes has happened when the next is given.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from perdure import codec
from perdure.context import StepResult
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.step_future import StepFuture
from perdure.workflows.metadata import StepMetadata, current_step
from perdure.workflows.steps import StepFunction
from perdure_node.core.events import (
    CALL,
    Cancelled,
    Checkpoint,
    Chunk,
    Done,
    OutboxEntry,
    Patched,
    Received,
    Scheduled,
)
from perdure_node.core.run_journal import CLAIM, DISPOSE, HOOK, REPLY, claim_name
from perdure_node.performer import Performer
from perdure_node.run_function import run_function
from perdure_node.runs.attempts import Attempts
from perdure_node.runs.hook import RunHook
from perdure_node.runs.shown import shown_arguments
from perdure_node.steps import Steps

if TYPE_CHECKING:
    from perdure_node.runs.turn import RunTurn

__all__ = ["HOOK_TYPE", "RunSteps"]

WRITE = "write"
"""The kind of step that writes to a stream. Its name is the stream's."""

_SHOWN_BYTES = 1_024
"""A reply up to this stays in the journal, for those who look at the run."""

HOOK_TYPE = "hook"
"""The type of the objects that know which run holds a token."""


class RunSteps(Steps):
    """The steps of one run of a workflow's code."""

    def __init__(self, turn: RunTurn, performer: Performer, saves: int = 0) -> None:
        super().__init__(turn, performer, saves)
        self.turn = turn
        """Whose steps these are."""
        self._loop = cast("Any", turn.loop)
        self._attempts = Attempts(self, performer)
        self._got = 0
        """Payloads that the run has heard of."""
        self.hooks: dict[str, RunHook] = {}
        """By token, those too that it has not created yet and that have payloads."""
        self._claiming: set[str] = set()
        self._patches: dict[str, bool] = {}
        self._carried: dict[str, str] = {}
        """Claims of tokens that it has since before it was continued as new."""

    def serve(self, turn: Any) -> None:
        """Go on for a run that begins anew, because this one's code was dropped."""
        super().serve(turn)
        self.turn = turn
        self._loop = cast("Any", turn.loop)
        self._waiting = {}
        self._values = []
        self._got = 0
        self.hooks, self._claiming, self._carried = {}, set(), {}
        self._patches = {}

    def drop(self) -> None:
        """Take word that the run's code is dropped: what it has begun goes on."""
        self._in_flight |= {step for step in self._waiting if not self._replay.is_done(step)}
        self._waiting = {}

    # What the run hears.

    def pump(self) -> None:
        """Let the run hear what its journal has for it."""
        self.turn.hear()

    def hear_next(self) -> bool:
        """Give the run the next thing that it has not heard. False: there is none."""
        event = self._replay.next_of_run()
        if event is None:
            return False
        kind = type(event)
        if kind is Done:
            self.give(event)  # type: ignore[arg-type]  # mypy does not know `kind is`
        elif kind is Received:
            self._deliver(event)  # type: ignore[arg-type]
        elif isinstance(event, Checkpoint):
            self._carried = {token: claim for token, _, claim in event.hooks}
            for row in event.received:
                self._deliver(Received(*row))
        elif isinstance(event, Cancelled):
            self.turn.cancel(event.reason)
        return True

    def give(self, event: Done) -> None:
        """Give the run the result of a step."""
        future = self._waiting.pop(event.step, None)
        self._in_flight.discard(event.step)
        if future is not None and not future.done():
            future.set_result(StepResult(event.code, event.payload))

    def _deliver(self, event: Received) -> None:
        self._got += 1
        self._hook(event.token).deliver((self._got, event.payload))

    def _hook(self, token: str) -> RunHook:
        hook = self.hooks.get(token)
        if hook is None:
            hook = self.hooks[token] = RunHook(self.turn, token)
        return hook

    def _nothing_runs(self) -> bool:
        return not self.turn.is_driven and super()._nothing_runs()

    @property
    def asked_count(self) -> int:
        """How many steps the run has asked for."""
        return self._replay.asked

    @property
    def is_claiming(self) -> bool:
        """Tell whether tokens of its hooks are not its own yet."""
        return bool(self._claiming)

    @property
    def is_working(self) -> bool:
        """Tell whether functions run that have to end before the run does."""
        return bool(self._working)

    def check_heard(self) -> None:
        """See that the run, which waits, has heard all that its journal has for it.

        Raises:
            CannotGoOn: There is more, for steps that it has not asked for.
        """
        if (left := self._replay.left()) is not None:
            asked = "nothing more: it waits, or has returned"
            raise self._other(left.step, f"{left.kind} {left.name}", asked)

    # What the run asks for.

    def function(self, function: StepFunction[..., Any], args: bytes) -> asyncio.Future[StepResult]:
        """Run a function of the user's, until it succeeds or has failed too often."""
        replay = self._replay
        if replay.coming() is not None:
            self._check_same("step", function.name, args, lambda recorded: recorded)
        perform = functools.partial(self._attempts.begin, function)
        future = self._ask("step", function.name, args, perform)
        if not replay.is_done(replay.asked):
            # From now on, and not only once it is durable and begins.
            self._working.add(replay.asked)
        return future

    def call(self, entry: OutboxEntry, name: str) -> StepFuture[StepResult]:
        """Call another object, or start or tell another run."""
        self._check_same(CALL, name, entry.arguments, lambda call: OutboxEntry(*call).arguments)
        return super().call(entry, name)

    def service(
        self, service: str, method: str, payload: bytes | None
    ) -> asyncio.Future[StepResult]:
        """Call a service."""
        self._check_same("service", f"{service}.{method}", payload, lambda data: data[2])
        return super().service(service, method, payload)

    def _check_same(
        self,
        kind: str,
        name: str,
        given: bytes | None,
        given_in: Callable[[Any], bytes | None],
    ) -> None:
        """See that a step that is asked for again is given the same: else its result is another's.

        Args:
            kind: Of the step.
            name: Likewise. Whether the journal has a step of this kind and name, `_ask` finds out.
            given: What the code gives it now.
            given_in: Returns what it was given, from what is recorded of it.

        Raises:
            CannotGoOn: It was given something else.
        """
        recorded = self._replay.coming()
        if recorded is None or (recorded.kind, recorded.name) != (kind, name):
            return
        before = given_in(recorded.data)
        if before != given:
            what = name if kind == CALL else f"{kind} {name}"
            asked = f"{what}{shown_arguments(given)}"
            raise self._other(recorded.step, f"{what}{shown_arguments(before)}", asked)

    def hook(self, token: str, schema: str, described: bytes) -> RunHook:
        """Create a hook; the same token again means the same one."""
        hook = self._hook(token)
        if hook.is_created and not hook.is_disposed:
            return hook
        if hook.is_disposed:
            hook = self.hooks[token] = RunHook(self.turn, token)
        hook.is_created = True
        step, recorded = self._number(HOOK, token)
        carried = self._carried.pop(token, None)
        claim = carried or f"{self.turn.generation}.{step}"
        if recorded is None:
            self.turn.record(Scheduled(step, HOOK, token, [schema, claim]))
            self.grown()
        else:
            claim = recorded.data[1]
        if carried is None:
            self._claim(hook, claim, described)
        return hook

    def _claim(self, hook: RunHook, claim: str, described: bytes) -> None:
        turn, token = self.turn, hook.token
        args = codec.encode([[turn.admitted.key.id, claim, described], {}])
        entry = turn.entry(ObjectKey(HOOK_TYPE, token), Kind.CALL, CLAIM, args)
        # Not checked: a hook may take other payloads than when it was made.
        future = super().call(entry, claim_name(token))
        self._claiming.add(token)

        def ended(_: asyncio.Future[StepResult]) -> None:
            self._claiming.discard(token)

        future.add_done_callback(ended)
        hook.claimed_by(future)

    def reply(self, token: str, place: int, encoded: Callable[[int], bytes]) -> None:
        """Answer a payload."""
        turn = self.turn
        encoding = turn.run.journal.received[place - 1].encoding
        payload = encoded(encoding)
        step, recorded = self._number(REPLY, token)
        if recorded is None:
            shown = payload if len(payload) <= _SHOWN_BYTES else None
            events = self.take_values()
            # A tuple, which the garbage collector lets go of: a run keeps thousands of replies.
            events.append(Scheduled(step, REPLY, token, (place, encoding, shown)))
            turn.runs.replied(turn.admitted, events, place, payload)
            self._replay.follow(None, len(events))
            turn.flush()

    def dispose(self, hook: RunHook) -> None:
        """Close a hook, and let go of its token."""
        turn = self.turn
        step, recorded = self._number(DISPOSE, hook.token)

        def record(places: list[int]) -> None:
            if recorded is None:
                # What the run has just heard may be that the token is another one's.
                turn.flush_values()
                row = turn.run.journal.hooks.get(hook.token)
                effects = [] if row is None else [turn.release(row.token, row.claim)]
                event = Scheduled(step, DISPOSE, hook.token, None)
                turn.runs.closed(turn.admitted, event, places, effects)
                self.grown()
                turn.depart(effects)
                turn.flush()

        hook.dispose(record)

    def run(self, name: str, function: Callable[[], Any]) -> asyncio.Future[StepResult]:
        """Run a function once, which may write to streams."""

        def perform(step: int, _: Any) -> None:
            self.turn.rewind(step, 1)
            self._start(step, self._run_writing(step, name, function))

        return self._ask("run", name, None, perform)

    async def _run_writing(self, step: int, name: str, function: Callable[[], Any]) -> StepResult:
        turn = self.turn
        id = f"{turn.context.call_id}/{step}"
        metadata = StepMetadata(id, name, 1, self._performer.wall_ms())
        current_step.set((metadata, turn.stream_port(step, 1)))
        return await run_function(turn, function)

    def patched(self, name: str) -> bool:
        """Tell whether the run takes a way that its code did not have at first."""
        known = self._patches.get(name)
        if known is None:
            known = name in self.turn.run.journal.patched
            if not known and not self._replay.is_history:
                known = True
                self.turn.record(Patched(name))
                self.turn.flush()
            self._patches[name] = known
        return known

    def write(self, stream: str, chunk: bytes) -> None:
        """Append a chunk to a stream, once."""
        turn = self.turn
        step, recorded = self._number(WRITE, stream)
        if recorded is None:
            index = turn.partition.memory.streams.length(turn.admitted.key.id, stream)
            event = Scheduled(step, WRITE, stream, None)
            turn.record(event, effects=[Chunk(stream, index, chunk)])
            turn.written(stream)

    def releases(self) -> list[OutboxEntry]:
        """Return what lets go of all tokens, at the end of the run."""
        rows = self.turn.run.journal.hooks.values()
        return [self.turn.release(row.token, row.claim) for row in rows]

    def take_values(self) -> list[Any]:
        """Return the values that were decided and are in no record, and forget them."""
        values, self._values = self._values, []
        return values

    def record_ahead(self) -> None:
        """Record what the run has heard ahead, unless something that it did has."""
        if self._values and self._replay.is_ahead:
            self.turn.flush_values()

    # For the attempts.

    def ended(self, step: int, result: StepResult) -> None:
        """Take the result of a function."""
        self._done(step, result)

    def begun(self, step: int) -> None:
        """Note that a function runs, and has to end before the run does."""
        self._working.add(step)

    def over(self, step: int) -> None:
        """Note that a function does not run any more."""
        self._working.discard(step)

    def wake(self) -> int:
        """End all sleeps. Returns how many there were."""
        sleeping = [s.step for s in self._replay.open_steps() if s.kind == "sleep"]
        for step in sleeping:
            self._done(step, StepResult(0, codec.encode(None)))
        return len(sleeping)

    def _schedule(
        self, step: int, kind: str, name: str, made: Any, perform: Callable[[int, Any], None]
    ) -> None:
        super()._schedule(step, kind, name, made, perform)
        if not self.turn.is_driven:
            # What asks is not the run's code.
            self.pump()

    def _done(
        self,
        step: int,
        result: StepResult,
        token: Callable[[], None] | None = None,
        *,
        nothing_runs: bool = False,
    ) -> None:
        # A sleep that somebody has ended is over again when its time comes.
        if self._replay.is_done(step):
            return
        turn = self.turn
        if (
            not turn.can_hear()
            or len(result.payload) > self._limits.result_bytes_max
            or not self._replay.hear_ahead(event := Done(step, *result))
        ):
            super()._done(step, result, token, nothing_runs=nothing_runs)
            return
        # Its record also holds what the run does then, up to its next wait.
        self._values.append(event)
        turn.hear(event)
        if token is not None:
            turn.partition.hold_all(token)
            turn.flush()
