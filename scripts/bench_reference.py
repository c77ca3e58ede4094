"""Perdure beside what else this machine does: its disk, gRPC without work, RocksDB, Redis.

    python scripts/bench_reference.py [--rounds 5] [--seconds 3] [--json] [--pure]

All of it in one run and in turn, so that ratios are of one sitting: figures of different
machines, or of one machine at different hours, say nothing about each other. Prints medians of
the rounds and between which figures they lie, and how much CPU others had meanwhile: above a
tenth of a core, run it again when the machine is calm.

Perdure's calls add 1 to counters, and are durable before they are answered. Redis is asked for the
same: INCR, with its log synced before each answer. Client and servers share the machine, so calls
are made as `perdure bench` makes them, as those of redis-benchmark are: by the client that handles
use, without handles. What handles cost is a line of its own. References have gRPC as it comes;
one echo has the poller that Perdure chooses where nobody else has (`perdure/grpc_import.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import compiled
import psutil
import redis_rounds
from bench_calls import APP, direct, routed
from local_cluster import local_cluster
from measuring import Round
from processes import end_in_order_when_terminated, started
from rich.console import Console
from rich.table import Table
from rounds import Figure, Way, alternate, work

ECHO = Path(__file__).with_name("echo_server.py")
CALM_CORES = 0.1
REPORT_COLUMNS = 140

MANY = 512
HOT = ("--objects", "1")
ALONE = ("--in-flight", "1")

RATES = {
    "counter_vs_redis": ("counter", "redis"),
    "counter512_vs_redis": ("counter512", "redis"),
    "router3_vs_redis": ("router3", "redis"),
    "hot_vs_redis": ("hot", "redis"),
    "counter_vs_echo": ("counter", "echo"),
    "router3_vs_echo": ("router3", "echo"),
    "counter_vs_echo_older": ("counter", "echo_older"),
    "counter_vs_unary_echo": ("counter", "echo_unary"),
    "counter_vs_rocksdb": ("counter", "rocksdb"),
    "counter_vs_fdatasync": ("counter", "fdatasync"),
    "embedded_vs_counter": ("embedded", "counter"),
}
"""Ratios of calls a second: whose to whose."""

ALONE_RATIO = "one_at_a_time_vs_echo_plus_fdatasync"


@contextmanager
def all_ways() -> Iterator[list[Way]]:
    """Start what is called, and return all ways to be measured."""
    with ExitStack() as stack:
        one = stack.enter_context(local_cluster(APP, 1, quiet=True))
        three = stack.enter_context(local_cluster(APP, 3, quiet=True))
        echo = stack.enter_context(_echo_server())
        older = stack.enter_context(_echo_server("--older-poller"))
        redis = stack.enter_context(redis_rounds.redis())
        ways = [
            Way("fdatasync", "fdatasync of a page", lambda s: work("fdatasync", s)),
            Way("rocksdb", "RocksDB, synced puts", lambda s: work("rocksdb", s)),
            Way("echo_unary", "gRPC echo, unary, 64 in flight", echo("echo-unary")),
            Way("echo", "gRPC echo, batched, 64 in flight", echo("echo")),
            Way("echo_older", "... with the older poller", older("echo-older-poller")),
            Way("echo_alone", "gRPC echo, one at a time", echo("echo", *ALONE)),
            direct(one, "counter", "one node, 64 in flight"),
            direct(one, "handles", "one node, 64 in flight, handles", way="sessions"),
            direct(one, "counter512", f"one node, {MANY} in flight", "--in-flight", str(MANY)),
            direct(one, "hot", "one node, one object", *HOT),
            direct(one, "one_at_a_time", "one node, one at a time", *ALONE),
            routed(three, "router3", "router and three nodes, 64 in flight"),
            Way("embedded", "embedded, 64 in flight", _embedded),
        ]
        if redis is not None:
            ways.insert(0, Way("redis", "Redis INCR, 64 clients", redis.increment))
        yield ways


@contextmanager
def _echo_server(*options: str) -> Iterator[Callable[..., Callable[[float], Round]]]:
    with started([sys.executable, str(ECHO), *options], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        roles = {"echo": [server.pid]}

        def way(name: str, *arguments: str) -> Callable[[float], Round]:
            return lambda s: work(name, s, "--address", address, *arguments, roles=roles)

        yield way


def _embedded(seconds: float) -> Round:
    with tempfile.TemporaryDirectory(prefix="perdure-") as data:
        return work("shots", seconds, environment={"PERDURE_DATA": data})


Ratio = dict[str, float]


def ratios_of(done: dict[str, list[Round]]) -> dict[str, Ratio | None]:
    """Return every ratio: of the medians, and the least and the largest of single rounds.

    None: one side of it is not installed.
    """
    found: dict[str, Ratio | None] = {
        name: _ratio([each.rate for each in done[upper]], [each.rate for each in done[lower]])
        if upper in done and lower in done
        else None
        for name, (upper, lower) in RATES.items()
    }
    parts = zip(done["echo_alone"], done["fdatasync"], strict=True)
    found[ALONE_RATIO] = _ratio(
        [each.p50_ms for each in done["one_at_a_time"]],
        [echo.p50_ms + sync.p50_ms for echo, sync in parts],
    )
    return found


def _ratio(upper: Sequence[float], lower: Sequence[float]) -> Ratio:
    rounds = [a / b for a, b in zip(upper, lower, strict=True)]
    median = statistics.median(upper) / statistics.median(lower)
    return {"median": median, "low": min(rounds), "high": max(rounds)}


def machine() -> dict[str, Any]:
    """Describe the machine, as far as figures depend on it."""
    memory_gb = psutil.virtual_memory().total / 1e9
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(memory_gb, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def print_tables(ways: Sequence[Way], figures: dict[str, Figure], found: dict[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else REPORT_COLUMNS)
    table = Table("", title="medians, and between which figures they lie")
    for title in ("a second", "p50 ms", "p99 ms", "CPU µs of a call", "others' cores"):
        table.add_column(title, justify="right")
    for way in ways:
        figure = figures[way.name]
        cpu = ", ".join(f"{role} {cost.median:.1f}" for role, cost in figure.cpu_us.items())
        table.add_row(
            way.text,
            f"{figure.rate.median:,.0f} ({figure.rate.low:,.0f} to {figure.rate.high:,.0f})",
            f"{figure.p50_ms.median:.3f}",
            f"{figure.p99_ms.median:.3f}",
            cpu,
            f"{figure.others_cores.median:.2f}",
        )
    console.print(table)
    table = Table("ratio", title="ratios")
    table.add_column("of medians", justify="right")
    table.add_column("of single rounds", justify="right")
    for name, ratio in found.items():
        if ratio is None:
            table.add_row(name, "-", redis_rounds.MISSING)
        else:
            rounds = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
            table.add_row(name, f"{ratio['median']:.2f}", rounds)
    console.print(table)
    if "redis" not in figures:
        console.print(f"{redis_rounds.SERVER}: {redis_rounds.MISSING}")
    busiest = max(figure.others_cores.median for figure in figures.values())
    if busiest > CALM_CORES:
        console.print(
            f"others had up to {busiest:.1f} cores meanwhile: run this again on a calm machine"
        )


def as_json(
    ways: Sequence[Way], figures: dict[str, Figure], found: dict[str, Any], modules: str
) -> str:
    shown: dict[str, Any] = {
        way.name: {"text": way.text, **figures[way.name].as_dict()} for way in ways
    }
    missing: dict[str, str] = {}
    if "redis" not in shown:
        shown["redis"] = None
        missing["redis"] = redis_rounds.MISSING
    answer = {
        "perdure": modules,
        "figures": shown,
        "ratios": {name: ratio and ratio["median"] for name, ratio in found.items()},
        "spreads": {name: ratio and [ratio["low"], ratio["high"]] for name, ratio in found.items()},
        "missing": missing,
        "machine": machine(),
    }
    return json.dumps(answer, indent=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round of each way")
    parser.add_argument("--json", action="store_true", help="print JSON")
    compiled.add_arguments(parser)
    options = parser.parse_args()
    end_in_order_when_terminated()
    modules = compiled.choose(options)
    with all_ways() as ways:
        done = alternate(ways, options.rounds, options.seconds)
    figures = {name: Figure.of(rounds) for name, rounds in done.items()}
    found = ratios_of(done)
    if options.json:
        print(as_json(ways, figures, found, modules))
    else:
        print(f"Perdure: {modules}")
        print_tables(ways, figures, found)


if __name__ == "__main__":
    main()
