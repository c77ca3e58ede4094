"""Where values lie on an axis, and which of them are written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Axis", "beyond", "linear", "logarithmic", "percent_slow"]

_STEPS: Final = (1, 2, 2.5, 5, 10)
_TICKS: Final = 5
_DECADES_FEW: Final = 2.2


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart."""

    label: str
    ticks: tuple[tuple[float, str], ...]
    """Values, and what is written there."""
    place: Callable[[float], float]
    """Where a value lies: from 0 to 1."""


def linear(label: str, values: Iterable[float], show: Callable[[float], str]) -> Axis:
    """Make an axis from 0 to a round number over all values.

    Args:
        label: What they are, and in which unit.
        values: All that will be drawn.
        show: Writes one.
    """
    highest = max(values, default=0.0) or 1.0
    size = 10.0 ** math.floor(math.log10(highest / _TICKS))
    step = next(factor * size for factor in _STEPS if factor * size * _TICKS >= highest * 0.999)
    count = math.ceil(highest / step - 1e-9)
    top = count * step
    ticks = tuple((number * step, show(number * step)) for number in range(count + 1))
    return Axis(label, ticks, lambda value: value / top)


def logarithmic(label: str, values: Iterable[float], show: Callable[[float], str]) -> Axis:
    """Make an axis on which every step is a multiple: 1, 10, 100, or 1, 2, 5, 10.

    Values are over 0.
    """
    found = list(values) or [1.0]
    low, high = math.log10(min(found)), math.log10(max(found))
    marks = [
        exponent + math.log10(factor)
        for exponent in range(math.floor(low) - 1, math.ceil(high) + 2)
        for factor in (1, 2, 5)
    ]
    first = max(mark for mark in marks if mark <= low + 1e-9)
    last = min(mark for mark in marks if mark >= high - 1e-9 and mark > first + 1e-9)
    inside = [mark for mark in marks if first - 1e-9 <= mark <= last + 1e-9]
    if last - first > _DECADES_FEW:
        inside = [mark for mark in inside if abs(mark - round(mark)) < 1e-9]
    ticks = tuple((10**mark, show(10**mark)) for mark in inside)
    return Axis(label, ticks, lambda value: (math.log10(value) - first) / (last - first))


def percent_slow(label: str, most: float) -> Axis:
    """Make an axis of percentiles on which 90 %, 99 % and 99.9 % are equally far apart.

    Args:
        label: What they are of.
        most: The last of the values, which `beyond` has made.
    """
    end = max(most, beyond(99.0))
    marks = ("0", "50", "90", "99", "99.9", "99.99", "99.999", "99.9999")
    ticks = tuple(
        (beyond(float(mark)), f"{mark} %") for mark in marks if beyond(float(mark)) <= end + 1e-9
    )
    return Axis(label, ticks, lambda value: value / end)


def beyond(percentile: float) -> float:
    """Return how many nines a percentile has: 0 for 0, 1 for 90, 2 for 99."""
    return -math.log10(1 - percentile / 100)
