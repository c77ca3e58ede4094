"""What a check prints: the verdict, figures, and the smallest history that proves a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from perdure.check.faults import FaultCount
from perdure.check.history import Operation, Outcome
from perdure.check.minimal import Counterexample
from perdure.check.verdict import Findings, Verdict

__all__ = ["Run", "as_json", "print_report"]

_SENTENCES_MAX: Final = 10

_VERDICTS: Final = {
    Verdict.LINEARIZABLE: "[bold green]linearizable[/]: every object, and every effect once",
    Verdict.VIOLATED: "[bold red]NOT LINEARIZABLE[/]",
    Verdict.NOTHING_SHOWN: "[bold yellow]nothing shown[/]: this run is no proof",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as it is reported."""

    findings: Findings
    faults: Mapping[str, FaultCount]
    seed: int
    load_s: float
    """How long there was load."""
    healed_s: float
    """How long it then took until every call had ended and every object had been read."""
    judged_s: float


def print_report(console: Console, run: Run) -> None:
    """Print all of it, for people."""
    findings = run.findings
    calls = Table("calls", "objects", "ok", "refused", "unknown", box=None)
    for kind, count in findings.kinds.items():
        numbers = (count.objects, count.ok, count.failed, count.unknown)
        calls.add_row(kind, *(f"{number:,}" for number in numbers))
    console.print(calls)
    if run.faults:
        console.print()
        faults = Table("fault", "hit", "missed", "back after at most", box=None)
        for kind, fault in run.faults.items():
            faults.add_row(kind, str(fault.hit), str(fault.missed), f"{fault.back_max_s:.1f} s")
        console.print(faults)
    console.print()
    rate = findings.calls / run.load_s if run.load_s else 0.0
    console.print(
        f"{findings.calls:,} calls in {run.load_s:.0f} s ({rate:,.0f} a second), the longest took "
        f"{findings.longest_s:.1f} s; all objects read {run.healed_s:.1f} s after the last; "
        f"judged in {run.judged_s:.1f} s; seed {run.seed}"
    )
    if findings.codes:
        reasons = ", ".join(f"{code} {count:,}" for code, count in findings.codes.most_common(5))
        console.print(f"not ok: {reasons}")
    console.print(
        f"objects with an order of all calls: {findings.decided:,}; "
        f"without: {len(findings.violated)}; undecided: {len(findings.undecided)}"
    )
    for object, example in findings.counterexamples.items():
        console.print()
        _print_counterexample(console, object, example)
    _print_sentences(console, "wrong effects", findings.wrong_effects)
    _print_sentences(console, "undecided", findings.undecided)
    if findings.verdict is Verdict.NOTHING_SHOWN:
        _print_sentences(console, "why", findings.shows_nothing)
    console.print()
    console.print(_VERDICTS[findings.verdict])


def as_json(run: Run) -> dict[str, Any]:
    """Return all of it for programs."""
    findings = run.findings
    return {
        "verdict": findings.verdict.name.lower(),
        "seed": run.seed,
        "load_s": round(run.load_s, 3),
        "healed_s": round(run.healed_s, 3),
        "judged_s": round(run.judged_s, 3),
        "calls": findings.calls,
        "longest_s": round(findings.longest_s, 3),
        "stuck": findings.stuck,
        "kinds": {
            kind: {**asdict(count), "calls": count.calls} for kind, count in findings.kinds.items()
        },
        "codes": dict(findings.codes),
        "faults": {kind: asdict(count) for kind, count in run.faults.items()},
        "objects_linearizable": findings.decided,
        "objects_violated": findings.violated,
        "objects_undecided": findings.undecided,
        "wrong_effects": findings.wrong_effects,
        "shows_nothing": findings.shows_nothing if findings.verdict else [],
        "counterexamples": {
            object: {
                "start": example.start,
                "operations": [_as_plain(item) for item in example.operations],
            }
            for object, example in findings.counterexamples.items()
        },
    }


def _as_plain(item: Operation) -> dict[str, Any]:
    return {**asdict(item), "outcome": item.outcome.value}


def _print_sentences(console: Console, title: str, sentences: list[str]) -> None:
    if not sentences:
        return
    console.print(f"\n{title}:")
    for sentence in sentences[:_SENTENCES_MAX]:
        console.print(f"  {escape(sentence)}")
    if len(sentences) > _SENTENCES_MAX:
        console.print(f"  and {len(sentences) - _SENTENCES_MAX:,} more")


def _print_counterexample(console: Console, object: str, example: Counterexample) -> None:
    console.print(f"[bold]{escape(object)}[/]: no order of these calls explains the answers.")
    start = "new" if example.start in (0, "") else f"at {escape(repr(example.start))}"
    console.print(f"Before them the object is {start}.")
    table = Table("from ms", "to ms", "caller", "call", "told", box=None)
    operations = example.operations
    first_s = min((item.begun_s for item in operations), default=0.0)
    alike: dict[tuple[str, str], list[Operation]] = {}
    for item in operations:
        if item.outcome is Outcome.OK:
            assert item.ended_s is not None
            caller = "at the end" if item.caller < 0 else str(item.caller)
            table.add_row(
                _ms(item.begun_s - first_s),
                _ms(item.ended_s - first_s),
                caller,
                escape(_call(item)),
                escape(_short(item.result)),
            )
        else:
            alike.setdefault((item.method, repr(item.arguments)), []).append(item)
    for group in alike.values():
        times = f" ({len(group)} times)" if len(group) > 1 else ""
        began = _ms(min(item.begun_s for item in group) - first_s)
        callers = ", ".join(sorted({str(item.caller) for item in group})[:4])
        told = "whatever it was: it may have happened, or not"
        table.add_row(began, "", callers, escape(_call(group[0]) + times), f"[dim]{told}[/]")
    console.print(table)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}"


def _call(item: Operation) -> str:
    return f"{item.method}({', '.join(_short(value) for value in item.arguments)})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:50]} ... {text[-60:]}"
