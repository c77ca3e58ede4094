"""Rounds of `perdure bench` that nobody has measured, for what is made of them."""

from __future__ import annotations

from pathlib import Path

from perdure.bench.figures import Case, Result, Round
from perdure.bench.jobs import Part, Stretch
from perdure.bench.latency import Latencies
from perdure.bench.places import Target
from perdure.bench.run import Settings
from perdure.bench.watch import Watched
from perdure.config import Config

MS = 1_000_000


def latencies(*each_ms: float) -> Latencies:
    """Return calls that took so many milliseconds."""
    found = Latencies()
    found.record(round(ms * MS) for ms in each_ms)
    return found


def part(
    *stretches: list[float],
    seconds: float = 0.5,
    late: tuple[float, ...] = (),
    offered: int = 0,
    errors: dict[str, int] | None = None,
) -> Part:
    """Return what one process saw: the latencies of each stretch, in milliseconds."""
    return Part(
        [Stretch(seconds, latencies(*each), 0) for each in stretches],
        Stretch(0.1, latencies(*late), 0),
        offered,
        errors or {},
        {what: f"{what} <said> so" for what in errors or {}},
    )


def measured(
    calls: int = 100,
    *,
    latency_ms: float = 1.0,
    errors: dict[str, int] | None = None,
    node_cpu_s: float = 0.4,
    others_cores: float = 0.0,
    notes: list[str] | None = None,
) -> Round:
    """Return a round of one second."""
    half = [latency_ms] * (calls // 2)
    memory = [(0.0, 50_000_000), (0.5, 60_000_000), (1.0, 55_000_000)]
    return Round(
        part(half, half, offered=calls, errors=errors),
        [Watched("node n1", node_cpu_s, memory), Watched("caller", 0.1, memory)],
        watched_s=1.0,
        others_cores=others_cores,
        cores=2,
        notes=notes or [],
    )


def result(*rounds: Round, scenario: str = "counter", target: str = "one node") -> Result:
    """Return all rounds of a case."""
    return Result(Case(scenario, target), list(rounds))


def settings(
    *scenarios: str,
    targets: tuple[Target, ...] = (Target("one node", nodes=1),),
    rate: float = 0.0,
    rounds: int = 1,
) -> Settings:
    """Return what somebody may have asked for."""
    return Settings(
        scenarios=scenarios or ("counter",),
        targets=targets,
        in_flight=0 if rate else 64,
        rate=rate,
        objects=None,
        processes=1,
        rounds=rounds,
        warm_up_s=0.5,
        seconds=1.0,
        timeout_s=30.0,
        seed=0,
        app=None,
        config=Config(),
        data=Path("/nowhere"),
    )
