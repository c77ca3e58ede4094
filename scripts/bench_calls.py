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
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc.aio
from counter import Counter
from play_flights import describe, free_port, wait_until_served

import perdure
from perdure.wire.v1 import calls_pb2, calls_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent
CALLERS = 64
COUNTERS = 1_000

Call = Callable[[int], Awaitable[object]]
"""Increments the counter of that number once."""


@contextmanager
def cluster(nodes: int, data: str) -> Iterator[str]:
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "perdure.cli.main", "up", "examples/counter.py"]
    command += ["--nodes", str(nodes), "--port", str(port), "--data", data]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as supervisor:
        try:
            wait_until_served(address, supervisor)
            yield address
        finally:
            supervisor.terminate()


def node_address(router_address: str) -> str:
    return describe(router_address).nodes[0].address


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
        *(Counter.get_or_create(f"bench-{number}") for number in range(COUNTERS))
    )
    return await calls_per_second(lambda number: counters[number].increment(), calls)


async def over_unary(address: str, calls: int) -> float:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = calls_pb2_grpc.CallsStub(channel)
        requests = [
            calls_pb2.CallRequest(type="Counter", id=f"bench-{number}", method="increment")
            for number in range(COUNTERS)
        ]
        return await calls_per_second(
            lambda number: stub.Call(requests[number], timeout=30.0), calls
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as three,
        cluster(1, one) as single,
        cluster(3, three) as router,
    ):
        node = node_address(single)
        ways: dict[str, Callable[[], Awaitable[float]]] = {
            "one node": lambda: over_sessions(node, options.calls),
            "one node, unary": lambda: over_unary(node, options.calls // 4),
            "router and three nodes": lambda: over_sessions(router, options.calls),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                rates[name].append(asyncio.run(run(way)))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        rounds = ", ".join(f"{found:,.0f}" for found in rates[name])
        print(f"{name:24} {rate:>9,.0f} calls/s   ({rounds})")
    print(f"one node / unary: {medians['one node'] / medians['one node, unary']:.1f} times")


async def run(way: Callable[[], Awaitable[float]]) -> float:
    return await way()


if __name__ == "__main__":
    main()
