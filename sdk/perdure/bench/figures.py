"""What runs have measured, as numbers: each round's, and the median and spread of several."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from perdure.bench.jobs import Part, Stretch
from perdure.bench.latency import Latencies
from perdure.bench.watch import Watched

__all__ = ["PERCENTILES", "Case", "Moment", "Result", "Round", "Sample", "merge", "metrics_of"]

PERCENTILES: Final = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p99_9_ms": 99.9}
"""Those of the tables; `max_ms` beside them is 100."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: one scenario against one target."""

    scenario: str
    target: str

    def __str__(self) -> str:
        return f"{self.scenario}, {self.target}"


class Moment(NamedTuple):
    """One interval of a round."""

    at_s: float
    """Its middle, since the end of the warm-up."""
    calls_per_s: float
    p50_ms: float | None
    """None: no call ended in it."""
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of all rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.rounds)

    @property
    def low(self) -> float:
        """The least."""
        return min(self.rounds)

    @property
    def high(self) -> float:
        """The greatest."""
        return max(self.rounds)

    @property
    def spread(self) -> float | None:
        """Half of what lies between them, as a share of the median.

        None: one round has none, and there is no share of 0.
        """
        if len(self.rounds) < 2 or not self.median:
            return None
        return (self.high - self.low) / 2 / self.median


@dataclass(slots=True)
class Round:
    """One run of a case."""

    part: Part
    """What all processes that called saw."""
    processes: list[Watched]
    """What it has cost; none: that is not known."""
    watched_s: float = 0.0
    """How long CPU time was measured."""
    others_cores: float = 0.0
    """Cores that programs used which have nothing to do with this."""
    cores: int = 1
    """That the machine has."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def seconds(self) -> float:
        """How long calls were counted."""
        return sum(stretch.seconds for stretch in self.part.stretches)

    @property
    def ok(self) -> int:
        """Calls that succeeded while they were counted."""
        return sum(len(stretch.latencies) for stretch in self.part.stretches)

    @property
    def failed(self) -> int:
        """Calls that failed; also after the load, of those made in it."""
        return sum(self.part.errors.values())

    @property
    def latencies(self) -> Latencies:
        """Of all calls that succeeded, also of those that ended after the load."""
        latencies = Latencies()
        for stretch in (*self.part.stretches, self.part.late):
            latencies.add(stretch.latencies)
        return latencies

    def moments(self) -> list[Moment]:
        """Return what happened in the course of time."""
        moments: list[Moment] = []
        began_s = 0.0
        for stretch in self.part.stretches:
            count = len(stretch.latencies)
            p50_ms, p99_ms = stretch.latencies.percentiles_ms((50, 99)) if count else (None, None)
            middle_s = began_s + stretch.seconds / 2
            moments.append(Moment(middle_s, count / stretch.seconds, p50_ms, p99_ms))
            began_s += stretch.seconds
        return moments


@dataclass(slots=True)
class Result:
    """All rounds of a case."""

    case: Case
    rounds: list[Round] = field(default_factory=list[Round])

    def samples(self) -> dict[str, Sample]:
        """Return the figures that every round has, by name: see `metrics_of`."""
        found = [metrics_of(each) for each in self.rounds]
        names = [name for name in found[0] if all(name in metrics for metrics in found)]
        return {name: Sample(tuple(metrics[name] for metrics in found)) for name in names}

    def middle(self) -> Round:
        """Return the round whose rate is the median, or next to it."""
        ordered = sorted(self.rounds, key=lambda each: each.ok / each.seconds)
        return ordered[(len(ordered) - 1) // 2]

    @property
    def errors(self) -> Counter[str]:
        """Calls that failed in all rounds, by class."""
        return sum((Counter(each.part.errors) for each in self.rounds), Counter[str]())

    @property
    def examples(self) -> dict[str, str]:
        """What an error of each class said."""
        return {what: text for each in self.rounds for what, text in each.part.examples.items()}

    @property
    def notes(self) -> list[str]:
        """What there is to know of the rounds, each thing once."""
        return list(dict.fromkeys(note for each in self.rounds for note in each.notes))


def merge(parts: Sequence[Part]) -> Part:
    """Return what all processes saw together."""
    errors = sum((Counter(part.errors) for part in parts), Counter[str]())
    examples = {what: text for part in parts for what, text in part.examples.items()}
    return Part(
        stretches=[_merge(some) for some in zip(*(p.stretches for p in parts), strict=True)],
        late=_merge([part.late for part in parts]),
        offered=sum(part.offered for part in parts),
        errors=dict(errors),
        examples=examples,
        left=sum(part.left for part in parts),
    )


def _merge(stretches: Sequence[Stretch]) -> Stretch:
    latencies = Latencies()
    for stretch in stretches:
        latencies.add(stretch.latencies)
    seconds = statistics.fmean(stretch.seconds for stretch in stretches)
    return Stretch(seconds, latencies, sum(stretch.failed for stretch in stretches))


def metrics_of(run: Round) -> dict[str, float]:
    """Return the figures of a round, by name.

    `calls_per_s`, `offered_per_s`, percentiles of the latency (`p50_ms` ... `max_ms`),
    `failed_percent`, and of each process `cpu_us_per_call NAME`, `cores NAME` and
    `memory_mb NAME`. What is not known is not there.
    """
    metrics: dict[str, float] = {
        "calls_per_s": run.ok / run.seconds,
        "offered_per_s": run.part.offered / run.seconds,
    }
    latencies = run.latencies
    if len(latencies):
        found = latencies.percentiles_ms((*PERCENTILES.values(), 100.0))
        metrics |= zip((*PERCENTILES, "max_ms"), found, strict=True)
    ended = len(latencies) + run.failed
    metrics["failed_percent"] = 100 * run.failed / ended if ended else 0.0
    for process in run.processes:
        if run.ok:
            per_call_s = process.cpu_s / run.watched_s / (run.ok / run.seconds)
            metrics[f"cpu_us_per_call {process.name}"] = per_call_s * 1e6
        metrics[f"cores {process.name}"] = process.cpu_s / run.watched_s
        metrics[f"memory_mb {process.name}"] = process.memory_max / 1e6
    return metrics
