"""Timers as a method sets them: with the next commit of its object's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.context import TimerSetting
from perdure.errors import TooManyTimers
from perdure.sent import SENT
from perdure_node.core.firing import TimerChange

if TYPE_CHECKING:
    from perdure_node.turn import MethodTurn

__all__ = ["cancel_timer", "set_timer", "timers_of"]


def set_timer(turn: MethodTurn, timer: TimerSetting) -> None:
    """Set a timer of the object.

    Raises:
        TooManyTimers: The object has as many as it may have.
    """
    memory, key = turn.partition.memory, turn.admitted.key

    def make() -> tuple[None, TimerChange]:
        limit = turn.limits.timers_per_object_max
        # All of them are looked at only where it may be too many.
        if memory.timers.count_of(key) + turn.steps.pending_count >= limit:
            known = {known.name for known in timers_of(turn)}
            if timer.name not in known and len(known) >= limit:
                raise TooManyTimers(str(key), limit)
        generation = memory.timers.new_generation(turn.partition.record)
        return None, TimerChange(timer.name, timer._replace(generation=generation))

    turn.steps.commit_with("timer", timer.name, make)


def cancel_timer(turn: MethodTurn, name: str) -> bool:
    """Cancel a timer of the object. Returns whether there was one."""

    def make() -> tuple[bool, TimerChange]:
        known = turn.partition.memory.timers.get(turn.admitted.key, name)
        for effect in turn.pending:
            if isinstance(effect, TimerChange) and effect.name == name:
                known = effect.timer
        return known is not None, TimerChange(name, None)

    return bool(turn.steps.commit_with("cancel", name, make))


def timers_of(turn: MethodTurn) -> list[TimerSetting]:
    """Return the timers of the object as they are set by now, by name."""
    known = {t.name: t for t in turn.partition.memory.timers.of(turn.admitted.key)}
    for effect in turn.pending:
        if isinstance(effect, TimerChange):
            if effect.timer is None:
                known.pop(effect.name, None)
            else:
                known[effect.name] = effect.timer
    return [known[name] for name in sorted(known) if not name.startswith(SENT)]
