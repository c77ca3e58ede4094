"""Runs of workflows: how they begin, what is told to them, and how they end.

A run is an object of the type `workflow` that is held by one long call in progress: the
workflow's function. What concerns a run (payloads for its hooks, questions, the wish that it
ends) therefore never waits in its mailbox: it becomes an event of its journal, or is answered,
at once.

Invariants:
  * A payload is accepted by its own record: whoever is told so hears that when it is durable.
  * The call that has brought a payload is open in its session's window until the run has
    answered it, and its outcome is in the record that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from perdure import codec
from perdure.bodies import Request, pack_error
from perdure.errors import Code
from perdure.frames import Encoding, Kind
from perdure.ids import ObjectKey
from perdure_node.core.calls import FOR_EVER_MS, PLAIN, Call, Catalog, Refusal
from perdure_node.core.commits import Commit, Outcome, Progress
from perdure_node.core.copies import Copy
from perdure_node.core.events import (
    Answered,
    Cancelled,
    Checkpoint,
    Effect,
    Ended,
    Event,
    Received,
    Scheduled,
)
from perdure_node.core.expiry_rows import FOR_EVER
from perdure_node.core.gate import Gate
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.reader import NO, NOTHING, YES
from perdure_node.core.recorder import Recorder
from perdure_node.core.refusals import PASSING
from perdure_node.core.run import END, Hear, Run, Wake
from perdure_node.core.run_outcomes import outcome_of, outcome_told
from perdure_node.core.run_rows import CANCELLED, COMPLETED, RunRow, StartPayload, progress_of
from perdure_node.core.window import SessionWindow

__all__ = ["Runs"]


# Members of an enum cost ten times as much to look up.
_NOTIFY, _WAKE = int(Kind.NOTIFY), int(Kind.WAKE)


class Owner(Protocol):
    """The partition that the runs belong to."""

    room: bool

    def enqueue(self, call: Call) -> None:
        """Let a call wait for its turn."""
        ...

    def end_unrun(self, call: Call, code: int, payload: bytes, record: int = 0) -> None:
        """Refuse a call for good."""
        ...

    def release(self, call: Call) -> None:
        """Let the object of a call go that has ended."""
        ...


class Runs:
    """The runs of one partition."""

    def __init__(
        self,
        memory: Memory,
        catalog: Catalog,
        recorder: Recorder,
        gate: Gate,
        owner: Owner,
        limits: Limits,
    ) -> None:
        self._memory = memory
        self._catalog = catalog
        self._recorder = recorder
        self._gate = gate
        self._owner = owner
        self._limits = limits
        self.live: dict[ObjectKey, Run] = {}
        """Those that have not ended."""

    # What callers ask for.

    def accept(self, request: Request, copy: Copy, call: Call) -> None:
        """Take a call to a run that has not been here before."""
        if not self._owner.room:
            self._gate.refuse(copy, Refusal(Code.DISK_FULL, (1.0,)))
        elif request.kind == Kind.START:
            self._start(request, copy, call)
        else:
            self._tell(request, copy, call)

    def joins(self, request: Request, copy: Copy, payload: bytes) -> bool:
        """Take a copy of a START whose outcome is known. False: it may be answered."""
        run = self.live.get(request.object_key)
        if run is None or run.has_waited:
            return False
        run.starters.append((copy, payload))
        return True

    def _start(self, request: Request, copy: Copy, call: Call) -> None:
        facts = self._catalog.start(request)
        if isinstance(facts, Refusal):
            self._refuse(call, facts)
            return
        version, digest = facts
        key, state = call.key, self._memory.state(call.key)
        if state is not None and state.image is not None:
            self._attach(request, copy, call, digest)
            return
        parent = request.chain[-1][1] if request.chain else ""
        row = RunRow(request.method, version, digest, self._memory.time_ms, parent)
        progress = progress_of(key, request, request.arguments, request.encoding, 0)
        told = YES[Encoding(request.encoding)]
        outcome = Outcome(request.session, request.sequence, request.confirmed, 0, told)
        self._recorder.commit_run_whole(
            Commit(key, True, False, 1, row.image(), [outcome], progress, [], [])
        )
        run = self._begin(key, self._memory.progress[key], row)
        run.starters.append((copy, told))
        self._owner.enqueue(run.call)

    def _attach(self, request: Request, copy: Copy, call: Call, digest: bytes) -> None:
        """Answer a START whose run is there."""
        state = self._memory.state(call.key)
        assert state is not None
        assert state.image is not None
        row = RunRow.of(state.image)
        if (row.workflow, row.digest) != (request.method, digest):
            why = "with other arguments" if row.workflow == request.method else "which is another"
            self._refuse(call, Refusal(Code.RUN_EXISTS, (call.key.id, row.workflow, why)))
            return
        told = NO[Encoding(request.encoding)]
        run = self.live.get(call.key)
        resume = StartPayload.of(request).resume
        events: list[Event] = []
        if resume is not None:
            made = self._payload(run, call, resume[0], resume[1], Encoding.MSGPACK)
            if isinstance(made, Refusal):
                self._refuse(call, made)
                return
            events.append(Received(resume[0], made, b"", 0, 0))
        outcome = Outcome(request.session, request.sequence, request.confirmed, 0, told)
        self._recorder.commit_run(call.key, events, [outcome])
        if run is not None:
            run.journal.take(events)
        if run is None or run.has_waited:
            self._gate.answer([copy], None, 0, told, self._recorder.record)
        else:
            run.starters.append((copy, told))
        if run is not None and events:
            self._gate.outputs.append(Hear(run.call))

    def _tell(self, request: Request, copy: Copy, call: Call) -> None:
        """Take a payload for a hook, or the wish that a run wakes up."""
        run = self.live.get(call.key)
        if request.kind == _WAKE:
            self._wake(request, copy, call, run)
            return
        token = request.method
        made = self._payload(run, call, token, request.arguments, request.encoding)
        if type(made) is Refusal:
            self._refuse(call, made)
            return
        assert run is not None
        assert type(made) is bytes
        if request.kind == _NOTIFY:
            event = Received(token, made, b"", 0, request.encoding)
            nothing = NOTHING[Encoding(request.encoding)]
            outcomes = [outcome_of(request, 0, nothing)]
            self._commit(run, [event], outcomes)
            self._gate.answer([copy], None, 0, nothing, self._recorder.record)
        else:
            event = Received(token, made, request.session, request.sequence, request.encoding)
            self._commit(run, [event])
            call.window.open[request.sequence] = call
            run.resumes[len(run.journal.received)] = call
        self._gate.outputs.append(Hear(run.call))

    def _wake(self, request: Request, copy: Copy, call: Call, run: Run | None) -> None:
        if run is None:
            state = self._memory.state(call.key)
            if state is None or state.image is None:
                self._refuse(call, Refusal(Code.RUN_NOT_FOUND, (call.key.id,)))
                return
        told = codec.encode(run is not None and bool(run.journal.sleeping))
        self._recorder.commit_run(call.key, (), [outcome_of(request, 0, told)])
        if run is not None:
            # Its results are in the same record: it is over for the sleeper and its waker at once.
            self._gate.outputs.append(Wake(run.call))
        self._gate.outputs.append(
            lambda: self._gate.answer([copy], None, 0, told, self._recorder.last)
        )

    def _payload(
        self, run: Run | None, call: Call, token: str, payload: bytes, encoding: int
    ) -> bytes | Refusal:
        """Return what a hook gets, or why nothing."""
        if run is None:
            return self._no_run(call.key, token)
        journal = run.journal
        hook = journal.hooks.get(token)
        if hook is None:
            if token in journal.disposed:
                return Refusal(Code.HOOK_CLOSED, (token, "its run has disposed of it"))
            return Refusal(Code.HOOK_NOT_FOUND, (token,))
        waiting = len(journal.received) - run.taken if run.has_waited else 0
        if waiting >= self._limits.buffered_payloads_max:
            what = (f"hooks of the run {call.key.id}", self._limits.retry_after_s)
            return Refusal(Code.BACKPRESSURE, what)
        return self._catalog.payload(token, hook.schema, payload, encoding)

    def _no_run(self, key: ObjectKey, token: str) -> Refusal:
        state = self._memory.state(key)
        if state is not None and state.image is not None:
            row = RunRow.of(state.image)
            if token in row.tokens:
                return Refusal(Code.HOOK_CLOSED, (token, f"the run {key.id!r} has {row.status}"))
        return Refusal(Code.HOOK_NOT_FOUND, (token,))

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        if refusal.code in PASSING:
            for copy in call.copies:
                self._gate.refuse(copy, refusal)
        else:
            # A late copy must get the same answer, whatever the run does meanwhile.
            self._owner.end_unrun(call, *pack_error(*refusal), self._recorder.last)

    def cancel(self, key: ObjectKey, reason: str) -> Run | None:
        """Note that a run is to end. Returns it; None: it has ended, or is told already."""
        run = self.live.get(key)
        if run is None or run.journal.cancelled is not None:
            return None
        self._commit(run, [Cancelled(reason)])
        return run

    # What a run does.

    def replied(self, call: Call, events: Sequence[Event], place: int, payload: bytes) -> None:
        """Commit the reply to a payload, behind what was decided before it; answer its sender."""
        run: Run = call.run
        event = run.journal.unanswered.get(place)
        outcomes = () if event is None else (outcome_told(event, 0, payload),)
        self._commit(run, events, outcomes)
        self._answer(run, place, 0, payload)

    def unanswered(self, call: Call, places: Sequence[int]) -> None:
        """Tell the senders of some payloads that there is no reply."""
        run = self.live[call.key]
        there = [(p, e) for p in places if (e := run.journal.unanswered.get(p)) is not None]
        if not there:
            return
        nothing = {place: NOTHING[Encoding(event.encoding)] for place, event in there}
        outcomes = [outcome_told(event, 0, nothing[place]) for place, event in there]
        self._commit(run, [Answered([place for place, _ in there])], outcomes)
        for place, _ in there:
            self._answer(run, place, 0, nothing[place])

    def add(
        self,
        call: Call,
        events: Sequence[Event],
        effects: Sequence[Effect] = (),
        *,
        token: Any = None,
    ) -> None:
        """Commit what a run has done. `token`, if any, is given out when that is durable."""
        self._commit(call.run, events, (), effects)
        if token is not None:
            self._gate.let_out(token, self._recorder.record)

    def closed(
        self, call: Call, step: Scheduled, places: Sequence[int], effects: Sequence[Effect]
    ) -> None:
        """Commit that a run has disposed of a hook, and what it had not taken from it."""
        run = self.live[call.key]
        there = [(p, e) for p in places if (e := run.journal.unanswered.get(p)) is not None]
        error = pack_error(Code.HOOK_CLOSED, (step.name, "its run has disposed of it"))
        outcomes = [outcome_told(event, *error) for _, event in there]
        events: list[Event] = [step]
        if there:
            events.append(Answered([place for place, _ in there]))
        self._commit(run, events, outcomes, effects)
        for place, _ in there:
            self._answer(run, place, *error)

    def waits(self, call: Call) -> None:
        """Take word that a run has come to its first wait."""
        run = self.live.get(call.key)
        if run is None or run.has_waited:
            return
        run.has_waited = True
        code, payload = self._resume_started(run)
        starters, run.starters = run.starters, []
        for copy, told in starters:
            self._gate.answer([copy], None, code, payload or told, self._recorder.last)

    def _resume_started(self, run: Run) -> tuple[int, bytes]:
        """Give a run the payload that its start has brought."""
        request = run.call.request
        resume = None if run.journal.generation else StartPayload.of(request).resume
        if resume is None or any(e.sequence == 1 and not e.session for e in run.journal.received):
            return 0, b""
        token, payload = resume
        made = self._payload(run, run.call, token, payload, Encoding.MSGPACK)
        if isinstance(made, Refusal):
            return pack_error(*made)
        self._commit(run, [Received(token, made, b"", 1, 0)])
        self._gate.outputs.append(Hear(run.call))
        return 0, b""

    def continued(
        self, call: Call, arguments: bytes, taken: Iterable[int], effects: Sequence[Effect]
    ) -> None:
        """Commit that a run goes on with other arguments, and without its journal.

        Args:
            call: The run's, which is another one afterwards.
            arguments: The workflow's.
            taken: The payloads that it has got, by their places.
            effects: What it leaves behind: calls on their way.
        """
        run: Run = call.run
        journal, key, got = run.journal, call.key, set(taken)
        progress = call.progress
        assert progress is not None
        nothing = {p: e for p, e in journal.unanswered.items() if p in got}
        answers = {p: NOTHING[Encoding(e.encoding)] for p, e in nothing.items()}
        outcomes = [outcome_told(e, 0, answers[p]) for p, e in nothing.items()]
        left = [p for p in range(1, len(journal.received) + 1) if p not in got]
        checkpoint = Checkpoint(
            journal.generation + 1,
            [list(hook) for hook in journal.hooks.values()],
            sorted(journal.disposed),
            journal.rows_of(left),
            journal.dropped + len(progress.events),
        )
        packed = codec.encode([arguments, None])
        made = progress_of(key, call.request, packed, int(Encoding.MSGPACK), checkpoint.generation)
        self._recorder.commit_run_whole(
            Commit(key, False, False, 1, {}, outcomes, made, [checkpoint], [*effects])
        )
        for place in nothing:
            self._answer(run, place, 0, answers[place])
        call.request = Request(*made.request)
        call.progress = self._memory.progress[key]
        run.begin_anew({old: new for new, old in enumerate(left, 1)})

    def written(self, call: Call, stream: str) -> None:
        """Tell those who follow a stream that there is more."""
        run = self.live.get(call.key)
        for _, again in [] if run is None else run.followers.pop(stream, ()):
            again()

    def ended(
        self,
        call: Call,
        status: str,
        code: int,
        payload: bytes,
        taken: Iterable[int],
        effects: Sequence[Effect],
    ) -> None:
        """Commit the end of a run.

        Args:
            call: The run's.
            status: `completed`, `failed` or `cancelled`.
            code: As an answer says it.
            payload: Likewise.
            taken: The payloads that it has got, by their places.
            effects: What it leaves behind: calls on their way.
        """
        key = call.key
        run = self.live.pop(key)
        got = set(taken)
        journal = run.journal
        answers: dict[int, tuple[int, bytes]] = {}
        for place, event in journal.unanswered.items():
            if place in got and status == COMPLETED:
                answers[place] = 0, NOTHING[Encoding(event.encoding)]
            else:
                why = f"the run {key.id!r} has {_ENDED.get(status, status)}"
                answers[place] = pack_error(Code.HOOK_CLOSED, (event.token, why))
        left = [
            [event.token, event.payload]
            for place, event in enumerate(journal.received, 1)
            if place not in got
        ]
        tokens = sorted({*journal.hooks, *journal.disposed})
        ended_ms, keep_ms = self._memory.time_ms, self._catalog.retention_ms(run.row.workflow)
        expires_ms = 0 if keep_ms is None else FOR_EVER if keep_ms < 0 else ended_ms + keep_ms
        values = run.row.values_at_end(
            status=status, ended_ms=ended_ms, code=code, result=payload, left=left, tokens=tokens,
            input=StartPayload.given(call.request), expires_ms=expires_ms,
        )  # fmt: skip
        outcomes = [outcome_told(journal.unanswered[p], *a) for p, a in answers.items()]
        self._recorder.commit_run_whole(
            Commit(key, False, False, 1, values, outcomes, None, [Ended()], effects)
        )
        for place, answer in answers.items():
            self._answer(run, place, *answer)
        record = self._recorder.record
        for copy, told in run.starters:
            self._gate.answer([copy], None, 0, told, record)
        self._gate.answer(run.curious, None, 0, codec.encode([code, payload]), record)
        for followers in run.followers.values():
            for _, again in followers:
                again()
        self._owner.release(call)

    def parked(self, call: Call, code: int, payload: bytes) -> None:
        """Take word that a run does not go on until somebody decides about it."""
        run: Run = call.run
        copies = [copy for copy, _ in run.starters]
        self._gate.answer(copies, None, code, payload, self._recorder.last)
        run.starters = []
        refusal = Refusal(Code.PARKED, (str(call.key), call.key.id, call.parked))
        for copy in run.curious:
            self._gate.refuse(copy, refusal)
        run.curious = []
        for _, again in run.followers.pop(END, ()):
            again()

    # After a crash.

    def restored(self, key: ObjectKey, progress: Progress) -> Call:
        """Return the call of a run that a crash has interrupted."""
        state = self._memory.state(key)
        assert state is not None
        assert state.image is not None
        run = self._begin(key, progress, RunRow.of(state.image))
        for place, event in run.journal.unanswered.items():
            window = self._memory.open_window(event.session)
            if window.has_seen(event.sequence):
                continue
            request = Request(
                int(Kind.RESUME), event.session, event.sequence, 0, [0], *key, event.token,
                event.encoding, b"", None, None, [], 0,
            )  # fmt: skip
            call = Call(key, request, PLAIN, window, FOR_EVER_MS)
            window.open[event.sequence] = call
            run.resumes[place] = call
        return run.call

    def stop(self, refusal: Refusal) -> None:
        """Tell all who wait for a run that nothing more comes from here."""
        for run in self.live.values():
            copies = [copy for copy, _ in run.starters] + run.curious
            copies += [copy for call in run.resumes.values() for copy in call.copies]
            copies += [copy for following in run.followers.values() for copy, _ in following]
            for copy in copies:
                self._gate.refuse(copy, refusal)
            run.starters, run.curious, run.resumes, run.followers = [], [], {}, {}

    def _begin(self, key: ObjectKey, progress: Progress, row: RunRow) -> Run:
        request = Request(*progress.request)
        window: SessionWindow[Call] = SessionWindow(0)
        call = Call(key, request, PLAIN, window, FOR_EVER_MS)
        call.progress = progress
        call.run = run = self.live[key] = Run(call, row)
        return run

    def _commit(
        self,
        run: Run,
        events: Sequence[Event],
        outcomes: Sequence[Outcome] = (),
        effects: Sequence[Effect] = (),
    ) -> None:
        self._recorder.commit_run(run.call.key, events, outcomes, effects)
        run.journal.take(events)

    def _answer(self, run: Run, place: int, code: int, payload: bytes) -> None:
        call = run.resumes.pop(place, None)
        if call is not None:
            call.window.open.pop(call.request.sequence, None)
            self._gate.answer(call.copies, None, code, payload, self._recorder.record)


_ENDED = {COMPLETED: "completed", CANCELLED: "been cancelled"}
