"""What a call costs a node, and how it bears more of them than it can answer."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from findings import Findings, at_least, at_most
from node_calls import IN_FLIGHT, client_of, counter, folder
from one_node import OneNode, one_node
from processes import started
from rounds import Way, alternate, work

from perdure.errors import Code
from perdure.frames import Kind

if TYPE_CHECKING:
    from measure_node import Scale

PERDURE = "from perdure.cli.main import main; main()"
CPU_US = 20.0
CALM_SHARE, CALM_TAIL, CALM_DRIFT = 0.7, 10.0, 1.5
OVER_SHARE, OVER_GOODPUT, REFUSED_MS = 2.0, 0.7, 100.0
MOST_IN_FLIGHT = 512
"""More are answered in a second than with 64: messages are fuller then."""

PROBE_S = 0.05
MEMORY_GROWTH = 1.2
"""What it may be in the last third of an overload, by what it was in the second third."""


def cpu(scale: Scale, found: Findings) -> None:
    """See how much CPU time a node takes for a call."""
    with folder() as data, one_node(data, partitions=scale.partitions) as node:
        calls = ("--address", node.address, "--in-flight", str(IN_FLIGHT))
        roles = {"node": [node.process.pid]}
        way = Way("counter", "counter", lambda s: work("sessions", s, *calls, roles=roles))
        done = alternate([way], scale.rounds, scale.round_s)["counter"]
    text = f"CPU time of a node for a call, {IN_FLIGHT} in flight"
    found.add("node_us", text, [each.cpu_us["node"] for each in done], "µs", at_most(CPU_US))
    found.add("client_us", "... of the client", [each.cpu_us["client"] for each in done], "µs")
    found.add("calls_per_s", "... calls a second", [each.rate for each in done])
    others = [each.others_cores for each in done]
    found.add("others_cores", "... cores that others had", others)


def open_loop(scale: Scale, found: Findings) -> None:
    """Offer 70 % of what a node can answer, for long; then twice as much as it can."""
    with folder() as data, one_node(data, partitions=scale.partitions) as node:
        most, _ = _bench(node, scale.round_s, rounds=scale.rounds)
        rates = most["figures"]["calls_per_s"]
        text = f"calls a second, {MOST_IN_FLIGHT} in flight"
        found.add("most_per_s", text, rates["rounds"])
        calm, _ = _bench(node, scale.calm_s, rate=CALM_SHARE * rates["median"])
        _tell_calm(calm, found)
        over, refused_ms = _bench(node, scale.over_s, rate=OVER_SHARE * rates["median"])
        # What is the most may have changed meanwhile: others share the machine.
        after, _ = _bench(node, scale.round_s, rounds=scale.rounds)
    after_rates = after["figures"]["calls_per_s"]
    _tell_over(over, statistics.mean((rates["median"], after_rates["median"])), found)
    if len(refused_ms) > 1:
        p99 = statistics.quantiles(refused_ms, n=100, method="inclusive")[98]
        text = "... p99 of calls that were refused"
        found.add("over_refused_ms", text, p99, "ms", at_most(REFUSED_MS))
        found.add("over_refused_p50_ms", "... their p50", statistics.median(refused_ms), "ms")
    found.add("after_per_s", f"... then, {MOST_IN_FLIGHT} in flight", after_rates["rounds"])


def _tell_calm(result: dict[str, Any], found: Findings) -> None:
    figures = result["figures"]
    p50, p99 = figures["p50_ms"]["median"], figures["p99_ms"]["median"]
    text = "open loop at 70 % of that: p99 by p50"
    found.add("calm_tail", text, p99 / p50, "", at_most(CALM_TAIL))
    found.add("calm_p50_ms", "... p50", p50, "ms")
    moments = [each["p50_ms"] for each in result["rounds"][0]["moments"] if each["p50_ms"]]
    quarter = max(1, len(moments) // 4)
    drift = statistics.median(moments[-quarter:]) / statistics.median(moments[:quarter])
    text = "... p50 in the last quarter of the time by that in the first"
    found.add("calm_drift", text, drift, "", at_most(CALM_DRIFT))
    found.add("calm_failed", "... calls that failed", figures["failed_percent"]["median"], "%")
    _tell_caller("calm_caller_cores", figures, found)


def _tell_over(result: dict[str, Any], per_s: float, found: Findings) -> None:
    figures = result["figures"]
    goodput = figures["calls_per_s"]["median"] / per_s
    text = "open loop at 200 %: answered in a second, by the most (before and after)"
    found.add("over_goodput", text, goodput, "", at_least(OVER_GOODPUT))
    found.add("over_p99_ms", "... p99 of what was answered", figures["p99_ms"]["median"], "ms")
    errors: dict[str, int] = result["errors"]
    failed = figures["failed_percent"]["median"]
    others = sum(count for name, count in errors.items() if name != "Overloaded")
    text = "... calls that failed otherwise than with `Overloaded`"
    found.add("over_others", text, others, "", at_most(0))
    found.add("over_failed", "... calls that failed", failed, "%")
    (process,) = (
        each for name, each in result["rounds"][0]["processes"].items() if name != "caller"
    )
    memory = [held for _, held in process["memory"]]
    text = "... memory in the last third by that in the second"
    found.add("over_memory", text, _growth(memory), "", at_most(MEMORY_GROWTH))
    found.add("over_memory_mb", "... the most memory", max(memory) / 1e6, "MB")
    _tell_caller("over_caller_cores", figures, found)
    found.notes |= {"errors": errors, "examples": result["examples"]}


def _tell_caller(name: str, figures: dict[str, Any], found: Findings) -> None:
    text = "... cores of the process that calls (0.9 and more: it was the limit)"
    found.add(name, text, figures["cores caller"]["median"])


def _growth(memory: Sequence[float]) -> float:
    third = max(1, len(memory) // 3)
    return max(memory[-third:]) / max(memory[third : 2 * third] or memory[-third:])


def _bench(
    node: OneNode, seconds: float, *, rate: float = 0.0, rounds: int = 1
) -> tuple[dict[str, Any], list[float]]:
    """Run `perdure bench` against a node.

    Returns:
        What it has written; and how many ms it took to refuse each of a few other calls.
    """
    with tempfile.TemporaryDirectory(prefix="perdure-measured-") as directory:
        written = Path(directory, "bench.json")
        command = [sys.executable, "-c", PERDURE, "bench", "--address", node.address]
        command += ["--seconds", str(seconds), "--rounds", str(rounds), "--json", str(written)]
        command += ["--rate", str(rate)] if rate else ["--inflight", str(MOST_IN_FLIGHT)]
        with started(command, stdout=subprocess.DEVNULL) as bench:
            refused_ms = asyncio.run(_refusals(node.address, bench))
            if bench.returncode:
                raise SystemExit(f"{' '.join(command)} has ended with {bench.returncode}")
        (result,) = json.loads(written.read_text())["results"]
        return result, refused_ms


async def _refusals(address: str, bench: subprocess.Popen[str]) -> list[float]:
    """Call now and then until a load is over; return how long calls took that were refused."""
    refused_ms: list[float] = []

    async def probe() -> None:
        began = time.perf_counter()
        answer = await client.call(counter("probe"), Kind.GET_OR_CREATE)
        if answer.code == Code.BACKPRESSURE:
            refused_ms.append(1e3 * (time.perf_counter() - began))

    async with client_of(address) as client, asyncio.TaskGroup() as probes:
        while bench.poll() is None:
            probes.create_task(probe())
            await asyncio.sleep(PROBE_S)
    return refused_ms
