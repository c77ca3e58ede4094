"""Timers that fire, and calls that come without anybody who waits for their result.

A call that was sent is accepted as a timer of its target, due at once or later. A firing is a
call without a caller: it has no outcome, and what it does to its timer is part of its first
record. So a timer fires until its effect is durable, and the effect is there once.
"""

from __future__ import annotations

from typing import Final

from perdure.bodies import Request, pack_error
from perdure.errors import Code
from perdure.frames import Encoding, Kind
from perdure.ids import CallId, ObjectKey
from perdure.schedules import TimerSetting
from perdure.sent import SENT, name_of_sent, sender_of
from perdure_node.core import firing
from perdure_node.core.calls import FOR_EVER_MS, PLAIN, Call, Catalog, Refusal
from perdure_node.core.copies import Copy
from perdure_node.core.events import Effect, Event, Fired
from perdure_node.core.firing import TimerChange
from perdure_node.core.gate import Gate
from perdure_node.core.keys import Keys
from perdure_node.core.limits import Limits
from perdure_node.core.mailboxes import Mailboxes
from perdure_node.core.memory import Memory
from perdure_node.core.recorder import Recorder, outcome_of
from perdure_node.core.window import SessionWindow

__all__ = ["LATER_MS", "NOBODY", "Firings", "id_of"]

NOBODY: Final = b"\xff" * 6 + b"firings\0\0\0"
"""The session of firings: no caller has it."""

_NONE: Final = b"\xc0"
"""None, encoded: what the sender of a call is told."""

_AT_ONCE_MAX: Final = 200
LATER_MS: Final = 500
"""How long a firing waits whose object takes no calls now."""


class Firings:
    """The firings of one partition's timers."""

    def __init__(
        self,
        number: int,
        memory: Memory,
        catalog: Catalog,
        recorder: Recorder,
        gate: Gate,
        mailboxes: Mailboxes,
        keys: Keys,
        limits: Limits,
    ) -> None:
        self._number = number
        self._memory = memory
        self._catalog = catalog
        self._recorder = recorder
        self._gate = gate
        self._mailboxes = mailboxes
        self._keys = keys
        self._limits = limits
        self.early: list[tuple[int, ObjectKey, TimerSetting]] = []
        """Timers that were due before the disk had them, each with its record."""

    def accept(self, request: Request, copy: Copy, call: Call) -> None:
        """Take a call that was sent: it is a timer of its object from now on."""
        memory = self._memory
        state = memory.state(call.key)
        if request.encoding != Encoding.MSGPACK:
            text = "a call without a result has its arguments in MessagePack"
            self._gate.refuse(copy, Refusal(Code.MALFORMED, (text,)))
            return
        if state is None or state.image is None:
            not_found = pack_error(Code.OBJECT_NOT_FOUND, tuple(call.key))
            self._gate.answer([copy], None, *not_found, memory.last_record_of(call.key))
            return
        if memory.timers.count_of(call.key) >= self._limits.timers_per_object_max:
            args = (f"timers of {call.key}", self._limits.retry_after_s)
            self._gate.refuse(copy, Refusal(Code.BACKPRESSURE, args))
            return
        if request.key is not None and not self._keys.claim(call):
            return
        generation = memory.timers.new_generation(self._recorder.record)
        due_ms = max(request.due_ms, memory.time_ms)
        name = name_of_sent(CallId(request.session, self._number, request.sequence))
        timer = TimerSetting(name, due_ms, request.method, request.arguments, "", generation)
        outcome = outcome_of(call, 0, _NONE)
        self._recorder.commit_outcome(call.key, state, outcome, [TimerChange(timer.name, timer)])
        self._keys.give_up(call)
        self._gate.answer([copy], None, 0, _NONE, self._recorder.record)
        self.bring_forward(call.key)

    def bring_forward(self, key: ObjectKey) -> None:
        """Let what was sent to an object and is due wait for its turn: before any later call.

        So calls come in the order in which they were sent, also while others are overdue.
        """
        memory = self._memory
        due_ms, timers = memory.timers_due_ms, memory.timers
        if due_ms is None or due_ms > memory.time_ms or not timers.count_of(key):
            return
        for timer in timers.due_of(key, SENT, memory.time_ms):
            self._mailboxes.put(self._call(key, timer))
        memory.timers_due_ms = timers.next_due_ms

    def fire(self, wall_ms: int) -> None:
        """Let timers fire that are due."""
        memory = self._memory
        timers = memory.timers
        for key, timer in timers.due(wall_ms, _AT_ONCE_MAX):
            mailbox = self._mailboxes.get(key)
            full = mailbox is not None and len(mailbox.waiting) >= self._limits.mailbox_calls_max
            sent = timer.name.startswith(SENT)
            record = timers.record_of(key, timer.name)
            if (full or self._mailboxes.paused) and not sent:
                timers.put_back(key, timer, wall_ms + LATER_MS)
            elif record > memory.durable and not sent:
                # If its method ended the process now, nobody would know of the timer.
                self.early.append((record, key, timer))
            else:
                self._mailboxes.put(self._call(key, timer))
        memory.timers_due_ms = timers.next_due_ms

    def fire_early(self) -> None:
        """Let those of the `early` timers fire that the disk has by now."""
        early, self.early = self.early, []
        for waiting in early:
            record, key, timer = waiting
            if record > self._memory.durable:
                self.early.append(waiting)
            else:
                self._mailboxes.put(self._call(key, timer))

    def _call(self, key: ObjectKey, timer: TimerSetting) -> Call:
        request = Request(
            int(Kind.CALL), NOBODY, 0, 0, [0], *key, timer.method, int(Encoding.MSGPACK),
            timer.arguments, None, None, [], 0,
        )  # fmt: skip
        call = self.call_of(key, request)
        call.timer = timer
        call.starts += timer.attempts
        return call

    def call_of(self, key: ObjectKey, request: Request) -> Call:
        """Return the call of a firing."""
        target = self._catalog.find(request)
        if isinstance(target, Refusal):
            target = PLAIN
        window: SessionWindow[Call] = SessionWindow(0)
        call = Call(key, request, target.alone, window, FOR_EVER_MS)
        call.firing = True
        call.since_ms = self._memory.now_ms
        return call

    def may_start(self, call: Call) -> bool:
        """Tell whether a firing still has something to do."""
        timer = call.timer
        state = self._memory.state(call.key)
        if state is None or state.image is None:
            return False
        if timer is None:
            return True  # It has begun before a crash.
        return firing.is_same(timer, self._memory.timers.get(call.key, timer.name))

    def begun(self, call: Call) -> tuple[list[Event], list[Effect]]:
        """Return what the first record of a firing holds that goes on after it."""
        timer = call.timer
        assert timer is not None
        call.timer, call.fired = None, timer
        return [Fired(list(timer))], [TimerChange(timer.name, self._after(timer))]

    def ended(self, call: Call, *, succeeded: bool) -> list[Effect]:
        """Return what the end of a firing does to its timer."""
        timer = call.timer
        if succeeded:
            if timer is None:
                return []
            return [TimerChange(timer.name, self._after(timer))]
        if timer is None:
            timer = call.fired
            assert timer is not None
            now = self._memory.timers.get(call.key, timer.name)
            if (timer.every and now is None) or (now and now.generation != timer.generation):
                # The method has cancelled it, or set it anew, and saved that before it failed.
                return []
        again = firing.failed(timer, self._memory.time_ms, self._limits)
        return [TimerChange(timer.name, again or firing.parked(timer))]

    def _after(self, timer: TimerSetting) -> TimerSetting | None:
        """Return what takes the place of a timer that has fired."""
        try:
            return firing.fired(timer, self._memory.time_ms)
        except ValueError:
            # Its time zone is not known on this machine: somebody has to look at it.
            return firing.parked(timer)


def id_of(call: Call, partition: int) -> str:
    """Return the id of a call as text: equal for all its attempts, and for no other call.

    A firing has the generation of its timer, which is unique in a partition, and the time that
    it was meant for; a call that was sent has the id that its sender gave it.
    """
    timer = call.timer or call.fired
    if timer is None:
        return str(CallId(call.request.session, partition, call.request.sequence))
    sender = sender_of(timer.name)
    if sender is not None:
        return str(sender)
    session = NOBODY[:6] + _meant_ms(timer).to_bytes(10, "big")
    return str(CallId(session, partition, timer.generation))


def _meant_ms(timer: TimerSetting) -> int:
    """Return what tells one firing of a timer from the next: 0 where there is only one.

    What is fired again because its method has failed is late, and still the same.
    """
    if not timer.every:
        return 0
    _, _, beat = timer.every.partition("@")
    return int(beat) if beat and timer.every.startswith("ms:") else timer.due_ms
