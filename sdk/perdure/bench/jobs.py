"""What a generator process is told, and what it tells: lines of JSON over its pipes.

It is told a `Job`, and once it has said `{"say": "ready"}`, when the load begins, everywhere:
`{"start_ns": ...}`. It says `{"say": "calls", ...}` again and again and at last
`{"say": "done", ...}`; or, at any time, `{"say": "failed", "text": ...}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from perdure.bench.latency import Latencies
from perdure.bench.meter import Meter

__all__ = ["Job", "Part", "Stretch", "part_of", "read_part", "write_part"]


@dataclass(frozen=True, slots=True)
class Job:
    """What one of the processes of a run is to do."""

    scenario: str
    """One that is built in, or `module:function`."""
    apps: tuple[str, ...]
    """To be imported: files, or names of modules."""
    address: str | None
    """Of a router or node; None: a node in this process."""
    routing: Literal["router", "direct"]
    """As for `perdure.connect`."""
    objects: int
    number: int
    """Of this process, from 0."""
    processes: int
    run: int
    """Counts the runs of the command."""
    in_flight: int
    """Of this process. 0: an open loop."""
    rate: float
    """Of this process; only in an open loop."""
    warm_up_s: float
    seconds: float
    interval_s: float
    timeout_s: float
    seed: int
    prepare: bool
    """Whether the objects may not be there yet."""

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> Job:
        """Read one line."""
        content = json.loads(line)
        return cls(**{**content, "apps": tuple(content["apps"])})


@dataclass(slots=True)
class Stretch:
    """What ended in one interval."""

    seconds: float
    latencies: Latencies
    """Of the calls that succeeded."""
    failed: int


@dataclass(slots=True)
class Part:
    """What one process, or all together, saw of a run."""

    stretches: list[Stretch]
    """One after the other, from the end of the warm-up to the end of the load."""
    late: Stretch
    """What was under way at the end of the load, and ended afterwards."""
    offered: int
    """Calls that were due or made in the stretches."""
    errors: dict[str, int]
    """By class."""
    examples: dict[str, str] = field(default_factory=dict[str, str])
    """What the first error of each class said."""
    left: int = 0
    """What objects had still to do at the end, as the scenario counts it."""


def part_of(meter: Meter, offered: int, left: int) -> Part:
    """Make histograms of what was counted. The last interval is the one after the load."""
    stretches = []
    for interval in meter.intervals:
        latencies = Latencies()
        latencies.record(interval.latencies_ns)
        stretches.append(Stretch(interval.seconds, latencies, interval.failed))
    late = stretches.pop()
    return Part(stretches, late, offered, dict(meter.errors), meter.examples, left)


def write_part(part: Part) -> dict[str, Any]:
    """Return it for JSON."""
    return {
        "stretches": [_write(stretch) for stretch in part.stretches],
        "late": _write(part.late),
        "offered": part.offered,
        "errors": part.errors,
        "examples": part.examples,
        "left": part.left,
    }


def _write(stretch: Stretch) -> dict[str, Any]:
    return {
        "seconds": stretch.seconds,
        "latencies": stretch.latencies.encode(),
        "failed": stretch.failed,
    }


def read_part(content: Mapping[str, Any]) -> Part:
    """Read what `write_part` has returned."""
    return Part(
        stretches=[_read(stretch) for stretch in content["stretches"]],
        late=_read(content["late"]),
        offered=content["offered"],
        errors=content["errors"],
        examples=content["examples"],
        left=content["left"],
    )


def _read(content: Mapping[str, Any]) -> Stretch:
    latencies = Latencies.decode(content["latencies"])
    return Stretch(content["seconds"], latencies, content["failed"])
