"""How a round of load is measured: calls a second, how long each took, and whose CPU it cost."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from perdure.bench.watch import Watch

Call = Callable[[int], Awaitable[object]]
"""Makes the call of that number."""


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one round."""

    calls: int
    rate: float
    """Calls a second."""
    p50_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float]
    """Of each role's processes, for a call."""
    others_cores: float
    """How many cores processes had that have no part in it."""

    @classmethod
    def of(cls, latencies_s: Sequence[float], spent: Spent) -> Round:
        """Return what came of calls that took so long each, and so much together."""
        calls = len(latencies_s)
        cuts = statistics.quantiles(latencies_s, n=100) if calls > 1 else [latencies_s[0]] * 99
        return cls(
            calls,
            calls / spent.seconds,
            cuts[49] * 1e3,
            cuts[98] * 1e3,
            {role: cpu_s / calls * 1e6 for role, cpu_s in spent.cpu_s.items()},
            spent.others_s / spent.seconds,
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What a stretch of time has cost."""

    seconds: float
    cpu_s: Mapping[str, float]
    """Of each role's processes."""
    others_s: float
    """CPU of all processes that have no part in it."""


class Cost:
    """What processes that have a part in a round cost while it lasts."""

    def __init__(self, roles: Mapping[str, Sequence[int]]) -> None:
        """Find the processes.

        Args:
            roles: Process ids by what these processes are. This process is the `client`.
        """
        pids = {f"{role} {pid}": pid for role, pids in roles.items() for pid in pids}
        self._watch = Watch(pids, os.getpid())
        self._client_s = 0.0

    def begin(self) -> None:
        self._watch.look()
        self._client_s = time.process_time()

    def end(self) -> Spent:
        """Return what the time since `begin` has cost."""
        cpu_s = {"client": time.process_time() - self._client_s}
        self._watch.look()
        seen = self._watch.seen()
        for watched in seen.watched:
            role = watched.name.partition(" ")[0]
            cpu_s[role] = cpu_s.get(role, 0.0) + watched.cpu_s
        watched_s = sum(watched.cpu_s for watched in seen.watched)
        others_s = seen.busy_cores * seen.seconds - watched_s
        return Spent(seen.seconds, cpu_s, max(0.0, others_s))


async def closed_loop(
    call: Call, in_flight: int, seconds: float, warm_up_s: float, cost: Cost
) -> Round:
    """Let callers call, each waiting for its answer before it calls again."""
    clock = time.perf_counter
    numbers = iter(range(1 << 62))
    latencies_s: list[float] = []
    is_over = False

    async def caller() -> None:
        nonlocal latencies_s
        while not is_over:
            began = clock()
            await call(next(numbers))
            latencies_s.append(clock() - began)

    callers = [asyncio.ensure_future(caller()) for _ in range(in_flight)]
    await _let_run(callers, warm_up_s)
    cost.begin()
    latencies_s = []
    await _let_run(callers, seconds)
    while not latencies_s:
        # Others have the machine: the round takes longer, and counts what it took.
        await _let_run(callers, seconds)
    done = Round.of(latencies_s, cost.end())
    is_over = True
    await asyncio.gather(*callers)
    return done


async def _let_run(callers: Sequence[asyncio.Future[None]], seconds: float) -> None:
    """Wait; a caller that fails ends the round."""
    done, _ = await asyncio.wait(callers, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for caller in done:
        await caller


async def in_step(
    call: Call, in_flight: int, seconds: float, warm_up_s: float, cost: Cost
) -> Round:
    """Make so many calls at once, wait for all of them, and begin anew: each message is full."""
    clock = time.perf_counter
    numbers = iter(range(1 << 62))
    latencies_s: list[float] = []
    began = clock()
    counting = False
    while not counting or clock() - began < seconds:
        if not counting and clock() - began >= warm_up_s:
            counting, latencies_s = True, []
            cost.begin()
            began = clock()
        step = clock()
        await asyncio.gather(*(call(next(numbers)) for _ in range(in_flight)))
        latencies_s += [clock() - step] * in_flight
    return Round.of(latencies_s, cost.end())


def repeated(operation: Callable[[], object], seconds: float, cost: Cost) -> Round:
    """Do something again and again."""
    clock = time.perf_counter
    latencies_s: list[float] = []
    cost.begin()
    now = clock()
    end = now + seconds
    while now < end:
        operation()
        before, now = now, clock()
        latencies_s.append(now - before)
    return Round.of(latencies_s, cost.end())
