"""A partition: which call runs next, what is journalled, who is answered and when.

Deterministic and free of I/O. What happens comes in through the methods named for events
(`call_arrived`, `method_returned`, `durable`, ...); the work they ask for comes out through
`take_ready`. Commits pile up in `memory` until the shell takes them as one record.

Invariants:
  * A call is looked up in its session's window before anything else is decided about it, so
    within the window no call runs twice and no refusal hides that a copy of it has run.
  * Nothing leaves before the last record that it could have seen is durable: `Gate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.errors import Code
from perdure.frames import Encoding, Kind, Request, pack_error
from perdure.ids import ObjectKey
from perdure_node.core.calls import Call, Catalog, Copy, Ready, Refusal, Target
from perdure_node.core.commits import MARK
from perdure_node.core.damage import DamageFound, stops_on_damage
from perdure_node.core.events import Effect
from perdure_node.core.firings import Firings
from perdure_node.core.gate import Gate
from perdure_node.core.journalled import Journalled
from perdure_node.core.keys import Keys
from perdure_node.core.limits import Limits
from perdure_node.core.mailboxes import Mailbox, Mailboxes
from perdure_node.core.memory import USED_AGAIN_MS, Memory
from perdure_node.core.order import OutOfOrder
from perdure_node.core.reader import NO, READS, YES, Reader
from perdure_node.core.recorder import Recorder, outcome_of
from perdure_node.core.refusals import refuse_chain, refuse_full, refuse_session
from perdure_node.core.state import ObjectState
from perdure_node.core.window import UNRECORDED, Ended, SessionWindow

__all__ = ["Partition"]

# Members of an enum cost ten times as much to look up.
_CALL, _GET_OR_CREATE = Kind.CALL, Kind.GET_OR_CREATE
_DELETE, _CONFIRM, _SEND = Kind.DELETE, Kind.CONFIRM, Kind.SEND


class Partition:
    """The rules of one partition, under one epoch."""

    def __init__(
        self, number: int, epoch: int, memory: Memory, catalog: Catalog, limits: Limits, server: str
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.memory = memory
        self._catalog = catalog
        self._limits = limits
        self._server = server
        self._mailboxes = Mailboxes(self._start)
        self._out_of_order = OutOfOrder(limits)
        self._runs: list[Call] = []
        self._gate = Gate(memory, epoch, limits)
        self.recorder = Recorder(memory, limits)
        self._reader = Reader(memory, catalog, self._gate, self.recorder, limits)
        self._keys = Keys(memory, catalog, self._gate, self.recorder)
        self.firings = Firings(
            number,
            memory,
            catalog,
            self.recorder,
            self._gate,
            self._mailboxes,
            self._keys,
            limits,
        )
        self.journalled = Journalled(
            self, memory, catalog, self.recorder, self._gate, self._mailboxes, self.firings
        )
        self.now_ms = 0  # Monotonic time, as of the last event that brought it.
        self.room = True
        """False: the disk is full, and calls that would write are refused."""
        self.draining = False
        self.stopped: Refusal | None = None
        """Set for good: what every call is told from then on."""

    # Events.

    def call_arrived(
        self, request: Request, sink: Any, number: int, time_left_ms: int, now_ms: int, wall_ms: int
    ) -> None:
        """Take one copy of a call.

        Args:
            request: Its object is known to belong to this partition.
            sink: Where the answer goes, together with `number`. Opaque.
            number: Of the frame. 0: no answer is wanted.
            time_left_ms: Until the caller gives up.
            now_ms: Monotonic clock.
            wall_ms: Wall clock, for the age of sessions.
        """
        memory = self.memory
        self.now_ms = memory.now_ms = now_ms
        memory.time_ms = max(memory.time_ms, wall_ms)
        copy = Copy(sink, number, request.have)
        try:
            if self.stopped is not None:
                self._gate.refuse(copy, self.stopped)
            elif request.kind in READS:
                self._reader.read(request, copy)
            elif request.kind == _CONFIRM:
                self._confirm(request)
            else:
                self._admit(request, copy, now_ms + time_left_ms)
            if self._out_of_order.by_predecessor:
                self._admit_freed(request.session)
        except DamageFound as damage:
            self.stop_damaged(str(damage))

    def time_passed(self, now_ms: int) -> None:
        """Refuse calls whose predecessors have not come in time."""
        self.now_ms = self.memory.now_ms = now_ms
        for held in self._out_of_order.expired(now_ms):
            self._gate.refuse(held.copy, Refusal(Code.OUT_OF_ORDER, ()))

    def method_returned(
        self,
        call: Call,
        code: int,
        payload: bytes,
        values: dict[str, bytes],
        *,
        created: bool = False,
        state_version: int | None = None,
        saved: bool = False,
        effects: Sequence[Effect] = (),
    ) -> None:
        """Take the end of an exclusive call: commit what it changed and answer.

        Args:
            call: It was in `Ready.runs`.
            code: What its callers are told.
            payload: Likewise.
            values: The attributes that it changed. After an exception: those it had saved.
            created: The call was the object's creation, and `values` is the whole state.
            state_version: Of the state, when it has changed.
            saved: The method has called `save()`; only types that persist on save care.
            effects: What else it leaves behind: calls on their way, timers.
        """
        state = call.state
        assert state is not None
        if self.stopped is not None:
            self._finish(call, *pack_error(*self.stopped))
            return
        version = state.state_version if state_version is None else state_version
        recorder = self.recorder
        # Every call comes this way: without the cost of `stops_on_damage`.
        try:
            if call.firing:
                effects = [*effects, *self.firings.ended(call, succeeded=code == 0)]
                recorder.commit_firing(call, values, version, effects)
                self._finish(call, code, payload)
                return
            outcome = outcome_of(call, code, payload)
            recorded = recorder.commit(
                call, outcome, values, version, created=created, saved=saved, effects=effects
            )
            self._finish(call, code, payload, recorder.record if recorded else 0)
        except DamageFound as damage:
            self.stop_damaged(str(damage))

    @stops_on_damage
    def fire(self, wall_ms: int) -> None:
        """Let timers fire that are due."""
        self.memory.time_ms = max(self.memory.time_ms, wall_ms)
        if self.stopped is None and not self.draining and self.room:
            self.firings.fire(self.memory.time_ms)

    @stops_on_damage
    def method_refused(self, call: Call, refusal: Refusal) -> None:
        """Take word that a call never entered its method, because its arguments do not fit."""
        if call.firing:
            self.method_returned(call, *pack_error(*refusal), {})
            return
        error = pack_error(*refusal)
        self.recorder.mark(call, *error, 0)
        self._finish(call, *error)

    @stops_on_damage
    def shared_returned(self, call: Call, code: int, payload: bytes) -> None:
        """Take the end of a shared call. It has changed nothing, so there is no record."""
        state = call.state
        assert state is not None
        self.recorder.mark(call, MARK, b"", state.last_record)
        self._finish(call, code, payload, state.last_record)

    def put_back(self, call: Call) -> None:
        """Put a call that a crash has interrupted back where it was."""
        self._keys.resume(call)
        self._enqueue(call)

    def run_again(self, call: Call) -> None:
        """Run the method of a call once more, which holds its object."""
        self._runs.append(call)

    def hold(self, key: ObjectKey, token: object) -> None:
        """Give `token` out again once all that `key` has committed so far is durable."""
        self._gate.let_out(token, self.memory.last_record_of(key))

    def hold_all(self, token: object) -> None:
        """Give `token` out again once all that the partition has committed so far is durable."""
        self._gate.let_out(token, self.recorder.last)

    @property
    def record(self) -> int:
        """The number of the record that the next commit will be in."""
        return self.recorder.record

    def claimed(self, record: int) -> None:
        """Note that the partition's log begins this epoch with this record."""
        self.recorder.record = record
        self.recorder.made(record, 0)

    def record_made(self, record: int, bytes: int) -> None:
        """Note that the commits taken from `memory` are record `record` now, not yet durable."""
        self.recorder.made(record, bytes)

    def durable(self, record: int) -> None:
        """Let out what waited for all records up to this one."""
        if self.stopped is None:
            self._gate.opened(record)
        self.memory.durable = record

    @stops_on_damage
    def resume_starting(self) -> None:
        """Start the calls that could not start while `paused` was set."""
        self.paused = False
        self._mailboxes.resume_starting()

    def stop_damaged(self, damage: str) -> None:
        """Stop for good, because the data is damaged."""
        self.stop(Refusal(Code.DATA_LOSS, (self.number, damage)))

    def stop(self, refusal: Refusal) -> None:
        """Stop for good. Nothing that was not let out yet ever will be."""
        if self.stopped is not None:
            return
        self.stopped = refusal
        self._gate.drop(refusal)
        for held in self._out_of_order.expired(1 << 62):
            self._gate.refuse(held.copy, refusal)
        for mailbox in self._mailboxes:
            for call in [*mailbox.waiting, *mailbox.running]:
                for one in [call, *call.followers]:
                    for copy in one.copies:
                        self._gate.refuse(copy, refusal)
                    one.copies = []
            mailbox.waiting.clear()

    def take_ready(self) -> Ready:
        """Return the work caused since the last call, and forget it."""
        ready = Ready(self._gate.outputs, self._runs)
        self._gate.outputs, self._runs = [], []
        return ready

    def take_outputs(self) -> list[Any]:
        """Return what may leave, and forget it; what is to be run stays."""
        outputs, self._gate.outputs = self._gate.outputs, []
        return outputs

    @property
    def paused(self) -> bool:
        """No call starts: too much is on its way to the disk."""
        return self._mailboxes.paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._mailboxes.paused = paused

    @property
    def next_time_ms(self) -> int | None:
        """When `time_passed` has something to do: monotonic time. None: not at all."""
        return self._out_of_order.next_ms

    @property
    def is_idle(self) -> bool:
        """Tell whether no call waits or runs."""
        return not self._mailboxes and not self._out_of_order

    @property
    def has_work(self) -> bool:
        """Tell whether `take_ready` would return anything."""
        return bool(self._runs or self._gate.outputs)

    # Admission: from the wire to a mailbox.

    def _confirm(self, request: Request) -> None:
        window = self.memory.window(request.session)
        if window is not None:
            window.confirm(request.confirmed)
            self.memory.dirty_windows.add(request.session)

    def _admit_freed(self, session: bytes) -> None:
        """Admit the calls that have waited for what the session has sent by now."""
        window = self.memory.window(session)
        if window is not None:
            for held in self._out_of_order.freed(session, window):
                self._admit(held.request, held.copy, held.deadline_ms)

    def _admit(self, request: Request, copy: Copy, deadline_ms: int) -> None:
        window = self.memory.windows.get(request.session) or self.memory.window(request.session)
        if window is None:
            refusal = refuse_session(request.session, self.memory.time_ms, self._limits)
            if refusal is not None:
                self._gate.refuse(copy, refusal)
                return
            window = self.memory.open_window(request.session)
        window.confirm(request.confirmed)
        self.memory.dirty_windows.add(request.session)
        sequence = request.sequence
        if sequence == 0:
            self._gate.refuse(copy, Refusal(Code.MALFORMED, ("a call has a sequence from 1 on",)))
            return
        if (past := window.ended.get(sequence)) is not None and past.code != MARK:
            self._repeat(request, copy, past)
            return
        if (call := window.open.get(sequence)) is not None:
            if len(call.copies) < self._limits.copies_max:
                call.copies.append(copy)
            else:
                what = ("copies of one call", self._limits.retry_after_s)
                self._gate.refuse(copy, Refusal(Code.BACKPRESSURE, what))
            return
        if window.is_settled(sequence):
            self._gate.refuse(copy, Refusal(Code.SUPERSEDED, ()))
            return
        previous = request.previous
        if previous and previous not in window.open and previous not in window.ended:
            if window.is_settled(previous):
                # This copy is older than the end of the one it names. What it has to follow now,
                # a still earlier call perhaps, only a new copy says.
                self._gate.refuse(copy, Refusal(Code.OUT_OF_ORDER, ()))
            elif not self._out_of_order.hold(request, copy, deadline_ms, self.now_ms):
                self._gate.refuse(copy, Refusal(Code.OUT_OF_ORDER, ()))
            return
        self._accept(request, copy, window, deadline_ms, again=past is not None)

    def _accept(
        self,
        request: Request,
        copy: Copy,
        window: SessionWindow[Call],
        deadline_ms: int,
        *,
        again: bool,
    ) -> None:
        """Take a call that has not been here before, or (`again`) changed nothing when it was."""
        key = ObjectKey(request.type, request.id)
        target = self._catalog.find(request)
        refusal = target if isinstance(target, Refusal) else self._no_place(request, key, window)
        if refusal is not None:
            self._gate.refuse(copy, refusal)
            return
        assert isinstance(target, Target)
        call = Call(key, request, target, window, deadline_ms)
        call.copies.append(copy)
        if request.kind == _SEND:
            self.firings.accept(request, copy, call)
            return
        if request.key is not None and request.kind == _CALL and not self._keys.claim(call):
            return
        if request.kind == _GET_OR_CREATE:
            state = self.memory.state(call.key)
            if state is not None and state.image is not None:
                # It is there: a read, which waits for no method.
                self.recorder.mark(call, MARK, b"", state.last_record)
                shown = self._reader.shown(state, request.encoding)
                self._gate.answer([copy], state, *shown)
                return
        if again and not call.shared:
            # What it read has changed since. It must not do now what it had no need to do then.
            self._keys.give_up(call)
            self._gate.refuse(copy, Refusal(Code.SUPERSEDED, ()))
            return
        if not self.room and not call.shared:
            self._keys.give_up(call)
            self._gate.refuse(copy, Refusal(Code.DISK_FULL, (1.0,)))
            return
        self._enqueue(call)

    def _no_place(
        self, request: Request, key: ObjectKey, window: SessionWindow[Call]
    ) -> Refusal | None:
        limits = self._limits
        if request.chain and (refusal := refuse_chain(request, limits)) is not None:
            return refusal
        if self.draining:
            return Refusal(Code.DRAINING, (self._server,))
        if (refusal := self.journalled.refusal(key)) is not None:
            return refusal
        if self._mailboxes.waiting >= limits.waiting_calls_max:
            return Refusal(Code.BACKPRESSURE, (f"partition {self.number}", limits.retry_after_s))
        return refuse_full(key, self._mailboxes.get(key), window, limits)

    # Mailboxes.

    def _enqueue(self, call: Call) -> None:
        call.window.open[call.request.sequence] = call
        self._mailboxes.put(call)

    def _start(self, call: Call, mailbox: Mailbox) -> None:
        """Run a call, or answer it if there is nothing to run."""
        if call.firing and not self.firings.may_start(call):
            return
        if self.now_ms > call.deadline_ms:
            heir = self._keys.pass_on(call)
            if heir is not None:
                self._mailboxes.put_first(heir, mailbox)
            text = "the caller's time was over before the call could start: it did not run"
            self._end_unrun(call, *pack_error(Code.DEADLINE_EXCEEDED, (text,)))
            return
        kind = call.request.kind
        state = self.memory.state(call.key)
        there = state is not None and state.image is not None
        if kind == _DELETE:
            self._delete(call, state if there else None)
            return
        if kind == _GET_OR_CREATE:
            if there:
                assert state is not None
                shown = self._reader.shown(state, call.request.encoding)
                self.recorder.mark(call, MARK, b"", state.last_record)
                self._gate.answer(call.copies, state, *shown)
                return
            if state is None:
                state = ObjectState(call.key, None, 1, self.memory.number)
        elif not there or state is None:
            self._end_unrun(call, *pack_error(Code.OBJECT_NOT_FOUND, call.key), state=state)
            return
        call.state = state
        state.users += 1
        mailbox.running.append(call)
        if call.parked is None:
            self._runs.append(call)

    def _delete(self, call: Call, state: ObjectState | None) -> None:
        payload = (NO if state is None else YES)[Encoding(call.request.encoding)]
        self.recorder.commit_deletion(call, state, outcome_of(call, 0, payload))
        self._gate.answer(call.copies, None, 0, payload, self.recorder.record)

    def _end_unrun(
        self, call: Call, code: int, payload: bytes, state: ObjectState | None = None
    ) -> None:
        """Answer a call that did not run. A late copy of it gets the same answer."""
        self.recorder.mark(call, code, payload, 0 if state is None else state.last_record)
        self._keys.give_up(call)
        self._gate.answer(call.copies, state, code, payload)
        self._end_followers(call, code, payload, 0)

    def _finish(self, call: Call, code: int, payload: bytes, record: int = 0) -> None:
        """Answer a call that has run, and let the next one of its object start."""
        state = call.state
        assert state is not None
        state.users -= 1
        if self.memory.now_ms - state.used_ms >= USED_AGAIN_MS:
            self.memory.use(state)
        request = call.request
        current: ObjectState | None = state
        call.window.open.pop(request.sequence, None)
        if request.key is not None:
            self._keys.give_up(call)
        if request.kind == _GET_OR_CREATE:
            current = self.memory.state(call.key)
            if code == 0 and current is not None:
                code, payload = self._reader.shown(current, request.encoding)
        self._gate.answer(call.copies, current, code, payload, record)
        if call.followers:
            self._end_followers(call, code, payload, record)
        self._mailboxes.ended(call)

    def _end_followers(self, call: Call, code: int, payload: bytes, record: int) -> None:
        for follower in call.followers:
            self.recorder.mark(follower, MARK, b"", record)
            self._gate.answer(follower.copies, call.state, code, payload, record)

    def _repeat(self, request: Request, copy: Copy, past: Ended) -> None:
        """Answer a copy of a call that has ended."""
        state = self.memory.state(ObjectKey(request.type, request.id))
        record = 0 if past.record == UNRECORDED else past.record
        self._gate.answer([copy], state, past.code, past.payload, record)
