"""What becomes of a timer when it fires.

A firing is known by its object and the timer's name, generation and due time. It runs only if
exactly that timer is there when it starts; what is decided here is committed with its effects.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from perdure import schedules
from perdure.schedules import TimerSetting
from perdure_node.core.limits import Limits

__all__ = [
    "PARKED_MS",
    "TimerChange",
    "died",
    "failed",
    "fired",
    "is_same",
    "parked",
    "unpack_change",
]

PARKED_MS: Final = (1 << 63) - 1
"""When a parked timer is due: never. It can be seen, cancelled, and set again."""


class TimerChange(NamedTuple):
    """A timer of the object that a commit belongs to is set, or there is none any more."""

    name: str
    timer: TimerSetting | None
    tag: str = "t"


def unpack_change(row: list[Any]) -> TimerChange:
    """Return a change from its fields."""
    name, timer, tag = row
    return TimerChange(name, TimerSetting(*timer) if timer is not None else None, tag)


def is_same(firing: TimerSetting, timer: TimerSetting | None) -> bool:
    """Tell whether a firing may start: the timer is still what it was when it became due."""
    return (
        timer is not None
        and firing.generation == timer.generation
        and firing.due_ms == timer.due_ms
    )


def fired(timer: TimerSetting, now_ms: int) -> TimerSetting | None:
    """Return what takes the place of a timer whose method has succeeded; None: it is over.

    Args:
        timer: As it was when it fired.
        now_ms: Wall clock. What came due until now is made up for by this firing.

    Raises:
        ValueError: This machine does not know the timer's time zone.
    """
    if not timer.every:
        return None
    due_ms = schedules.next_due_after_firing(timer.every, timer.due_ms, now_ms)
    return timer._replace(
        due_ms=due_ms, every=schedules.unanchored(timer.every), attempts=0, deaths=0
    )


def failed(timer: TimerSetting, now_ms: int, limits: Limits) -> TimerSetting | None:
    """Return a timer that fires again because its method has failed; None: it is to be parked.

    Args:
        timer: As it was when it fired.
        now_ms: Wall clock.
        limits: How often, and how long it waits.
    """
    attempts = timer.attempts + 1
    if attempts >= limits.timer_attempts_max or timer.deaths >= limits.blamed_max:
        return None
    # A shift by more than the bits of the longest wait is the longest wait.
    doublings = min(attempts - 1, limits.timer_retry_max_ms.bit_length())
    wait_ms = min(limits.timer_retry_ms << doublings, limits.timer_retry_max_ms)
    return timer._replace(
        due_ms=now_ms + wait_ms,
        every=schedules.anchored(timer.every, timer.due_ms),
        attempts=attempts,
    )


def died(timer: TimerSetting, now_ms: int, limits: Limits) -> TimerSetting:
    """Return what takes the place of a timer whose method has ended its process.

    Args:
        timer: As it was when it fired.
        now_ms: Wall clock.
        limits: How often, and how long it waits.
    """
    timer = timer._replace(deaths=timer.deaths + 1)
    return failed(timer, now_ms, limits) or parked(timer)


def parked(timer: TimerSetting) -> TimerSetting:
    """Return a timer that does not fire until it is set again."""
    return timer._replace(
        due_ms=PARKED_MS,
        every=schedules.anchored(timer.every, timer.due_ms),
        attempts=timer.attempts + 1,
    )
