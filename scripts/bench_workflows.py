"""How fast workflows are, beside the same load on objects: prints calls per second.

On a node that `perdure up` has started, and in a program's own, where caller and node share a
core. Both write to the disk before they answer.

    python scripts/bench_workflows.py [--callers 64] [--runs 1000] [--calls 20000] [--pure]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import compiled
from local_cluster import local_cluster
from pydantic import BaseModel

import perdure
from perdure import (
    DurableObject,
    define_hook,
    durable,
    get_workflow_metadata,
    resume_hook,
    start,
    step,
    workflow,
)

ROUNDS = 5
"""In turns: objects, runs, objects, ..."""


class Action(BaseModel):
    type: Literal["increment", "decrement", "get"]
    amount: int = 1


counter_action = define_hook(schema=Action)


@step
async def record_state(count: int) -> int:
    return count


@workflow
async def durable_counter() -> None:
    count = 0
    run_id = get_workflow_metadata().workflow_run_id
    while True:
        hook = counter_action.create(token=f"counter:{run_id}")
        action = await hook
        if action.type == "increment":
            count = await record_state(count + action.amount)
        elif action.type == "decrement":
            count = await record_state(count - action.amount)
        await hook.reply({"count": count})


@durable.object
class BenchCounter(DurableObject):
    def __init__(self, counter_id: str) -> None:
        super().__init__(counter_id)
        self.count = 0

    async def increment(self, amount: int = 1) -> dict[str, int]:
        self.count += amount
        return {"count": self.count}


async def load(callers: int, calls: int, call: Callable[[int], Awaitable[object]]) -> float:
    """Make calls from several callers, one after the other each; calls per second."""
    chance = random.Random(7)
    left = [chance.randrange(1 << 30) for _ in range(calls)]

    async def caller() -> None:
        while left:
            await call(left.pop())

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return calls / (time.perf_counter() - began)


async def many_runs(callers: int, runs: int, calls: int, address: str | None = None) -> None:
    if address is None:
        print("in the program's own node")
    else:
        print("on one node")
        await perdure.connect(address)
    counters = await asyncio.gather(*(BenchCounter.get_or_create(f"c{n}") for n in range(runs)))
    began = time.perf_counter()
    started = await asyncio.gather(*(start(durable_counter, id=f"r{n}") for n in range(runs)))
    print(f"{'starts':28} {runs / (time.perf_counter() - began):>9,.0f} runs/s")
    tokens = [f"counter:{run.id}" for run in started]

    async def increment(n: int) -> object:
        return await durable.call(counters[n % runs].increment)

    async def resume(n: int) -> object:
        return await resume_hook(tokens[n % runs], {"type": "increment"})

    rates: dict[str, list[float]] = {"objects": [], "runs": []}
    await load(callers, runs * 2, resume)
    for _ in range(ROUNDS):
        rates["objects"].append(await load(callers, calls, increment))
        rates["runs"].append(await load(callers, calls, resume))
    for name, found in rates.items():
        spread = f"({min(found):,.0f} to {max(found):,.0f})"
        median = statistics.median(found)
        print(f"{callers} callers, {runs} {name:12} {median:>9,.0f} calls/s {spread}")
    shares = [a / b for a, b in zip(rates["runs"], rates["objects"], strict=True)]
    spread = f"({min(shares):.2f} to {max(shares):.2f})"
    print(f"{'runs / objects':28} {statistics.median(shares):>9.2f} {spread}")


async def one_run(resumes: int) -> None:
    run = await start(durable_counter, id="one")
    token = f"counter:{run.id}"
    seconds: list[float] = []
    for _ in range(resumes):
        began = time.perf_counter()
        await resume_hook(token, {"type": "increment"})
        seconds.append(time.perf_counter() - began)
    first, last = (statistics.median(part) for part in (seconds[:1000], seconds[-1000:]))
    print(f"{resumes:,} resumes of one run: {first * 1e6:.0f} us each of the first 1,000, ", end="")
    print(f"{last * 1e6:.0f} us each of the last ({last / first:.2f} times)")


async def replay() -> None:
    began = time.perf_counter()
    answer = await resume_hook("counter:one", {"type": "get"}, timeout=None)
    took_s = time.perf_counter() - began
    events = (await start(durable_counter, id="one")).status()
    count = (await events).events
    print(f"ready again after {took_s:.2f} s: {count:,} events, {count / took_s:,.0f} events/s")
    assert answer["count"] > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--resumes", type=int, default=10_000)
    parser.add_argument("--only", choices=("served", "many", "one"))
    compiled.add_arguments(parser)
    given = parser.parse_args()
    print(f"Perdure: {compiled.choose(given)}")
    for part in ("many", "one"):
        if given.only not in (None, part):
            continue
        with tempfile.TemporaryDirectory(dir=".") as data:
            os.environ["PERDURE_DATA"] = f"{data}/data"
            if part == "many":
                asyncio.run(many_runs(given.callers, given.runs, given.calls))
            else:
                asyncio.run(one_run(given.resumes))
                asyncio.run(replay())
    # Last, because a process that has connected stays a client.
    if given.only in (None, "served"):
        with local_cluster(Path(__file__), 1, quiet=True) as cluster:
            node = cluster.describe().nodes[0].address
            asyncio.run(many_runs(given.callers, given.runs, given.calls, node))


if __name__ == "__main__":
    main()
