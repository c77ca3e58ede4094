"""How many durable calls a second: straight to a node, unary, and through a router.

    python scripts/bench_calls.py [--calls 20000] [--rounds 3]

64 callers call 1,000 counters, each waiting for its answer before it calls again. The three
ways alternate, and the median of the rounds counts, so that a slow minute of the machine does
not hit one of them alone.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import grpc.aio
import uvloop
from local_cluster import local_cluster

import perdure
from perdure import DurableObject, durable
from perdure.wire.v1 import calls_pb2, calls_pb2_grpc

CALLERS = 64
COUNTERS = 1_000

Call = Callable[[int], Awaitable[object]]
"""Increments the counter of that number once."""


@durable.object
class BenchCounter(DurableObject):
    """What is called: this file is the app of the nodes too."""

    def __init__(self, counter_id: str) -> None:
        super().__init__(counter_id)
        self.value = 0

    async def increment(self, amount: int = 1) -> int:
        self.value += amount
        return self.value


async def calls_per_second(call: Call, calls: int) -> float:
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            await call(number * 7 % COUNTERS)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return calls / (time.perf_counter() - began)


async def over_sessions(address: str, calls: int) -> float:
    await perdure.connect(address)
    counters = await asyncio.gather(
        *(BenchCounter.get_or_create(f"bench-{number}") for number in range(COUNTERS))
    )
    return await calls_per_second(lambda number: counters[number].increment(), calls)


async def over_unary(address: str, calls: int) -> float:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = calls_pb2_grpc.CallsStub(channel)
        requests = [
            calls_pb2.CallRequest(type="BenchCounter", id=f"bench-{number}", method="increment")
            for number in range(COUNTERS)
        ]
        return await calls_per_second(
            lambda number: stub.Call(requests[number], timeout=30.0), calls
        )


def run(way: Coroutine[object, object, float]) -> float:
    # The clients of a busy service use it too.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(way)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    app = Path(__file__).resolve()
    with local_cluster(app, 1) as one, local_cluster(app, 3) as three:
        node = one.describe().nodes[0].address
        router = three.address
        ways: dict[str, Callable[[], Coroutine[object, object, float]]] = {
            "one node": lambda: over_sessions(node, options.calls),
            "one node, unary": lambda: over_unary(node, options.calls // 4),
            "router and three nodes": lambda: over_sessions(router, options.calls),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                rates[name].append(run(way()))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        rounds = ", ".join(f"{found:,.0f}" for found in rates[name])
        print(f"{name:24} {rate:>9,.0f} calls/s   ({rounds})")
    print(f"one node / unary: {medians['one node'] / medians['one node, unary']:.1f} times")


if __name__ == "__main__":
    main()
