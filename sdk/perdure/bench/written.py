"""What `perdure bench --json` writes: all figures, how they came about, and on what."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from perdure.bench.figures import Result, Round, Sample
from perdure.bench.findings import notes_of
from perdure.bench.run import Settings

__all__ = ["FORMAT", "as_json", "machine"]

FORMAT: Final = "perdure bench 1"


def as_json(settings: Settings, results: Sequence[Result]) -> dict[str, Any]:
    """Return all of it for programs; see docs/benchmarking.md."""
    return {
        "format": FORMAT,
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": {
            "in_flight": settings.in_flight or None,
            "rate": settings.rate or None,
            "processes": settings.processes,
            "rounds": settings.rounds,
            "warm_up_s": settings.warm_up_s,
            "seconds": settings.seconds,
            "timeout_s": settings.timeout_s,
            "seed": settings.seed,
        },
        "notes": notes_of(results),
        "results": [_result(settings, result) for result in results],
    }


def machine() -> dict[str, Any]:
    """Return what this runs on."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "perdure": version("perdure"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _result(settings: Settings, result: Result) -> dict[str, Any]:
    return {
        "scenario": result.case.scenario,
        "target": result.case.target,
        "objects": settings.objects_of(result.case.scenario),
        "figures": {name: _sample(sample) for name, sample in result.samples().items()},
        "errors": dict(result.errors),
        "examples": result.examples,
        "rounds": [_round(each) for each in result.rounds],
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "median": sample.median,
        "low": sample.low,
        "high": sample.high,
        "rounds": list(sample.rounds),
    }


def _round(run: Round) -> dict[str, Any]:
    return {
        "seconds": run.seconds,
        "calls": run.ok,
        "offered": run.part.offered,
        "errors": run.part.errors,
        "latency_histogram": run.latencies.encode(),
        "moments": [moment._asdict() for moment in run.moments()],
        "processes": {
            process.name: {"cpu_s": process.cpu_s, "memory": process.memory}
            for process in run.processes
        },
        "cores_of_others": run.others_cores,
    }
