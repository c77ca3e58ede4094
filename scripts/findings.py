"""What a measurement has found: figures, each with what is wanted of it, and how busy it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rounds import as_dict

from perdure.bench.figures import Sample

REPORT_COLUMNS = 140


@dataclass(frozen=True, slots=True)
class Bound:
    """What is wanted of a figure."""

    value: float
    is_most: bool
    """It is to be so much at most; else at least."""

    def holds(self, figure: float) -> bool:
        """Tell whether a figure is what is wanted."""
        return figure <= self.value if self.is_most else figure >= self.value

    def __str__(self) -> str:
        return f"{'at most' if self.is_most else 'at least'} {shown(self.value)}"


def at_most(value: float) -> Bound:
    """Want no more than this."""
    return Bound(value, True)


def at_least(value: float) -> Bound:
    """Want no less than this."""
    return Bound(value, False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, of one or several rounds."""

    text: str
    """What it is, for people."""
    unit: str
    sample: Sample
    bound: Bound | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        wanted = self.bound and {"at_most" if self.bound.is_most else "at_least": self.bound.value}
        holds = self.bound and self.bound.holds(self.sample.median)
        described = {"text": self.text, "unit": self.unit, "wanted": wanted, "holds": holds}
        return described | as_dict(self.sample) | {"rounds": list(self.sample.rounds)}


@dataclass(slots=True)
class Findings:
    """What one part of a measurement has found."""

    figures: dict[str, Figure] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """What else is worth knowing, for JSON."""
    load: tuple[float, float] = (0.0, 0.0)
    """How many processes wanted to run in the minute before it began and in its last one, as
    `uptime` says: others before, others and what was measured at the end."""

    def add(
        self,
        name: str,
        text: str,
        rounds: float | Sequence[float],
        unit: str = "",
        wanted: Bound | None = None,
    ) -> None:
        """Add a figure.

        Args:
            name: For JSON.
            text: What it is, for people.
            rounds: Of each round, or of the only one.
            unit: Of it.
            wanted: What the median of the rounds is to be.
        """
        rounds = (rounds,) if isinstance(rounds, int | float) else tuple(rounds)
        self.figures[name] = Figure(text, unit, Sample(rounds), wanted)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note how busy the machine is before and after."""
        before = os.getloadavg()[0]
        yield
        self.load = before, os.getloadavg()[0]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        figures = {name: figure.as_dict() for name, figure in self.figures.items()}
        return {"figures": figures, "notes": self.notes, "load": list(self.load)}


def print_findings(found: Mapping[str, Findings], console: Console) -> None:
    """Print one table of all parts."""
    table = Table("", title="medians, and between which figures they lie")
    table.add_column("", justify="right")
    for title in ("wanted", "", "load before and at the end"):
        table.add_column(title)
    for part in found.values():
        load = f"{part.load[0]:.1f}, {part.load[1]:.1f}"
        for figure in part.figures.values():
            sample, bound = figure.sample, figure.bound
            spread = f" ({shown(sample.low)} to {shown(sample.high)})" if sample.rounds[1:] else ""
            verdict = "" if bound is None else "yes" if bound.holds(sample.median) else "NO"
            value = f"{shown(sample.median)} {figure.unit}".rstrip()
            table.add_row(figure.text, value + spread, str(bound or ""), verdict, load)
            load = ""
        table.add_section()
    console.print(table)


def as_json(found: Mapping[str, Findings]) -> str:
    """Return what was found, for programs."""
    return json.dumps({name: part.as_dict() for name, part in found.items()}, indent=2)


def shown(number: float) -> str:
    """Write a number for people."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"
