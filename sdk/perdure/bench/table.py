"""What a run of `perdure bench` prints: tables, and what there is to know about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from perdure.bench.compare import Comparison, Verdict
from perdure.bench.figures import PERCENTILES, Result, Sample
from perdure.bench.findings import notes_of

__all__ = ["milliseconds", "print_comparisons", "print_results"]

_EXAMPLE_CHARACTERS_MAX: Final = 200
_COLORS: Final = {
    Verdict.BETTER: "green",
    Verdict.WORSE: "red",
    Verdict.NOISE: "dim",
    Verdict.UNKNOWN: "yellow",
}


def print_results(console: Console, results: Sequence[Result], *, open_loop: bool) -> None:
    """Print all figures, for people."""
    _print_rates(console, results, open_loop=open_loop)
    console.print()
    _print_latencies(console, results)
    console.print()
    _print_processes(console, results)
    for result in results:
        _print_errors(console, result)
    for note in notes_of(results):
        console.print(f"[yellow]note:[/] {escape(note)}")
    count = len(results[0].rounds)
    if count > 1:
        console.print(
            f"[dim]medians of {count} rounds, taken in turns; ± is half of what lies between "
            f"the lowest and the highest[/]"
        )


def _print_rates(console: Console, results: Sequence[Result], *, open_loop: bool) -> None:
    headings = ["calls/s", "", "failed"]
    table = _table(["offered/s", *headings] if open_loop else headings)
    for result in results:
        samples = result.samples()
        row = _case(result)
        if open_loop:
            row.append(_number(samples["offered_per_s"]))
        row += [_number(samples["calls_per_s"]), spread(samples["calls_per_s"])]
        failed = samples["failed_percent"].median
        row.append(f"[red]{_percent(failed)}[/]" if result.errors else "none")
        table.add_row(*row)
    console.print(table)


def _print_latencies(console: Console, results: Sequence[Result]) -> None:
    table = _table(["p50", "p90", "p99", "p99.9", "max"])
    for result in results:
        samples = result.samples()
        cells = [
            milliseconds(samples[name].median) if name in samples else ""
            for name in (*PERCENTILES, "max_ms")
        ]
        table.add_row(*_case(result), *cells)
    console.print(table)


def _table(numbers: Sequence[str], words: Sequence[str] = ("scenario", "against")) -> Table:
    # Three narrow tables, not one that no terminal has room for.
    table = Table(box=None)
    for heading in words:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print_processes(console: Console, results: Sequence[Result]) -> None:
    table = _table(["CPU µs/call", "", "cores", "memory MB"], ["scenario", "against", "process"])
    for result in results:
        samples = result.samples()
        first = _case(result)
        for name in processes_of(samples):
            per_call = samples.get(f"cpu_us_per_call {name}")
            table.add_row(
                *first,
                name,
                "" if per_call is None else f"{per_call.median:,.1f}",
                "" if per_call is None else spread(per_call),
                f"{samples[f'cores {name}'].median:.2f}",
                f"{samples[f'memory_mb {name}'].median:,.0f}",
            )
            first = ["", ""]
    console.print(table)


def _print_errors(console: Console, result: Result) -> None:
    for what, count in result.errors.most_common():
        text = result.examples.get(what, "")
        if len(text) > _EXAMPLE_CHARACTERS_MAX:
            text = f"{text[:_EXAMPLE_CHARACTERS_MAX]} ..."
        console.print(
            f"[red]{escape(what)}[/]: {count:,} calls ({escape(str(result.case))}): {escape(text)}"
        )


def print_comparisons(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Print what has changed between two runs, for people."""
    for case, items in groupby(comparisons, lambda item: f"{item.scenario}, {item.target}"):
        console.print(f"[bold]{escape(case)}[/]")
        table = _table(["A", "B", "B / A", "from", "to"], ["figure"])
        table.add_column("verdict", no_wrap=True)
        for item in items:
            table.add_row(
                item.figure,
                _plain(item.before.median),
                _plain(item.after.median),
                _ratio(item.ratio),
                _ratio(item.ratio_low),
                _ratio(item.ratio_high),
                f"[{_COLORS[item.verdict]}]{item.verdict.value}[/]",
            )
        console.print(table)


def processes_of(samples: Mapping[str, Sample]) -> list[str]:
    """Return the processes that there are figures of."""
    return [name.removeprefix("cores ") for name in samples if name.startswith("cores ")]


def milliseconds(number: float) -> str:
    """Return a time of three digits with its unit: `0.32 ms`, `41 µs`, `1.2 s`."""
    for below, factor, unit in ((0.0995, 1_000.0, "µs"), (999.5, 1.0, "ms")):
        if number < below:
            return f"{number * factor:.3g} {unit}"
    return f"{number / 1_000:.3g} s"


def spread(sample: Sample) -> str:
    """Return how far rounds lie apart: `±4 %`. Empty when there was only one."""
    return "" if sample.spread is None else f"±{100 * sample.spread:.0f} %"


def _case(result: Result) -> list[str]:
    return [escape(result.case.scenario), escape(result.case.target)]


def _number(sample: Sample) -> str:
    return f"{sample.median:,.0f}"


def _percent(number: float) -> str:
    return f"{number:.2g} %" if number < 10 else f"{number:.0f} %"


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= 1_000 else f"{number:.3g}"


def _ratio(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"
