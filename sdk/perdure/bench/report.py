"""The report of `perdure bench`: what was measured, as plots that explain themselves."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Final

from perdure.bench.axes import beyond, linear, logarithmic, percent_slow
from perdure.bench.charts import COLORS, Bar, Line, bar_chart, line_chart
from perdure.bench.figures import PERCENTILES, Result, Round
from perdure.bench.findings import notes_of
from perdure.bench.latency import Latencies
from perdure.bench.page import figure, legend, page, table
from perdure.bench.places import Target
from perdure.bench.run import Settings
from perdure.bench.scenarios import SCENARIOS
from perdure.bench.table import milliseconds, processes_of, spread
from perdure.bench.written import machine

__all__ = ["html_of"]

_POINTS_PER_NINE: Final = 16
_HALF_WIDTH: Final = 560

_TOGETHER_MAX: Final = 4
"""More cases than this in one chart are too many to tell apart."""


def html_of(settings: Settings, results: Sequence[Result]) -> str:
    """Return a page that needs nothing else: no network, no script."""
    facts = machine()
    when = dt.datetime.now().astimezone().strftime("%d %B %Y, %H:%M")
    notes = notes_of(results)
    parts = [
        "<h1>perdure bench</h1>",
        f'<p class="soft">{escape(when)} · Perdure {facts["perdure"]} · Python {facts["python"]} · '
        f"{facts['cores']} cores, {escape(facts['processor'])} · {escape(facts['system'])}</p>",
        f"<p>{escape(_what_was_done(settings))}</p>",
        "<ul>",
        *(f"<li>{_explained(name)}</li>" for name in settings.scenarios),
        *(f"<li>{_placed(target)}</li>" for target in settings.targets),
        "</ul>",
        _summary(results, settings),
        *(f'<p class="note">{escape(note[0].upper())}{escape(note[1:])}.</p>' for note in notes),
        _errors(results),
    ]
    for group in _groups(results):
        if group is not results:
            parts.append(f'<h2 class="part">{escape(group[0].case.scenario)}</h2>')
        parts += _latency(group)
        parts += _over_time(group, settings.seconds)
    if len(_groups(results)) > 1:
        parts.append('<h2 class="part">all scenarios</h2>')
    parts += _cpu(results)
    parts += _memory(results, settings.seconds)
    parts += _all_figures(results)
    return page(f"perdure bench: {', '.join(settings.scenarios)}", parts)


def _groups(results: Sequence[Result]) -> list[Sequence[Result]]:
    """Return what comes together into one chart: all, or what has the same scenario."""
    if len(results) <= _TOGETHER_MAX:
        return [results]
    by_scenario = groupby(results, lambda result: result.case.scenario)
    return [list(group) for _, group in by_scenario]


# Words.


def _what_was_done(settings: Settings) -> str:
    if settings.rate:
        how = (
            f"Calls were made at a rate of {settings.rate:,.0f} a second, whether earlier ones had "
            f"been answered or not (an open loop). A call's latency counts from when it was due: "
            f"one that had to wait because everything stood still counts with that wait. Calls/s "
            f"are those that were answered without an error."
        )
    elif settings.in_flight == 1:
        how = "One call was made at a time: the next one as soon as the answer had come."
    else:
        how = (
            f"{settings.in_flight:,} calls were on their way at any time: whenever one was "
            f"answered, the next one was made (a closed loop)."
        )
    by = "one process" if settings.processes == 1 else f"{settings.processes} processes together"
    runs = "once" if settings.rounds == 1 else f"in {settings.rounds} rounds, in turns"
    return (
        f"A call runs a method of a durable object, and its answer means that what it has changed "
        f"is on disk. {how} The caller was {by}. After {settings.warm_up_s:g} s of warm-up each "
        f"run counted for {settings.seconds:g} s. Everything was run {runs}."
    )


def _explained(name: str) -> str:
    scenario = SCENARIOS.get(name)
    text = "a function of yours." if scenario is None else scenario.explained
    return f"<b>{escape(name)}</b>: {escape(text)}"


def _placed(target: Target) -> str:
    if target.is_embedded:
        text = "the node, which runs the methods and writes to the disk, is in the calling process."
    elif target.routing == "direct":
        text = "the caller asks a router where each object is, and calls its node itself."
    elif target.address is not None:
        text = "a server that was running already."
    elif target.router:
        text = "calls go to a router, which passes each one on to the node that has its object."
    else:
        text = "a node, which runs the methods and writes to the disk, is called without a router."
    return f"<b>{escape(target.name)}</b>: {text}"


def _summary(results: Sequence[Result], settings: Settings) -> str:
    headings = ["scenario", "against", "calls/s", "", "half within", "99 % within", "errors"]
    if settings.rate:
        headings.insert(2, "offered/s")
    rows: list[list[str]] = []
    for result in results:
        samples = result.samples()
        row = [result.case.scenario, result.case.target]
        if settings.rate:
            row.append(f"{samples['offered_per_s'].median:,.0f}")
        rate = samples["calls_per_s"]
        row += [f"{rate.median:,.0f}", spread(rate)]
        row += [
            milliseconds(samples[name].median) if name in samples else ""
            for name in ("p50_ms", "p99_ms")
        ]
        failed = samples["failed_percent"].median
        row.append(f"!{failed:.2g} %" if result.errors else "none")
        rows.append(row)
    return table(headings, rows, texts=2)


def _errors(results: Sequence[Result]) -> str:
    rows = [
        [str(result.case), what, f"{count:,}", result.examples.get(what, "")]
        for result in results
        for what, count in result.errors.most_common()
    ]
    if not rows:
        return ""
    rows = [[case, what, text, f"!{count}"] for case, what, count, text in rows]
    return "<h2>Errors</h2>" + table(["where", "error", "the first one said", "calls"], rows, 3)


# Plots.


def _colors(results: Sequence[Result]) -> str:
    return legend([(_short(result, results), each % COLORS) for each, result in enumerate(results)])


def _short(result: Result, results: Sequence[Result]) -> str:
    """Return what tells a case from the others."""
    if len({each.case.target for each in results}) == 1:
        return result.case.scenario
    if len({each.case.scenario for each in results}) == 1:
        return result.case.target
    return str(result.case)


def _latency(results: Sequence[Result]) -> list[str]:
    lines: list[Line] = []
    for color, result in enumerate(results):
        rounds = [each.latencies for each in result.rounds]
        everything = Latencies()
        for latencies in rounds:
            everything.add(latencies)
        label = _short(result, results)
        if len(rounds) > 1:
            lines += [_latency_line(label, color, each, "faint") for each in rounds if len(each)]
        if len(everything):
            lines.append(_latency_line(label, color, everything, "bold"))
    if not lines:
        return []
    points = [point for line in lines for point in line.points]
    chart = line_chart(
        "Latency by percentile",
        lines,
        percent_slow("this share of the calls ...", max(x for x, _ in points)),
        logarithmic("... ended within", (y for _, y in points), milliseconds),
    )
    explained = (
        "How to read it: choose a share of the calls below, go up to the line, and read at the "
        "left how long they took at most. At 99 %, one call in a hundred took longer than that. "
        "Lower is better; a line that rises late and little means that calls take about the same "
        "time. Each step up is a multiple of the one before."
    )
    if len(results[0].rounds) > 1:
        explained += " Thin lines are single rounds, the thick one is all of them together."
    return ["<h2>How long calls took</h2>", figure(chart, explained, above=_colors(results))]


def _latency_line(label: str, color: int, latencies: Latencies, style: str) -> Line:
    nines = math.log10(len(latencies))
    steps = max(1, math.ceil(nines * _POINTS_PER_NINE))
    shares = [100 * (1 - 10 ** -(nines * step / steps)) for step in range(steps + 1)]
    found = latencies.percentiles_ms(shares)
    points = [(beyond(share), value) for share, value in zip(shares, found, strict=True)]
    told: list[str] = []
    if style == "bold":
        told = [
            f"{label}: {share:.4g} % of the calls within {milliseconds(value)}"
            for share, value in zip(shares, found, strict=True)
        ]
    return Line(label, color, points, style, told)


def _over_time(results: Sequence[Result], seconds: float) -> list[str]:
    x = linear("seconds since the warm-up", [seconds], lambda value: f"{value:g}")
    rates: list[Line] = []
    waits: list[Line] = []
    for color, result in enumerate(results):
        middle = result.middle()
        label = _short(result, results)
        rates += [_rate_line(label, color, run, is_bold=run is middle) for run in result.rounds]
        waits += _wait_lines(label, color, middle)
    y = linear("calls a second", (y for line in rates for _, y in line.points), _count)
    explained = (
        "Calls that were answered in each moment. A level line is a steady server; a dip is a "
        "pause, and a line that falls is a server that gets slower."
    )
    if len(results[0].rounds) > 1:
        explained += " The thick line is the round with the middle rate, thin ones are the others."
    parts = [
        "<h2>Calls a second, in the course of time</h2>",
        figure(
            line_chart("Calls a second over time", rates, x, y), explained, above=_colors(results)
        ),
    ]
    if waits:
        y = logarithmic("latency", (y for line in waits for _, y in line.points), milliseconds)
        parts += [
            "<h2>Latency, in the course of time</h2>",
            figure(
                line_chart("Latency over time", waits, x, y),
                "The middle round, moment by moment. Solid: 99 % of the calls that ended then took "
                "no longer. Dashed: half of them. Lines that climb mean that work piles up.",
                above=_colors(results),
            ),
        ]
    return parts


def _rate_line(label: str, color: int, run: Round, *, is_bold: bool) -> Line:
    moments = run.moments()
    points = [(moment.at_s, moment.calls_per_s) for moment in moments]
    told = [f"{label}: {rate:,.0f} calls/s after {at_s:.1f} s" for at_s, rate in points]
    return Line(label, color, points, "bold" if is_bold else "faint", told if is_bold else ())


def _wait_lines(label: str, color: int, run: Round) -> list[Line]:
    high: list[tuple[float, float]] = []
    half: list[tuple[float, float]] = []
    for moment in run.moments():
        if moment.p99_ms is not None and moment.p50_ms is not None:
            high.append((moment.at_s, moment.p99_ms))
            half.append((moment.at_s, moment.p50_ms))
    if not high:
        return []
    told_high = [f"{label}: 99 % within {milliseconds(y)}, after {x:.1f} s" for x, y in high]
    told_half = [f"{label}: half within {milliseconds(y)}, after {x:.1f} s" for x, y in half]
    return [
        Line(label, color, high, "bold", told_high),
        Line(label, color, half, "dashed", told_half),
    ]


def _cpu(results: Sequence[Result]) -> list[str]:
    names = _process_names(results)
    bars: list[Bar] = []
    for result in results:
        samples = result.samples()
        costs = {name: samples.get(f"cpu_us_per_call {name}") for name in processes_of(samples)}
        parts = [
            (name, names[name], cost.median) for name, cost in costs.items() if cost is not None
        ]
        if parts:
            bars.append(Bar(str(result.case), parts))
    if not bars:
        return []
    longest = max(len(bar.label) for bar in bars)
    chart = bar_chart("CPU time of a call", bars, "µs", left=min(360, 40 + 7 * longest))
    explained = (
        "Microseconds of CPU time that each process spends on one call that is answered. 50 µs are "
        "20,000 calls a second for each core that is kept busy. The caller is perdure bench: your "
        "own program has that cost, too, with what its handles and its own work add."
    )
    return [
        "<h2>CPU time of a call, by process</h2>",
        figure(chart, explained, above=legend(list(names.items()))),
    ]


def _memory(results: Sequence[Result], seconds: float) -> list[str]:
    x = linear("seconds since the warm-up", [seconds], lambda value: f"{value:g}")
    names = _process_names(results)
    figures: list[str] = []
    for result in results:
        run = result.middle()
        lines = [
            Line(
                process.name,
                names[process.name],
                [(at_s, size / 1e6) for at_s, size in process.memory],
                told=[
                    f"{process.name}: {size / 1e6:,.0f} MB after {at_s:.1f} s"
                    for at_s, size in process.memory
                ],
            )
            for process in run.processes
            if process.name in names
        ]
        if not lines:
            continue
        points = [point for line in lines for point in line.points]
        x = linear(
            "seconds since the warm-up", (at for at, _ in points), lambda value: f"{value:g}"
        )
        y = linear("MB", (size for _, size in points), _count)
        width = _HALF_WIDTH if len(results) > 1 else 880
        chart = line_chart(f"Memory over time: {result.case}", lines, x, y, width=width)
        title = str(result.case) if len(results) > 1 else ""
        figures.append(figure(chart, "", title=title))
    if not figures:
        return []
    grid = "".join(figures) if len(figures) == 1 else f'<div class="grid2">{"".join(figures)}</div>'
    return [
        "<h2>Memory, in the course of time</h2>",
        legend(list(names.items())),
        grid,
        '<p class="soft">Resident memory of each process. A line that climbs all the time is '
        "work that piles up, or a leak; one that climbs at first fills caches.</p>",
    ]


def _process_names(results: Sequence[Result]) -> dict[str, int]:
    """Return all processes, and the color of each."""
    names = dict.fromkeys(name for result in results for name in processes_of(result.samples()))
    return {name: number % COLORS for number, name in enumerate(names)}


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


# Tables.


def _all_figures(results: Sequence[Result]) -> list[str]:
    headings = ["scenario", "against", "p50", "p90", "p99", "p99.9", "max"]
    rates: list[list[str]] = []
    costs: list[list[str]] = []
    for result in results:
        samples = result.samples()
        case = [result.case.scenario, result.case.target]
        rates.append(
            case
            + [
                f"{milliseconds(samples[name].median)} {spread(samples[name])}".strip()
                if name in samples
                else ""
                for name in (*PERCENTILES, "max_ms")
            ]
        )
        for name in processes_of(samples):
            cost = samples.get(f"cpu_us_per_call {name}")
            costs.append(
                [
                    *case,
                    name,
                    "" if cost is None else f"{cost.median:,.1f}",
                    "" if cost is None else spread(cost),
                    f"{samples[f'cores {name}'].median:.2f}",
                    f"{samples[f'memory_mb {name}'].median:,.0f}",
                ]
            )
            case = ["", ""]
    parts = ["<h2>All figures</h2>"]
    if len(results[0].rounds) > 1:
        parts.append(
            '<p class="soft">Medians of all rounds. ± is half of what lies between the lowest and '
            "the highest round: differences below it may be chance.</p>"
        )
    parts.append(table(headings, rates, texts=2))
    if costs:
        of_process = ["CPU µs/call", "", "cores", "memory MB"]
        parts.append(table(["scenario", "against", "process", *of_process], costs, texts=3))
    return parts
