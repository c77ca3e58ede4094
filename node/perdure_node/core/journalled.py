"""Calls with a journal: their steps, and what becomes of them after a crash.

The first record of such a call is durable before its first step leaves, and the record that
schedules a step before that step does. Whatever a second run asks for again is answered from the
journal, so no finished step is made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from perdure.bodies import Request, pack_error
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey, is_partition_session
from perdure.schedules import TimerSetting
from perdure_node.core.blames import blamed_since_step, deaths_in, reason_of
from perdure_node.core.calls import FOR_EVER_MS, PLAIN, Call, Catalog, Refusal
from perdure_node.core.commits import Progress, new_progress
from perdure_node.core.damage import DamageFound, stops_on_damage
from perdure_node.core.events import (
    Cancelled,
    Done,
    Effect,
    Event,
    Fired,
    OutboxEntry,
    OutboxGone,
    Parked,
    Retried,
    Saved,
    Unparked,
)
from perdure_node.core.firings import NOBODY, Firings, id_of
from perdure_node.core.gate import Gate
from perdure_node.core.mailboxes import Mailboxes
from perdure_node.core.memory import Memory
from perdure_node.core.recorder import Recorder
from perdure_node.core.runs import Runs

__all__ = ["Journalled", "SavedPart"]


class SavedPart:
    """What a method has saved and goes on after."""

    def __init__(
        self,
        values: dict[str, bytes],
        state_version: int,
        events: Sequence[Event],
        effects: Sequence[Effect],
    ) -> None:
        """Gather it.

        Args:
            values: The attributes that have changed since the last commit.
            state_version: Of the state now.
            events: Steps that are made by this commit (timers, sends), and the `Saved` of it.
            effects: What they do.
        """
        self.values: Final = values
        self.state_version: Final = state_version
        self.events: Final = events
        self.effects: Final = effects


class Owner(Protocol):
    """The partition that these calls belong to."""

    number: int
    stopped: Refusal | None
    runs: Runs

    def stop_damaged(self, damage: str) -> None:
        """Stop for good, because the data is damaged."""
        ...

    def method_returned(
        self, call: Call, code: int, payload: bytes, values: dict[str, bytes]
    ) -> None:
        """Take the end of a call."""
        ...

    def end_unrun(self, call: Call, code: int, payload: bytes) -> None:
        """Refuse a call for good."""
        ...

    def put_back(self, call: Call) -> None:
        """Let a call wait for its turn again, or run."""
        ...

    def run_again(self, call: Call) -> None:
        """Run the method of a call that holds its object."""
        ...


class Journalled:
    """The calls in progress of one partition, and the calls that leave it."""

    def __init__(
        self,
        owner: Owner,
        memory: Memory,
        catalog: Catalog,
        recorder: Recorder,
        gate: Gate,
        mailboxes: Mailboxes,
        firings: Firings,
    ) -> None:
        self._firings = firings
        self._owner = owner
        self._memory = memory
        self._catalog = catalog
        self._recorder = recorder
        self._gate = gate
        self._mailboxes = mailboxes
        self.parked_calls: dict[ObjectKey, Call] = {}
        """Those that hold their object and do not go on."""

    def stop_damaged(self, damage: str) -> None:
        """Stop the partition for good."""
        self._owner.stop_damaged(damage)

    # What a running method causes.

    @stops_on_damage
    def saved(
        self,
        call: Call,
        values: dict[str, bytes],
        start: tuple[dict[str, bytes], int],
        state_version: int,
        events: Sequence[Event],
        effects: Sequence[Effect] = (),
    ) -> None:
        """Commit what a method has saved so far; it goes on.

        Args:
            call: It runs.
            values: As in a `SavedPart`.
            start: The image and the state version with which it began.
            state_version: As in a `SavedPart`.
            events: Likewise.
            effects: Likewise.

        The commit holds the call itself, so that it is finished after a crash and not begun
        anew on top of what it has done already.
        """
        if self._owner.stopped is None:
            self._commit(call, start, SavedPart(values, state_version, events, effects), (), ())

    def step(
        self,
        call: Call,
        events: Sequence[Event],
        start: tuple[dict[str, bytes], int],
        perform: object,
        effects: Sequence[Effect] = (),
        saved: SavedPart | None = None,
    ) -> None:
        """Schedule a step; `perform` is given out when that is durable.

        Args:
            call: It runs.
            events: The step, behind the values that were decided before it.
            start: As for `saved`.
            perform: Opaque; given out by `take_ready`.
            effects: What else the record makes durable: sends that the step must not overtake.
            saved: What the method has saved before.
        """
        if self._owner.stopped is not None:
            return
        try:
            self._commit(call, start, saved, events, effects)
        except DamageFound as damage:
            self.stop_damaged(str(damage))
        else:
            self._gate.let_out(perform, self._recorder.record)

    def _commit(
        self,
        call: Call,
        start: tuple[dict[str, bytes], int],
        saved: SavedPart | None,
        events: Sequence[Event],
        effects: Sequence[Effect],
    ) -> None:
        begun: Progress | None = None
        if saved is not None:
            events, effects = [*saved.events, *events], [*saved.effects, *effects]
        if call.progress is None:
            begun, first, more = self._begin(call, start)
            if first or more:
                events, effects = [*first, *events], [*more, *effects]
        if saved is None:
            self._recorder.commit_events(call, begun, events, effects)
        else:
            self._recorder.commit_progress(
                call, saved.values, saved.state_version, begun, events, effects
            )

    def step_done(
        self, call: Call, step: int, code: int, payload: bytes, token: object = None
    ) -> None:
        """Note the result of a step. `token`, if any, is given out when that is durable."""
        self.happened(call, [Done(step, code, payload)])
        if token is not None:
            self._gate.let_out(token, self._recorder.record)

    @stops_on_damage
    def happened(self, call: Call, events: Sequence[Event]) -> None:
        """Note what has happened to a call: it changes no state."""
        if self._owner.stopped is None and call.progress is not None:
            self._recorder.commit_events(call, None, events)

    def cancelled(self, call: Call, reason: str) -> None:
        """Note that a running call is to end: whatever crashes, it will.

        Calls whose end a crash may undo, or that make no difference, are left as they are.
        """
        state = call.state
        if (
            self._owner.stopped is not None
            or call.shared
            or call.request.kind != Kind.CALL
            or (call.target.deferred and call.progress is None)
        ):
            return
        assert state is not None
        start = state.image or {}, state.state_version
        self._note_cancelled(call, reason, start)

    @stops_on_damage
    def _note_cancelled(self, call: Call, reason: str, start: tuple[dict[str, bytes], int]) -> None:
        begun, first, effects = self._begin(call, start)
        self._recorder.commit_events(call, begun, [*first, Cancelled(reason)], effects)

    def retried(self, call: Call, forgotten: list[int]) -> None:
        """Note that a method that has raised is run again, and which steps it makes anew."""
        self._add(call, Retried(forgotten))

    def delivered(self, entry: OutboxEntry, again: OutboxEntry | None, token: object) -> None:
        """Note that an entry of the outbox has arrived.

        Args:
            entry: It was in the outbox.
            again: What takes its place there, because it did not run.
            token: Given out when that is durable.
        """
        if self._owner.stopped is None:
            gone = OutboxGone(entry.partition, entry.sequence)
            self._recorder.commit_effects([gone] if again is None else [gone, again])
            self._gate.let_out(token, self._recorder.record)

    def _begin(
        self, call: Call, start: tuple[dict[str, bytes], int]
    ) -> tuple[Progress | None, list[Event], list[Effect]]:
        """Return what the first record of a call holds that goes on after it."""
        if call.progress is not None:
            return None, [], []
        call.progress = new_progress(([*call.request.fields()], *start, []))
        events, effects = self._firings.begun(call) if call.firing else ([], [])
        return call.progress, events, effects

    def _add(self, call: Call, event: Event) -> None:
        self.happened(call, [event])

    # After a crash.

    @stops_on_damage
    def resume(self, key: ObjectKey, progress: Progress) -> None:
        """Put a call that a crash has interrupted back where it was: it holds its object.

        To be said before the first call arrives.
        """
        request = Request(*progress.request)
        target = self._catalog.find(request)
        if request.kind == Kind.START:
            call = self._owner.runs.restored(key, progress)
        elif request.session == NOBODY:
            call = self._firings.call_of(key, request)
        else:
            window = self._memory.open_window(request.session)
            known = PLAIN if isinstance(target, Refusal) else target
            call = Call(key, request, known, window, FOR_EVER_MS)
        call.progress, call.resumed = progress, True
        call.starts += max(1, deaths_in(progress.events, call.window, request.sequence))
        for event in progress.events:
            if isinstance(event, Fired):
                call.fired = TimerSetting(*event.timer)
                call.starts += call.fired.attempts
            if isinstance(event, Parked):
                call.parked = event.reason
            elif isinstance(event, Unparked):
                call.parked = None
        if isinstance(target, Refusal) and call.parked is None:
            call.parked = f"its code is gone: {request.type}.{request.method}"
        deaths = blamed_since_step(progress.events)
        if call.parked is None and deaths >= self._memory.limits.blamed_max:
            self._put_back_poisoned(call, deaths)
            return
        if call.parked is not None:
            self.parked_calls[key] = call
        self._owner.put_back(call)

    def _put_back_poisoned(self, call: Call, deaths: int) -> None:
        """Give up a call that has ended its process once too often."""
        reason = reason_of(deaths)
        call.parked = reason  # So that it takes its object, and does not run.
        self._owner.put_back(call)
        call.parked = None
        if call.state is not None:
            if call.fired is not None:
                call.fired = call.fired._replace(deaths=deaths)
            self.park(call, reason, *pack_error(Code.POISONED, (self.id_of(call), reason)))

    # Calls that cannot go on.

    @stops_on_damage
    def park(self, call: Call, reason: str, code: int, payload: bytes) -> None:
        """Take word that a running call cannot go on.

        If it has done something that stays, it keeps its object until an operator decides; else
        it has failed, and the object is free.

        Args:
            call: It runs.
            reason: For people.
            code: What its callers are told.
            payload: Likewise.
        """
        if call.run is not None:
            self.park_run(call, reason)
            self._add(call, Parked(reason))
            self._owner.runs.parked(call, code, payload)
            return
        if call.progress is None or not any(
            isinstance(event, Done | Saved) for event in call.progress.events
        ):
            self._owner.method_returned(call, code, payload, {})
            return
        call.parked = reason
        self.parked_calls[call.key] = call
        self._add(call, Parked(reason))
        state = call.state
        self._gate.answer(call.copies, state, code, payload, self._recorder.record)
        call.copies = []
        twins, call.followers = call.followers, []
        for waiting in (*twins, *self._mailboxes.drop_waiting(call.key)):
            self._refuse(waiting)

    def park_run(self, call: Call, reason: str) -> None:
        """Note that a run cannot go on.

        That is no event: the next process tries again, maybe with code that can.
        """
        call.parked = reason
        self.parked_calls[call.key] = call

    def refusal(self, key: ObjectKey) -> Refusal | None:
        """Tell why an object takes no calls; None: it does."""
        call = self.parked_calls.get(key)
        if call is None:
            return None
        return Refusal(Code.PARKED, (str(key), self.id_of(call), call.parked))

    def retry(self, key: ObjectKey) -> bool:
        """Send a parked call on its way again. False: there is none, or its code is gone."""
        call = self.parked_calls.get(key)
        target = None if call is None else self._catalog.find(call.request)
        if call is None or target is None or isinstance(target, Refusal):
            return False
        del self.parked_calls[key]
        call.target, call.parked = target, None
        call.starts += 1
        self._add(call, Unparked())
        self._owner.run_again(call)
        return True

    def drop(self, key: ObjectKey) -> bool:
        """End a parked call: it has failed, the state stays as of the last commit."""
        call = self.parked_calls.pop(key, None)
        if call is None:
            return False
        code, payload = pack_error(Code.POISONED, (self.id_of(call), call.parked))
        self._owner.method_returned(call, code, payload, {})
        return True

    def id_of(self, call: Call) -> str:
        """Return a call's id as text."""
        return id_of(call, self._owner.number)

    def _refuse(self, call: Call) -> None:
        refusal = self.refusal(call.key)
        assert refusal is not None
        if is_partition_session(call.request.session):
            # Its caller believes only what is recorded.
            self._owner.end_unrun(call, *pack_error(*refusal))
            return
        call.window.open.pop(call.request.sequence, None)
        for copy in call.copies:
            self._gate.refuse(copy, refusal)
