"""What a person sees while `perdure bench` measures: bars on a terminal, else lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from perdure.bench.figures import Case
from perdure.bench.run import Settings

__all__ = ["progress_on"]

_REFRESH_PER_S: Final = 4
"""Drawing takes time from what is measured."""

_STARTS_S: Final = 2.0
"""What it takes, beside warm-up and load, to begin and end a run; only bars believe it."""


class _Bars:
    def __init__(self, bars: Progress, settings: Settings) -> None:
        self._bars = bars
        self._settings = settings
        cases = settings.cases()
        self._each_s = settings.warm_up_s + settings.seconds + _STARTS_S
        self._done = -1
        self._rate = 0.0
        self._case = ""
        total_s = self._each_s * len(cases) * settings.rounds
        self._task = bars.add_task("", total=total_s, rate="")

    def say(self, line: str) -> None:
        self._bars.console.print(line, style="dim", markup=False, highlight=False)

    def run(self, case: Case, number: int) -> None:
        self._done += 1
        self._case = f"round {number + 1} of {self._settings.rounds}: {escape(str(case))}"
        self._bars.update(self._task, completed=self._done * self._each_s, rate="")

    def phase(self, what: str) -> None:
        self._bars.update(self._task, description=f"{self._case}: {what}")

    def calls(self, count: int, seconds: float) -> None:
        processes = self._settings.processes
        # Half of what is shown comes from before: nobody can read what jumps.
        self._rate = (
            (self._rate + count / seconds * processes) / 2
            if self._rate
            else (count / seconds * processes)
        )
        self._bars.update(
            self._task, advance=seconds / processes, rate=f"{self._rate:,.0f} calls/s"
        )


class _Lines:
    """The same for a file, or a program that reads it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def say(self, line: str) -> None:
        sys.stderr.write(f"perdure: {line}\n")
        sys.stderr.flush()

    def run(self, case: Case, number: int) -> None:
        self.say(f"round {number + 1} of {self._settings.rounds}: {case}")

    def phase(self, what: str) -> None:
        """Nobody waits for it."""

    def calls(self, count: int, seconds: float) -> None:
        """Nobody waits for it."""


@contextmanager
def progress_on(console: Console, settings: Settings) -> Iterator[_Bars | _Lines]:
    """Show what happens, until the block ends."""
    if not console.is_terminal:
        yield _Lines(settings)
        return
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=_REFRESH_PER_S,
        transient=True,
    )
    with bars:
        yield _Bars(bars, settings)
