"""What a partition's next record will hold."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.ids import ObjectKey
from perdure_node.core.calls import Call
from perdure_node.core.commits import Commit, Outcome, Progress
from perdure_node.core.events import Effect, Ended, Event
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.state import ObjectState
from perdure_node.core.window import UNRECORDED

__all__ = ["Recorder"]


class Recorder:
    """Turns the ends of calls into commits, marks and deferred changes."""

    def __init__(self, memory: Memory, limits: Limits) -> None:
        self._memory = memory
        self._limits = limits
        self._marks: list[Outcome] = []
        self.record = memory.durable + 1
        """The number of the record that the next commit will be in."""

    def commit(
        self,
        call: Call,
        outcome: Outcome,
        values: dict[str, bytes],
        state_version: int,
        *,
        created: bool = False,
        saved: bool = False,
        effects: Sequence[Effect] = (),
    ) -> bool:
        """Commit what a call has changed, together with its outcome.

        Returns:
            False when its type persists on save only, and it has not saved: then it is noted
            in memory until the object's next `save()`.
        """
        state = call.state
        assert state is not None
        outcomes = [outcome]
        if call.target.deferred and not created:
            state.deferred = [*(state.deferred or ()), (outcome, values)]
            if not saved and not effects and call.progress is None:
                self._defer(call, state, outcome, values, state_version)
                return False
            outcomes, values = self._take_deferred(state)
        self._add(
            Commit(call.key, created, False, state_version, values, outcomes, None, (), effects)
        )
        return True

    def commit_progress(
        self,
        call: Call,
        values: dict[str, bytes],
        state_version: int,
        begun: Progress | None,
        events: Sequence[Event],
        effects: Sequence[Effect],
    ) -> None:
        """Commit what a call has saved, and what of its journal belongs to that.

        Args:
            call: It goes on.
            values: What it has changed.
            state_version: Of the state.
            begun: What it takes to go on with it, if no record says so yet.
            events: For its journal.
            effects: What else it makes durable.
        """
        state = call.state
        assert state is not None
        self._memory.use(state)
        outcomes: list[Outcome] = []
        if call.target.deferred:
            outcomes, before = self._take_deferred(state)
            values = {**before, **values}
            if outcomes:
                # Outcomes end a call in progress, so those of earlier calls go before it.
                self._add(Commit(call.key, False, False, state_version, {}, outcomes, None))
        self._add(Commit(call.key, False, False, state_version, values, [], begun, events, effects))
        if begun is not None:
            self._went_on(call)

    def commit_events(
        self,
        call: Call,
        begun: Progress | None,
        events: Sequence[Event],
        effects: Sequence[Effect] = (),
    ) -> None:
        """Commit an addition to a call's journal. It changes no state."""
        if call.run is not None:
            self.commit_run(call.key, events, (), effects)
            call.run.journal.take(events)
            return
        state = call.state
        version = 1 if state is None else state.state_version
        self._add(Commit(call.key, False, False, version, {}, [], begun, events, effects))
        if begun is not None:
            self._went_on(call)

    def commit_run(
        self,
        key: ObjectKey,
        events: Sequence[Event],
        outcomes: Sequence[Outcome] = (),
        effects: Sequence[Effect] = (),
    ) -> None:
        """Commit an addition to the journal of a run, and what belongs to that."""
        if self._marks:
            self.flush_marks()
        memory = self._memory
        if key in memory.progress:
            memory.add_to_run(key, events, outcomes, effects, self.record)
        else:
            memory.commit(
                Commit(key, False, False, 1, {}, [*outcomes], None, [*events], effects), self.record
            )

    def commit_run_whole(self, commit: Commit) -> None:
        """Commit the beginning of a run, a new one, or its end."""
        self._add(commit)
        key = commit.key
        assert key is not None
        if key in self._memory.progress:
            self._memory.open_runs[key] = commit
        else:
            self._memory.open_runs.pop(key, None)

    def commit_run_gone(self, key: ObjectKey, effects: Sequence[Effect]) -> None:
        """Commit that a run goes which has ended."""
        self._memory.open_runs.pop(key, None)
        self._add(Commit(key, False, True, 1, {}, [], None, (), effects))

    def commit_outcome(
        self, key: ObjectKey, state: ObjectState, outcome: Outcome, effects: Sequence[Effect]
    ) -> None:
        """Commit an outcome that changes nothing of the object's state."""
        self._add(Commit(key, False, False, state.state_version, {}, [outcome], None, (), effects))

    def commit_unseen(self, outcome: Outcome) -> None:
        """Commit the outcome of a call that has not arrived: it will not run when it does."""
        self._add(Commit(None, False, False, 0, {}, [outcome], None))

    def commit_firing(
        self,
        call: Call,
        values: dict[str, bytes],
        state_version: int,
        effects: Sequence[Effect],
    ) -> None:
        """Commit the end of a call that has no outcome."""
        state = call.state
        assert state is not None
        if call.target.deferred:
            self.commit_deferred(state)
        events = () if call.progress is None else [Ended()]
        self._add(Commit(call.key, False, False, state_version, values, [], None, events, effects))

    def commit_timers(self, state: ObjectState, changes: Sequence[Effect]) -> None:
        """Commit what somebody else than its calls has decided about an object's timers."""
        self._add(Commit(state.key, False, False, state.state_version, {}, [], None, (), changes))

    def commit_effects(self, effects: Sequence[Effect]) -> None:
        """Commit what belongs to no object."""
        self._add(Commit(None, False, False, 0, {}, [], None, (), effects))

    def commit_blame(
        self,
        key: ObjectKey | None,
        events: Sequence[Event] = (),
        effects: Sequence[Effect] = (),
        outcomes: Sequence[Outcome] = (),
    ) -> None:
        """Commit that a process has died while it ran a call. It changes no state.

        Args:
            key: The object, if the call has a journal or is a firing.
            events: For that journal.
            effects: How often it was, or what becomes of the timer.
            outcomes: The end of the call, if it was once too often.
        """
        self._add(Commit(key, False, False, 1, {}, [*outcomes], None, events, effects))

    def _went_on(self, call: Call) -> None:
        # The journal in memory is the one that grows.
        call.progress = self._memory.progress[call.key]

    def commit_deletion(self, call: Call, state: ObjectState | None, outcome: Outcome) -> None:
        """Commit the end of an object; or that there was none."""
        if state is None:
            self._add(Commit(None, False, False, 0, {}, [outcome], None))
            return
        outcomes = [*self._take_deferred(state)[0], outcome]
        self._add(Commit(call.key, False, True, state.state_version, {}, outcomes, None))

    def commit_deferred(self, state: ObjectState) -> None:
        """Commit what calls have changed since an object's last `save()`."""
        if state.deferred:
            outcomes, values = self._take_deferred(state)
            self._add(Commit(state.key, False, False, state.state_version, values, outcomes, None))

    def mark(self, call: Call, code: int, payload: bytes, record: int) -> None:
        """Note a call that changed nothing, and saw no more than `record`.

        That rides along with the next record: whatever could make a late copy of the call do
        something would be in that record or a later one.
        """
        request = call.request
        outcome = Outcome(request.session, request.sequence, request.confirmed, code, payload)
        call.window.end(request.sequence, code, payload, record)
        self._memory.dirty_windows.add(request.session)
        self._marks.append(outcome)
        if len(self._marks) >= self._limits.marks_max:
            self.flush_marks()

    def flush_marks(self) -> None:
        """Put the marks into the next record, whether or not anything else is in it."""
        if self._marks:
            marks, self._marks = self._marks, []
            self._memory.commit(Commit(None, False, False, 0, {}, marks, None), self.record)

    def made(self, record: int, bytes: int) -> None:
        """Note that what was committed is record `record` now."""
        assert record == self.record, (record, self.record)
        self._memory.record_made(record, bytes)
        self.record = record + 1

    @property
    def last(self) -> int:
        """The record that holds, or will hold, the last commit so far."""
        return self.record if self._memory.making else self.record - 1

    def _add(self, commit: Commit) -> None:
        if self._marks:
            self.flush_marks()
        self._memory.commit(commit, self.record)

    def _defer(
        self,
        call: Call,
        state: ObjectState,
        outcome: Outcome,
        values: dict[str, bytes],
        state_version: int,
    ) -> None:
        state.state_version = state_version
        if values:
            self._memory.change_unrecorded(state, values)
        call.window.end(outcome.sequence, outcome.code, outcome.payload, UNRECORDED)
        self._memory.dirty_windows.add(outcome.session)
        self._memory.note_key(outcome, call.key, UNRECORDED)

    @staticmethod
    def _take_deferred(state: ObjectState) -> tuple[list[Outcome], dict[str, bytes]]:
        deferred, state.deferred = state.deferred or [], None
        values: dict[str, bytes] = {}
        for _, changed in deferred:
            values.update(changed)
        return [outcome for outcome, _ in deferred], values


def outcome_of(call: Call, code: int, payload: bytes) -> Outcome:
    """Return the outcome of a call that has run."""
    request = call.request
    if not call.digest:
        return Outcome(request.session, request.sequence, request.confirmed, code, payload)
    return Outcome(
        request.session,
        request.sequence,
        request.confirmed,
        code,
        payload,
        request.key,
        request.method,
        call.digest,
    )
