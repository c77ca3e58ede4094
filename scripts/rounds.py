"""Rounds of load, alternately: each of several ways once, then each of them again.

So a slow minute of the machine does not hit one of them alone. The median of the rounds counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import Round
from processes import started
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from perdure.bench.figures import Sample

WORKER = Path(__file__).with_name("bench_worker.py")


@dataclass(frozen=True, slots=True)
class Way:
    """One way of doing something, which takes so long as it is told."""

    name: str
    text: str
    """For people."""
    run: Callable[[float], Round]
    """Takes seconds."""


def work(
    way: str,
    seconds: float,
    *arguments: str,
    roles: Mapping[str, Sequence[int]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Round:
    """Run one round in a process of its own."""
    command = [sys.executable, str(WORKER), way, "--seconds", str(seconds)]
    command += ["--warm-up", str(min(1.0, seconds / 3)), *arguments]
    for role, pids in (roles or {}).items():
        for pid in pids:
            command += ["--role", f"{role}={pid}"]
    with started(command, environment=environment, stdout=subprocess.PIPE) as worker:
        printed, _ = worker.communicate()
    if worker.returncode:
        raise SystemExit(f"{' '.join(command)} has ended with {worker.returncode}")
    return Round(**json.loads(printed))


def alternate(ways: Sequence[Way], rounds: int, seconds: float) -> dict[str, list[Round]]:
    """Run each way so often, in turn."""
    done: dict[str, list[Round]] = {way.name: [] for way in ways}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # On stderr: stdout is for the figures.
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=rounds * len(ways))
        for _ in range(rounds):
            for way in ways:
                progress.update(task, description=way.text)
                done[way.name].append(way.run(seconds))
                progress.advance(task)
    return done


@dataclass(frozen=True, slots=True)
class Figure:
    """What came of all rounds of one way."""

    rate: Sample
    p50_ms: Sample
    p99_ms: Sample
    cpu_us: dict[str, Sample]
    """For a call, by role."""
    others_cores: Sample

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> Figure:
        return cls(
            Sample(tuple(each.rate for each in rounds)),
            Sample(tuple(each.p50_ms for each in rounds)),
            Sample(tuple(each.p99_ms for each in rounds)),
            {
                role: Sample(tuple(each.cpu_us[role] for each in rounds))
                for role in rounds[0].cpu_us
            },
            Sample(tuple(each.others_cores for each in rounds)),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        cpu_us = {role: as_dict(sample) for role, sample in self.cpu_us.items()}
        return {
            "per_s": as_dict(self.rate),
            "p50_ms": as_dict(self.p50_ms),
            "p99_ms": as_dict(self.p99_ms),
            "cpu_us": cpu_us,
            "others_cores": as_dict(self.others_cores),
        }


def as_dict(sample: Sample) -> dict[str, float]:
    """Return the median of some figures, and between which they lie, for JSON."""
    return {"median": sample.median, "low": sample.low, "high": sample.high}
