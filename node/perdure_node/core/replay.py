"""What a method asks for, against the journal of its call.

Steps are numbered when the method asks for them, so that several may run at once. Results are
given to the method one at a time in the order of the journal, live and in every later run, so
that a race has the same winner again. (The idea of Temporal's and Restate's replay.)
"""

from __future__ import annotations

from perdure_node.core.events import (
    Cancelled,
    Checkpoint,
    Done,
    Event,
    Received,
    Retried,
    Saved,
    Scheduled,
)

__all__ = ["Mismatch", "Replay"]


class Mismatch(Exception):
    """The method asks for another step than in an earlier run."""

    def __init__(self, step: int, recorded: str, asked: str) -> None:
        super().__init__(step, recorded, asked)
        self.step = step
        self.recorded = recorded
        self.asked = asked


class Replay:
    """One run of one call's method. The journal grows while the method runs."""

    # Not in `__init__`: many runs change few of them.
    asked = 0
    """Steps that this run has asked for."""
    result_bytes = 0
    """Of all results in the journal."""
    _cursor = 0
    """Of the next event that may have to be delivered."""
    _seen = 0
    """How many events have been taken note of."""
    _highest = 0
    """The highest step in the journal, if an earlier run has asked for it."""
    _passed_step = 0
    """The highest step that an earlier run has asked for, up to the cursor."""
    _passed_saves = 0
    """How many saves an earlier run has made, up to the cursor."""
    _saves = 0
    """How many saves of an earlier run are in the journal."""
    _ahead: Done | None = None
    """What the method has heard before it was in the journal."""

    def __init__(self, events: list[Event], saved: int = 0) -> None:
        """Begin a run.

        Args:
            events: The journal. Whoever adds to it says so with `grown`.
            saved: How many `save()` this run has made by now.
        """
        self.events = events
        self._history = len(events)
        self._saved = saved
        self._scheduled: dict[int, Scheduled] = {}
        self._done: dict[int, Done] = {}
        if events:
            self.grown()

    def grown(self) -> None:
        """Take note of events added to the journal."""
        for event in self.events[self._seen :]:
            if isinstance(event, Scheduled):
                self._scheduled[event.step] = event
                self._highest = max(self._highest, event.step)
            elif isinstance(event, Done):
                if event is not self._ahead:
                    self._done[event.step] = event
                    self.result_bytes += len(event.payload)
            elif isinstance(event, Saved):
                self._saves += 1
            elif isinstance(event, Retried):
                for step in event.forgotten:
                    self._scheduled.pop(step, None)
                    self._done.pop(step, None)
        self._seen = len(self.events)

    def follow(self, step: Scheduled | None, count: int) -> bool:
        """Pass what this run itself has added to the journal, unless there is more than that.

        Args:
            step: What it has asked for, the last of it, if that may have a result.
            count: How many events that is: what it has heard ahead, decided and saved before.

        Returns:
            False when there is something in the journal that it has to hear: see `next`.
        """
        length = len(self.events)
        if self._cursor != length - count or self._seen != self._cursor:
            self.grown()
            return False
        if step is not None:
            self._scheduled[step.step] = step
        self._seen = self._cursor = length
        self._ahead = None
        return True

    def ask(self, kind: str, name: str) -> tuple[int, Scheduled | None]:
        """Number a step that the method asks for.

        Returns:
            Its number, and what the journal says of it; None: it is new.

        Raises:
            Mismatch: The journal has another step under that number.
        """
        self.asked = step = self.asked + 1
        recorded = self._scheduled.get(step)
        if recorded is not None and (recorded.kind, recorded.name) != (kind, name):
            raise Mismatch(step, _text(recorded.kind, recorded.name), _text(kind, name))
        return step, recorded

    def coming(self) -> Scheduled | None:
        """What the journal has under the number of the step that is asked for next."""
        return self._scheduled.get(self.asked + 1)

    def is_done(self, step: int) -> bool:
        """Tell whether the journal has the result of a step."""
        return step in self._done

    def save(self) -> bool:
        """Note a `save()`. False: it is in the journal already, so it is not made again."""
        self._saved += 1
        return self._saved > self._saves

    def next(self) -> Done | Cancelled | None:
        """Return what the method is to hear now; None: nothing, it has to go on by itself."""
        event = self.next_of_run()
        assert not isinstance(event, Received | Checkpoint), "only runs have hooks"
        return event

    @property
    def is_history(self) -> bool:
        """Tell whether the journal has more of an earlier run, which this one has to repeat."""
        return self._cursor < self._history

    def next_of_run(self) -> Done | Cancelled | Received | Checkpoint | None:
        """Return what the method is to hear now; None: nothing, it has to go on by itself."""
        while self._cursor < len(self.events):
            event = self.events[self._cursor]
            if isinstance(event, Done):
                if self._done.get(event.step) is not event:
                    self._cursor += 1  # Forgotten.
                    continue
                if event.step > self.asked:
                    return None
                self._cursor += 1
                if event is self._ahead:
                    self._ahead = None
                    continue
                return event
            if isinstance(event, Cancelled | Received | Checkpoint):
                if self.asked < self._passed_step or self._saved < self._passed_saves:
                    return None  # It came later than what the method has to do until then.
                self._cursor += 1
                return event
            if isinstance(event, Scheduled):
                self._passed_step = max(self._passed_step, event.step)
            elif isinstance(event, Saved):
                self._passed_saves += 1
            self._cursor += 1
        return None

    def hear_ahead(self, event: Done) -> bool:
        """Take a result that the method is to hear before it is in the journal.

        It is the next event there, whatever the method does when it has heard it. False: there is
        something that it has not heard yet, or that is not in the journal yet.
        """
        if self._cursor < len(self.events) or self._ahead is not None:
            return False
        self._ahead = self._done[event.step] = event
        self.result_bytes += len(event.payload)
        return True

    @property
    def is_ahead(self) -> bool:
        """Tell whether the method has heard something that is not in the journal yet."""
        return self._ahead is not None

    def left(self) -> Scheduled | None:
        """Return a step in the journal that this run, which is over, has not asked for."""
        if self._highest <= self.asked:
            return None
        later = [number for number in self._scheduled if number > self.asked]
        return self._scheduled[min(later)] if later else None

    def failed_last(self) -> list[int]:
        """Return the steps that have failed, and after which nothing was asked for or saved.

        The method may go another way when they succeed: nothing in the journal contradicts it.
        """
        failed = []
        for event in reversed(self.events):
            if isinstance(event, Scheduled | Saved):
                break
            if isinstance(event, Done) and event.code and self._done.get(event.step) is event:
                failed.append(event.step)
        return sorted(failed)

    def open_steps(self) -> list[Scheduled]:
        """Return the steps without a result, in their order."""
        return [event for number, event in self._scheduled.items() if number not in self._done]


def _text(kind: str, name: str) -> str:
    return f"{kind} {name}"
