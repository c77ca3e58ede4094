"""Lines and bars as SVG, to stand inside of an HTML page. Colors are those of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from perdure.bench.axes import Axis

__all__ = ["COLORS", "Bar", "Line", "bar_chart", "line_chart"]

COLORS: Final = 6
"""How many the page has."""

_WIDTH: Final = 880
_HEIGHT: Final = 320
_LEFT: Final = 78
_RIGHT: Final = 40
_TOP: Final = 12
_BOTTOM: Final = 48

_ROW: Final = 34
_BAR: Final = 20
_NARROW: Final = 34
"""A part of a bar that is narrower has no room for its number."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    label: str
    color: int
    points: Sequence[tuple[float, float]]
    style: str = "bold"
    """`bold`, `faint` (one of several of the same color, behind), or `dashed`."""
    told: Sequence[str] = ()
    """What each point says when it is pointed at."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: a bar of several parts."""

    label: str
    parts: Sequence[tuple[str, int, float]]
    """Each a name, a color, and a length."""


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, *, width: int = _WIDTH) -> str:
    """Return a chart of lines.

    Args:
        title: What it shows, for those who cannot see it.
        lines: All lines; faint ones are drawn first.
        x: From left to right.
        y: From bottom to top.
        width: Of the drawing, whose height is always the same.
    """
    right, bottom = width - _RIGHT, _HEIGHT - _BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        across, up = x.place(point[0]), y.place(point[1])
        return _LEFT + across * (right - _LEFT), bottom - up * (bottom - _TOP)

    parts = [_grid(x, y, right, bottom)]
    for line in sorted(lines, key=lambda each: each.style != "faint"):
        places = [at(point) for point in line.points]
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        parts.append(
            f'<polyline class="line c{line.color % COLORS} {line.style}" points="{path}"/>'
        )
        for (left, top), told in zip(places, line.told, strict=False):
            parts.append(
                f'<circle class="point c{line.color % COLORS}" cx="{left:.1f}" cy="{top:.1f}" '
                f'r="7"><title>{escape(told)}</title></circle>'
            )
    return _svg(title, width, _HEIGHT, parts)


def _grid(x: Axis, y: Axis, right: float, bottom: float) -> str:
    parts: list[str] = []
    for value, text in y.ticks:
        top = bottom - y.place(value) * (bottom - _TOP)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{top:.1f}" y2="{top:.1f}"/>'
        )
        parts.append(_text(_LEFT - 8, top + 4, text, "end"))
    for value, text in x.ticks:
        left = _LEFT + x.place(value) * (right - _LEFT)
        parts.append(
            f'<line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}" y2="{bottom}"/>'
        )
        parts.append(_text(left, bottom + 18, text, "middle"))
    middle = (_TOP + bottom) / 2
    parts.append(_text((_LEFT + right) / 2, bottom + 40, x.label, "middle", "label"))
    parts.append(
        f'<text class="label" text-anchor="middle" transform="translate(14 {middle:.1f}) '
        f'rotate(-90)">{escape(y.label)}</text>'
    )
    return "".join(parts)


def bar_chart(title: str, bars: Sequence[Bar], unit: str, *, left: int = 210) -> str:
    """Return rows of bars, each of several parts, with the sum at the end.

    Args:
        title: What it shows, for those who cannot see it.
        bars: The rows, from the top.
        unit: Of the lengths.
        left: Where the bars begin; labels are before that.
    """
    longest = max((sum(part[2] for part in bar.parts) for bar in bars), default=0.0) or 1.0
    scale = (_WIDTH - left - 110) / longest
    parts: list[str] = []
    for row, bar in enumerate(bars):
        top = row * _ROW + (_ROW - _BAR) / 2
        parts.append(_text(left - 10, top + _BAR / 2 + 4, bar.label, "end", "label"))
        start = float(left)
        for name, color, length in bar.parts:
            width = length * scale
            parts.append(
                f'<rect class="bar c{color % COLORS}" x="{start:.1f}" y="{top:.1f}" '
                f'width="{width:.1f}" height="{_BAR}"><title>{escape(name)}: {length:,.1f} '
                f"{escape(unit)}</title></rect>"
            )
            if width >= _NARROW:
                parts.append(
                    _text(start + width / 2, top + _BAR / 2 + 4, f"{length:,.1f}", "middle", "on")
                )
            start += width
        total = sum(part[2] for part in bar.parts)
        parts.append(_text(start + 8, top + _BAR / 2 + 4, f"{total:,.1f} {unit}", "start"))
    return _svg(title, _WIDTH, len(bars) * _ROW, parts)


def _text(left: float, top: float, text: str, anchor: str, name: str = "tick") -> str:
    return (
        f'<text class="{name}" x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}">'
        f"{''.join(parts)}</svg>"
    )
