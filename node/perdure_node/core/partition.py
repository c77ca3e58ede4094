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
from typing import Any, Final

from perdure.bodies import Request, pack_error, unpack_error
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.admission import Admission
from perdure_node.core.blames import Blames
from perdure_node.core.calls import FOR_EVER_MS, Call, Catalog, Ready, Refusal
from perdure_node.core.cancelling import Cancelling
from perdure_node.core.copies import Copy
from perdure_node.core.damage import DamageFound, stops_on_damage
from perdure_node.core.events import Effect
from perdure_node.core.firings import LATER_MS, Firings
from perdure_node.core.gate import Gate
from perdure_node.core.journalled import Journalled
from perdure_node.core.keys import Keys
from perdure_node.core.limits import Limits
from perdure_node.core.mailboxes import Mailboxes
from perdure_node.core.memory import Memory
from perdure_node.core.nested import NestedCalls
from perdure_node.core.reader import READS, Reader
from perdure_node.core.recorder import Recorder, outcome_of
from perdure_node.core.run_expiry import RunExpiry
from perdure_node.core.run_questions import RunQuestions
from perdure_node.core.run_rows import FAILED
from perdure_node.core.runs import Runs
from perdure_node.core.starter import Starter

__all__ = ["Partition"]

# Members of an enum cost ten times as much to look up.
_GET_OR_CREATE: Final = int(Kind.GET_OR_CREATE)
_DELETE: Final = int(Kind.DELETE)
_CONFIRM: Final = int(Kind.CONFIRM)
_CANCEL: Final = int(Kind.CANCEL)
_SEND: Final = int(Kind.SEND)
_ASK: Final = int(Kind.ASK)
_PROBE: Final = int(Kind.PROBE)
_BESIDE: Final = READS | {_CONFIRM, _CANCEL, _ASK, _PROBE}
"""What never waits in a mailbox."""


class Partition:
    """The rules of one partition, under one epoch."""

    def __init__(
        self, number: int, epoch: int, memory: Memory, catalog: Catalog, limits: Limits, server: str
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.memory = memory
        self._mailboxes = Mailboxes()
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
        self._nested = NestedCalls(self, memory, self._keys, self._mailboxes, self._gate, limits)
        self._starter = Starter(
            memory, self._gate, self.recorder, self._reader, self._keys, self._mailboxes,
            self.firings, self._nested,
        )  # fmt: skip
        self._mailboxes.start = self._starter.start
        self.blames = Blames(number, memory, self.recorder)
        self.journalled = Journalled(
            self, memory, catalog, self.recorder, self._gate, self._mailboxes, self.firings
        )
        self.runs = Runs(memory, catalog, self.recorder, self._gate, self, limits)
        self._questions = RunQuestions(
            memory, self._gate, self.recorder, self.runs, catalog, limits
        )
        self.expiry = RunExpiry(memory, self.recorder, self._mailboxes, limits)
        self._cancelling = Cancelling(
            number,
            memory,
            self._gate,
            self.recorder,
            self._mailboxes,
            self.journalled,
            self._keys,
            self,
            limits,
        )
        self._admission = Admission(
            self,
            memory,
            catalog,
            limits,
            server,
            gate=self._gate,
            recorder=self.recorder,
            reader=self._reader,
            keys=self._keys,
            mailboxes=self._mailboxes,
            firings=self.firings,
            journalled=self.journalled,
            runs=self.runs,
        )
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
        memory.now_ms = now_ms
        if wall_ms > memory.time_ms:  # noqa: PLR1730 - half the price of max()
            memory.time_ms = wall_ms
        copy = Copy(sink, number, request.have)
        try:
            if self.stopped is not None:
                self._gate.refuse(copy, self.stopped)
            elif request.kind in _BESIDE:
                self._take_beside(request, copy)
            else:
                deadline_ms = now_ms + time_left_ms
                if request.due_ms and request.kind != _SEND:
                    # Its copies travel for longer than it may wait here.
                    deadline_ms = now_ms + request.due_ms - wall_ms
                self._admission.admit(request, copy, deadline_ms)
            if self._admission.out_of_order.by_predecessor:
                self._admission.admit_freed(request.session)
        except DamageFound as damage:
            self.stop_damaged(str(damage))

    def _take_beside(self, request: Request, copy: Copy) -> None:
        kind = request.kind
        if kind == _CANCEL:
            self._cancelling.cancel(request, copy)
        elif kind == _CONFIRM:
            self._admission.confirm(request)
        elif kind == _ASK:
            self._questions.ask(request, copy)
        elif kind == _PROBE:
            self._nested.probing.asked(request, copy)
        else:
            self._reader.read(request, copy)

    def time_passed(self, now_ms: int) -> None:
        """Refuse calls whose predecessors have not come in time."""
        self.memory.now_ms = now_ms
        for held in self._admission.out_of_order.expired(now_ms):
            self._gate.refuse(held.copy, Refusal(Code.OUT_OF_ORDER, ()))
        self._nested.time_passed(now_ms)

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
            self._starter.finish(call, *pack_error(*self.stopped))
            return
        if call.run is not None:
            self.runs.ended(call, FAILED, code, payload, (), effects)
            return
        version = state.state_version if state_version is None else state_version
        recorder = self.recorder
        # Every call comes this way: without the cost of `stops_on_damage`.
        try:
            if call.firing:
                # Before what the method has done: it may set its own timer anew, or cancel it.
                effects = [*self.firings.ended(call, succeeded=code == 0), *effects]
                recorder.commit_firing(call, values, version, effects)
                self._starter.finish(call, code, payload)
                return
            outcome = outcome_of(call, code, payload)
            if state.image is None and code == 0:
                created = True
            recorded = recorder.commit(
                call, outcome, values, version, created=created, saved=saved, effects=effects
            )
            self._starter.finish(call, code, payload, recorder.record if recorded else 0)
        except DamageFound as damage:
            self.stop_damaged(str(damage))

    @stops_on_damage
    def fire(self, wall_ms: int) -> None:
        """Let timers fire that are due."""
        self.memory.time_ms = max(self.memory.time_ms, wall_ms)
        if self.stopped is None and not self.draining and self.room:
            self.firings.fire(self.memory.time_ms)
        else:
            self.memory.timers_due_ms = wall_ms + LATER_MS

    @stops_on_damage
    def method_refused(self, call: Call, refusal: Refusal) -> None:
        """Take word that a call never entered its method, because its arguments do not fit."""
        if call.firing:
            self.method_returned(call, *pack_error(*refusal), {})
            return
        error = pack_error(*refusal)
        self.recorder.mark(call, *error, 0)
        self._starter.finish(call, *error)

    @stops_on_damage
    def shared_returned(self, call: Call, code: int, payload: bytes) -> None:
        """Take the end of a shared call. It has changed nothing, so there is no record."""
        state = call.state
        assert state is not None
        call.window.end_unrecorded(call.request.sequence)
        self._starter.finish(call, code, payload, state.last_record)

    def put_back(self, call: Call) -> None:
        """Put a call that a crash has interrupted back where it was."""
        self._keys.resume(call)
        self.enqueue(call)

    def run_again(self, call: Call) -> None:
        """Run the method of a call once more, which holds its object."""
        self._starter.runs.append(call)

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
        self.memory.became_durable(record)
        if self.firings.early:
            self._fire_early()

    @stops_on_damage
    def _fire_early(self) -> None:
        if self.stopped is None and not self.draining:
            self.firings.fire_early()

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
        self.runs.stop(refusal)
        for held in self._admission.out_of_order.expired(FOR_EVER_MS):
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
        ready = Ready(self._gate.outputs, self._starter.runs)
        self._gate.outputs, self._starter.runs = [], []
        return ready

    def take_outputs(self) -> list[Any]:
        """Return what may leave, and forget it; what is to be run stays."""
        outputs, self._gate.outputs = self._gate.outputs, []
        return outputs

    @property
    def mailboxes(self) -> Mailboxes:
        """Which calls wait and run, for those who only look."""
        return self._mailboxes

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
        held_ms, nested_ms = self._admission.out_of_order.next_ms, self._nested.next_ms
        if held_ms is None or nested_ms is None:
            return nested_ms if held_ms is None else held_ms
        return min(held_ms, nested_ms)

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is here that would not go on by itself after the next start."""
        if self._admission.out_of_order:
            return False
        return not any(
            mailbox.waiting or any(call.progress is None for call in mailbox.running)
            for mailbox in self._mailboxes
        )

    @property
    def has_work(self) -> bool:
        """Tell whether `take_ready` would return anything."""
        return bool(self._starter.runs or self._gate.outputs)

    # Mailboxes.

    def enqueue(self, call: Call) -> None:
        """Let a call wait for its turn."""
        if self.memory.timers_due_ms is not None and call.progress is None and self.room:
            self.firings.bring_forward(call.key)
        call.window.open[call.request.sequence] = call
        call.since_ms = self.memory.now_ms
        self._mailboxes.put(call)
        if call.state is None and call.request.chain:
            self._nested.watch(call)

    def end_unrun(self, call: Call, code: int, payload: bytes, record: int = 0) -> None:
        """Answer a call that did not run. A late copy of it gets the same answer.

        Args:
            call: It.
            code: What its caller is told.
            payload: Likewise.
            record: The last one that the answer tells of; 0: of none.
        """
        self._starter.end_unrun(call, code, payload, record)

    def end_unstarted(self, call: Call, code: int, payload: bytes) -> bool:
        """End a call that holds its object, and whose method has not begun. False: it has."""
        if call.progress is not None or call not in self._starter.runs:
            return False
        self._starter.runs.remove(call)
        self.method_refused(call, Refusal(Code(code), tuple(unpack_error(payload))))
        return True

    def release(self, call: Call) -> None:
        """Let the object of a run go that has ended."""
        self.journalled.parked_calls.pop(call.key, None)
        self._starter.release(call)
