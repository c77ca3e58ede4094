"""Whom the death of a process is blamed on.

Only the call whose code was running then: one that merely waited may go on for as long as it
likes. It is noted when the next process begins, before that call runs again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from perdure.bodies import pack_error
from perdure.errors import Code
from perdure.ids import CallId, ObjectKey
from perdure.sent import sender_of
from perdure_node.core import firing
from perdure_node.core.commits import MARK, Outcome
from perdure_node.core.events import Blame, Blamed, Done, Event, Saved, Scheduled, Unparked
from perdure_node.core.firing import TimerChange
from perdure_node.core.firings import NOBODY
from perdure_node.core.memory import Memory
from perdure_node.core.recorder import Recorder
from perdure_node.core.window import SessionWindow

__all__ = ["Blames", "Driven", "blamed_since_step", "deaths_in", "reason_of"]


class Driven(NamedTuple):
    """The call whose code was running when a process died."""

    partition: int
    epoch: int
    """Of the process."""
    session: bytes
    """`NOBODY`: it is the firing of a timer, of which the rest tells."""
    sequence: int
    key: ObjectKey | None = None
    timer: str = ""
    generation: int = 0
    due_ms: int = 0


def blamed_since_step(events: Sequence[Event]) -> int:
    """Return how many processes a call in progress has ended since it last got any further."""
    count = 0
    for event in reversed(events):
        if isinstance(event, Scheduled | Done | Saved | Unparked):
            break
        count += isinstance(event, Blamed)
    return count


def deaths_in(events: Sequence[Event], window: SessionWindow[Any], sequence: int) -> int:
    """Return how many processes a call is known to have ended, with a journal and before it."""
    return window.blamed.get(sequence, (0, 0))[0] + sum(isinstance(e, Blamed) for e in events)


def reason_of(count: int) -> str:
    """Return, for people, why a call is given up."""
    return f"its process ended while it ran, {count} times"


class Blames:
    """The blamed calls of one partition."""

    def __init__(self, number: int, memory: Memory, recorder: Recorder) -> None:
        self._number = number
        self._memory = memory
        self._recorder = recorder

    def blame(self, driven: Driven, wall_ms: int) -> None:
        """Commit that a process has died while it ran a call of this partition.

        To be said before the calls in progress are put back. Saying it twice changes nothing.

        Args:
            driven: The call. If its end or more of its journal was lost, it is blamed as what
                the journal knows of it.
            wall_ms: Wall clock.
        """
        memory = self._memory
        memory.time_ms = max(memory.time_ms, wall_ms)
        key = self._in_progress(driven)
        if key is not None:
            events = memory.progress[key].events
            if not any(isinstance(e, Blamed) and e.epoch == driven.epoch for e in events):
                self._recorder.commit_blame(key, [Blamed(driven.epoch)])
        elif driven.session == NOBODY:
            self._blame_timer(driven)
        else:
            self._blame_call(driven)

    def _in_progress(self, driven: Driven) -> ObjectKey | None:
        for key, progress in self._memory.progress.items():
            session, sequence = progress.request[1:3]
            # While a firing is in progress, no other one of its object runs.
            if (session, sequence) == (driven.session, driven.sequence) and (
                session != NOBODY or key == driven.key
            ):
                return key
        return None

    def _blame_timer(self, driven: Driven) -> None:
        if driven.key is None:
            return
        memory = self._memory
        timer = memory.timers.get(driven.key, driven.timer)
        sender = sender_of(driven.timer)
        if timer is None and sender is not None:
            # It was running before the disk had it: whoever has sent it will send it again.
            self._blame_call(driven._replace(session=sender.session, sequence=sender.sequence))
            return
        if timer is None or (timer.generation, timer.due_ms) != (driven.generation, driven.due_ms):
            return
        after = firing.died(timer, memory.time_ms, memory.limits)
        self._recorder.commit_blame(driven.key, effects=[TimerChange(timer.name, after)])

    def _blame_call(self, driven: Driven) -> None:
        window = self._memory.open_window(driven.session)
        sequence = driven.sequence
        past = window.ended.get(sequence)
        if window.is_settled(sequence) or (past is not None and past.code != MARK):
            return
        count, epoch = window.blamed.get(sequence, (0, -1))
        if epoch == driven.epoch:
            return
        count += 1
        if count < self._memory.limits.blamed_max:
            effect = Blame(driven.session, sequence, count, driven.epoch)
            self._recorder.commit_blame(None, effects=[effect])
            return
        call_id = CallId(driven.session, self._number, sequence)
        poisoned = pack_error(Code.POISONED, (str(call_id), reason_of(count)))
        outcome = Outcome(driven.session, sequence, [0], *poisoned)
        self._recorder.commit_blame(None, outcomes=[outcome])
