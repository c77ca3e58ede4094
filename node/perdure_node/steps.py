"""The steps of one run of one method: asked for, performed, and given back in order.

Between two results that are given to a method, and before the first, the event loop runs idle as
far as the method is concerned, live and in every later run: so a race has the same winner each
time.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

from perdure import codec
from perdure.bodies import pack_error
from perdure.context import StepResult
from perdure.errors import Code, TooManySteps
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.step_future import StepFuture
from perdure.step_waiter import StepWaiter
from perdure_node.core.events import CALL, Cancelled, Done, Effect, Event, OutboxEntry, Scheduled
from perdure_node.core.replay import Mismatch, Replay
from perdure_node.performer import Performer
from perdure_node.run_function import run_function
from perdure_node.signals import CannotGoOn, other_step

if TYPE_CHECKING:
    from perdure_node.turn import MethodTurn

__all__ = ["QUIET_ROUNDS", "Steps"]

QUIET_ROUNDS: Final = 16
"""Rounds of the loop between two results: what one of them causes has happened by then. Wrapping
tasks, `gather` and task groups take one or two each."""

_HELD_OPEN: Final = frozenset(("run", "service"))
"""Kinds of steps that have to end before the method does."""


class Steps:
    """The steps of one run."""

    # Not in `__init__`: many runs change none of them.
    _finished: asyncio.Future[None] | None = None
    _quiet = True
    _fresh = True
    _kept = 0
    """How many of `_pending` were asked for before the last `save()`: an exception leaves them."""

    def __init__(self, turn: MethodTurn, performer: Performer, saves: int = 0) -> None:
        """Begin.

        Args:
            turn: Whose steps these are.
            performer: Makes them.
            saves: How many `save()` this run has made by now.
        """
        progress = turn.admitted.progress
        self._turn = turn
        self._performer = performer
        self._loop = turn.rounds.loop
        self._limits, self._driving = turn.limits, turn.driving
        self._replay = Replay([] if progress is None else progress.events, saves)
        self._waiting: dict[int, StepFuture[StepResult]] = {}
        self._calls: dict[int, OutboxEntry] = {}
        """Calls to other objects that are not answered."""
        self._unasked: dict[int, OutboxEntry] = {}
        """Those of an earlier run that this one has not come to."""
        if progress is not None:
            for event in self._replay.open_steps():
                if event.kind == CALL:
                    self._unasked[event.step] = OutboxEntry(*event.data)
        self._in_flight: set[int] = set()
        """Steps that an earlier run has asked for in this process, and that may not have ended."""
        self._working: set[int] = set()
        """Other steps that are being performed, and have to end before the method does."""
        self.asked: dict[int, float] = {}
        """When this run asked for steps: the time of the loop."""
        self._pending: list[tuple[Event, Effect]] = []
        """Made with the next commit of the state: sends, timers."""
        self._values: list[Event] = []
        """Made with the next record, whatever it is: values that were decided."""

    # What a method asks for.

    def call(self, entry: OutboxEntry, name: str) -> StepFuture[StepResult]:
        """Call another object. The entry's sequence is given here."""
        return self._ask(CALL, name, entry, self._perform_call)

    def _perform_call(self, step: int, data: Any) -> None:
        recorded = OutboxEntry(*data)
        future = self._performer.send(self._turn.partition.number, recorded)
        future.add_done_callback(functools.partial(self._answered, step, recorded))

    def read(
        self,
        target: ObjectKey,
        kind: Kind,
        method: str,
        have: list[int] | None,
        arguments: bytes = b"",
    ) -> StepFuture[StepResult]:
        """Ask another object's partition for something that may be asked any number of times."""
        data = [*target, int(kind), method, have, arguments]
        return self._ask("read", f"{kind.name.lower()} {target}", data, self._perform_read)

    def _perform_read(self, step: int, data: Any) -> None:
        future = self._performer.read(ObjectKey(data[0], data[1]), Kind(data[2]), *data[3:])
        future.add_done_callback(functools.partial(self._read, step))

    def service(
        self, service: str, method: str, payload: bytes | None
    ) -> asyncio.Future[StepResult]:
        """Call a service."""
        data = [service, method, payload]
        return self._ask("service", f"{service}.{method}", data, self._perform_service)

    def _perform_service(self, step: int, data: Any) -> None:
        turn, driving = self._turn, self._driving
        # Not the caller's key: others may be called with the same.
        key = f"{turn.context.call_id}/{step}"
        name, method, payload = data
        at_once = self._nothing_runs()
        outer = driving.outer()
        driving.begin(turn.partition.number, turn.admitted)
        turn.is_noted = True
        try:
            work = self._performer.service(name, method, payload, key, turn.chain, at_once=at_once)
            if type(work) is StepResult:
                self._ended(step, work, nothing_runs=True)
            else:
                self._start(step, cast("Coroutine[Any, Any, StepResult]", work))
        finally:
            turn.is_noted = False
            driving.end(outer)

    def run(self, name: str, function: Callable[[], Any]) -> asyncio.Future[StepResult]:
        """Run a function."""

        def perform(step: int, _: Any) -> None:
            self._start(step, run_function(self._turn, function))

        return self._ask("run", name, None, perform)

    def sleep(self, until_ms: int) -> asyncio.Future[StepResult]:
        """Wait for a time of the wall clock."""
        return self._ask("sleep", "", until_ms, self._perform_sleep)

    def _perform_sleep(self, step: int, data: Any) -> None:
        done = functools.partial(self._done, step, StepResult(0, codec.encode(None)))
        self._performer.wake_at(data, done)

    def value(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Decide a value once."""
        step, recorded = self._number("value", name)
        if recorded is not None:
            decided: bytes = recorded.data
            return decided
        made = make()
        self._values.append(Scheduled(step, "value", name, made))
        return made

    def commit_with(self, kind: str, name: str, make: Callable[[], tuple[Any, Effect]]) -> Any:
        """Do something together with the next commit of the state, once.

        Args:
            kind: Of the step.
            name: Of what it does.
            make: Returns what the method is told, and what is done.
        """
        step, recorded = self._number(kind, name)
        if recorded is not None:
            return recorded.data
        told, effect = make()
        self._pending.append((Scheduled(step, kind, name, told), effect))
        return told

    def awaits(self, step: int) -> bool:
        """Tell whether the method waits for a step that has no result."""
        future = self._waiting.get(step)
        return future is not None and future.is_awaited

    # At the end of the method.

    def finished(self) -> asyncio.Future[None] | None:
        """Return what to wait for before the method is over; None: nothing."""
        if not self._working:
            return None
        self._finished = self._loop.create_future()
        return self._finished

    def check_returned(self) -> None:
        """See that the method, which has returned, has asked for all that is in its journal.

        Raises:
            CannotGoOn: It has not.
        """
        if (left := self._replay.left()) is not None:
            raise self._other(left.step, f"{left.kind} {left.name}", "no step: it has returned")

    def leave(self, *, failed: bool) -> tuple[list[Effect], list[OutboxEntry]]:
        """Return what the method leaves behind.

        Returns:
            What is made with its last commit, which an exception undoes; and its calls to other
            objects of which nobody awaits the answer, which are on their way.
        """
        calls, unasked = [*self._calls.values()], self._unasked.values()
        if self._turn.killed:
            # The calls that it waits for end too. That is on its way until they have.
            return [c._replace(kind=int(Kind.CANCEL)) for c in (*calls, *unasked)], []
        pending = self._pending[: self._kept] if failed else self._pending
        return [*[effect for _, effect in pending], *unasked], calls

    def saved(self) -> bool:
        """Note a `save()`. False: the journal has it already."""
        if not self._replay.save():
            # What comes next in the journal may have waited for this.
            self._loop.call_soon(self.pump)
            return False
        self._kept = len(self._pending)
        return True

    @property
    def pending(self) -> list[Effect]:
        """What is made with the next commit of the state."""
        return [effect for _, effect in self._pending]

    @property
    def pending_count(self) -> int:
        """How much that is."""
        return len(self._pending)

    def take_saved(self) -> tuple[list[Event], list[Effect]]:
        """Return what the record of a `save()` takes along, and forget it."""
        events, self._values = self._values, []
        if not self._kept:
            return events, []
        taken, self._pending = self._pending[: self._kept], self._pending[self._kept :]
        self._kept = 0
        return [*events, *(event for event, _ in taken)], [effect for _, effect in taken]

    def _take_sends_to(self, target: ObjectKey) -> list[tuple[Event, OutboxEntry]]:
        """Return what waits to be sent to an object, and forget it: a call must not overtake it.

        Whatever was saved has its record by now.
        """
        taken: list[tuple[Event, OutboxEntry]] = []
        left: list[tuple[Event, Effect]] = []
        for event, effect in self._pending:
            if isinstance(effect, OutboxEntry) and effect.target == target:
                taken.append((event, effect))
            else:
                left.append((event, effect))
        self._pending = left
        return taken

    def grown(self) -> None:
        """Take note of what was added to the journal."""
        progress = self._turn.admitted.progress
        if progress is not None:
            self._replay.events = progress.events
            self._replay.grown()

    def pump(self) -> None:
        """Give the method what its journal has for it next, unless it is busy with the last."""
        if not self._quiet:
            return
        event = self._replay.next()
        if event is None:
            return
        self._quiet = False
        if self._fresh and isinstance(event, Done):
            # What the method's beginning causes comes first, in several tasks perhaps.
            self._fresh = False
            self._turn.rounds.after(lambda: self._give(event))
        else:
            self._give(event)

    def _give(self, event: Event) -> None:
        if isinstance(event, Cancelled):
            self._turn.cancel(event.reason)
        elif isinstance(event, Done):
            future = self._waiting.pop(event.step, None)
            if future is not None and not future.done():
                future.set_result(StepResult(event.code, event.payload))
        self._turn.rounds.after(self._go_on)

    def _go_on(self) -> None:
        self._quiet = True
        self.pump()

    # Between two runs of one call.

    def give_up(self) -> list[int]:
        """Take word that the method has raised and will be run again.

        Returns:
            Steps that have failed, to be forgotten.
        """
        self.record()
        self.grown()
        self._in_flight |= {step for step in self._waiting if not self._replay.is_done(step)}
        self._waiting = {}
        self._pending, self._kept, self._values = [], 0, []
        return self._replay.failed_last()

    def serve(self, turn: MethodTurn) -> None:
        """Go on for the next run. What was asked for and has not ended is not begun again."""
        progress = turn.admitted.progress
        assert progress is not None
        self._turn = turn
        self._replay = Replay(progress.events)
        self._finished = None
        self._fresh = True
        self.asked = {}

    # From the ask to the result.

    def _ask(
        self,
        kind: str,
        name: str,
        made: Any,
        perform: Callable[[int, Any], None],
    ) -> StepFuture[StepResult]:
        step, recorded = self._number(kind, name)
        future: StepFuture[StepResult] = StepFuture(loop=self._loop)
        self._waiting[step] = future
        self.asked[step] = self._loop.time()
        if recorded is None:
            if kind in _HELD_OPEN:
                # From now on, and not only once it is durable and begins.
                self._working.add(step)
            self._schedule(step, kind, name, made, perform)
            return future
        if step not in self._in_flight and not self._replay.is_done(step):
            if kind == CALL:
                self._calls[step] = self._unasked.pop(step)
            if kind in _HELD_OPEN:
                self._working.add(step)
            perform(step, recorded.data)
        self.pump()
        return future

    def _schedule(
        self, step: int, kind: str, name: str, made: Any, perform: Callable[[int, Any], None]
    ) -> None:
        """Record a step that no earlier run has asked for. It is performed when that is durable."""
        turn = self._turn
        saved = turn.take_saved()
        events, self._values = self._values, []
        sends: list[OutboxEntry] = []
        if kind == CALL:
            sequence = turn.partition.memory.underway.next_sequence(made.partition)
            self._calls[step] = made = made._replace(sequence=sequence)
            for event, entry in self._take_sends_to(made.target):
                events.append(event)
                sends.append(entry)
        scheduled = Scheduled(step, kind, name, made)
        events.append(scheduled)
        turn.schedule(events, saved, sends, functools.partial(perform, step, made))
        progress = turn.admitted.progress
        if progress is not None:
            self._replay.events = progress.events
            count = len(events) if saved is None else len(events) + len(saved.events)
            if not self._replay.follow(scheduled, count):
                self.pump()

    def _number(self, kind: str, name: str) -> tuple[int, Scheduled | None]:
        turn, limits, replay = self._turn, self._limits, self._replay
        turn.check_step()
        if replay.asked >= limits.steps_max:
            raise TooManySteps(turn.what, "steps", limits.steps_max)
        if replay.result_bytes > limits.journal_bytes_max:
            raise TooManySteps(turn.what, "bytes of results of steps", limits.journal_bytes_max)
        try:
            return replay.ask(kind, name)
        except Mismatch as mismatch:
            raise self._other(mismatch.step, mismatch.recorded, mismatch.asked) from None

    def _other(self, step: int, recorded: str, asked: str) -> CannotGoOn:
        turn = self._turn
        turn.broken = error = other_step(turn.what, step, recorded, asked)
        return error

    def _start(self, step: int, work: Coroutine[Any, Any, StepResult]) -> None:
        self._performer.start(self._turn.driven(work), functools.partial(self._ended, step))

    def _ended(self, step: int, result: StepResult, *, nothing_runs: bool = False) -> None:
        self._working.discard(step)
        self._done(step, result, nothing_runs=nothing_runs)
        if self._finished is not None and not self._working and not self._finished.done():
            self._finished.set_result(None)

    def _read(self, step: int, future: asyncio.Future[StepResult]) -> None:
        if not future.cancelled():  # Else the node closes.
            self._done(step, future.result())

    def _answered(self, step: int, entry: OutboxEntry, future: asyncio.Future[StepResult]) -> None:
        if future.cancelled():
            return  # The node closes.
        turn = self._turn
        confirm = functools.partial(self._performer.confirm, entry, turn.partition.number)
        self._calls.pop(step, None)
        if turn.over:
            turn.arrived(entry, future)
        else:
            self._done(step, future.result(), confirm)

    def _done(
        self,
        step: int,
        result: StepResult,
        token: Callable[[], None] | None = None,
        *,
        nothing_runs: bool = False,
    ) -> None:
        """Take the result of a step; the caller may know that `_nothing_runs`."""
        turn = self._turn
        if turn.over or turn.partition.stopped is not None:
            return
        limit = self._limits.result_bytes_max
        if len(result.payload) > limit:
            what = f"{turn.what}: the result of a step"
            too_large = pack_error(Code.RESULT_TOO_LARGE, (what, len(result.payload), limit))
            result = StepResult(*too_large)
        code, payload = result
        waiter = self._sole_waiter(step)
        if (
            waiter is not None
            and (nothing_runs or self._nothing_runs())
            and self._replay.hear_ahead(event := Done(step, code, payload))
        ):
            self._tell_at_once(waiter, event, result, token)
            return
        turn.partition.journalled.step_done(turn.admitted, step, code, payload, token)
        self.grown()
        self.pump()
        turn.flush()

    def _sole_waiter(self, step: int) -> StepWaiter | None:
        """Return what the method waits for, if it can do nothing until it has this result.

        It is one task then, which awaits the only step that it has asked for and that has not
        ended. So there is nothing that rounds of the loop could bring about; callbacks that it has
        given to the loop have run, because the loop has come round while the step became durable.
        """
        turn, waiting = self._turn, self._waiting
        waiter = turn.waits_for
        if (
            type(waiter) is not StepWaiter
            or len(waiting) != 1
            or not turn.is_alone
            or not self._quiet
            or waiter.done()
        ):
            return None
        future = waiting.get(step)
        if future is None or future.done():
            return None
        awaited_by = future.waiters if future.passed_on is None else future.awaited_by
        return waiter if len(awaited_by) == 1 and awaited_by[0] is waiter else None

    def _nothing_runs(self) -> bool:
        """Tell whether no task runs now, whose code another one's would be taken for."""
        return asyncio.current_task(self._turn.rounds.loop) is None

    def _tell_at_once(
        self, waiter: StepWaiter, event: Done, result: StepResult, token: Callable[[], None] | None
    ) -> None:
        """Let the method hear a result now, and go on up to its next wait or its end.

        What it does is recorded behind the result; if it ends, its outcome says all.
        """
        turn = self._turn
        self._fresh = False
        self._values.append(event)
        self._waiting.pop(event.step).tell(result)
        waiter.wake()
        if not turn.is_alone and not turn.over:
            # It has made a task, which is to come as far as it can before the next result.
            self._quiet = False
            turn.rounds.after(self._go_on)
        self.record()
        if token is not None:
            turn.partition.hold_all(token)
            turn.flush()

    def record(self) -> None:
        """Record what the method has heard, if nothing that it did has done so."""
        turn, events = self._turn, self._values
        if events and type(events[0]) is Done and not turn.over:
            # Behind it are values, which wait for more.
            self._values = events[1:]
            turn.partition.journalled.happened(turn.admitted, events[:1])
            self.grown()
            turn.flush()
