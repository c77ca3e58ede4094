"""`python -m perdure.bench.generator`: a process that calls. `perdure bench` starts it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import uvloop

import perdure
from perdure.answers import error_of
from perdure.bench.jobs import Job, part_of, write_part
from perdure.bench.launching import Launcher, OwnLauncher, ShotLauncher
from perdure.bench.loops import ClosedLoop, Load, OpenLoop
from perdure.bench.meter import Meter
from perdure.bench.own import Own, find_own, import_app
from perdure.bench.pace import Pace
from perdure.bench.scenarios import SCENARIOS, Scenario, name_of
from perdure.client import Client
from perdure.codec import decode, encode
from perdure.errors import Code, PerdureError
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.process import die_with
from perdure.runtime import current_client
from perdure.serving.lifetime import calm_collector, collect_rarely

__all__ = ["main"]

_CONNECT_S: Final = 30.0
_PREPARE_S: Final = 120.0
_AT_ONCE: Final = 500
_NUMBERS_OF_A_RUN: Final = 10**12
_LEFT_AFTER_S: Final = 1.0
"""What objects have still to do so long after the load, they have not kept up with."""

_LATE_S: Final = 5.0
"""Who has not been answered so long after its time is over never will be."""


def main() -> int:
    """Do what the one who started this process says, and return the exit status."""
    die_with(int(sys.argv[1]))
    # Ctrl-C reaches the whole process group; who ends when is for the command to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What the user's code prints must not come between the lines of the protocol.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(what: str, **content: Any) -> None:
        lines.write(json.dumps({"say": what, **content}) + "\n")
        lines.flush()

    job = Job.from_json(sys.stdin.buffer.readline())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_work(job, say))
    except Exception as error:
        text = str(error)
        if not isinstance(error, PerdureError):
            traceback.print_exc()
            text = f"a process that calls has failed: {type(error).__name__}: {error}"
        say("failed", text=text)
        return 1
    return 0


async def _work(job: Job, say: Any) -> None:
    for app in job.apps:
        import_app(app)
    own = None if job.scenario in SCENARIOS else find_own(job.scenario)
    if job.address is None:
        client = await _embedded()
    else:
        client = await perdure.connect(job.address, routing=job.routing, timeout=_CONNECT_S)
    if job.prepare:
        await _prepare(job, client, own)
    meter = Meter()
    launcher = _launcher(job, client, own, meter)
    # A node in this process has the collector that one in its own process has.
    collect_rarely()
    calm_collector()
    say("ready")
    line = await asyncio.to_thread(sys.stdin.buffer.readline)
    start_ns = json.loads(line)["start_ns"]
    offered = await _load(job, launcher, meter, start_ns, say)
    left = await _left(job, client)
    say("done", **write_part(part_of(meter, offered, left)))


async def _embedded() -> Client:
    """Open a node here, and all its partitions: it would open each at the first call for it."""
    import_app("perdure.bench.app")
    client = current_client()
    await client.connected(_CONNECT_S)
    keys = [ObjectKey("BenchCounter", name_of(number)) for number in range(_AT_ONCE)]
    await _ask_all(client, keys, "", Kind.EXISTS)
    return client


def _launcher(job: Job, client: Client, own: Own | None, meter: Meter) -> Launcher:
    chance = Random(f"{job.seed}/{job.run}/{job.number}")
    if own is not None:
        first = job.run * _NUMBERS_OF_A_RUN + job.number
        numbers = itertools.count(first, job.processes)
        return OwnLauncher(own.function, numbers, chance, job.timeout_s, meter)
    scenario = SCENARIOS[job.scenario]
    shots = scenario.shots(scenario.type, job.objects, chance)
    return ShotLauncher(client, shots.__next__, job.timeout_s, meter)


async def _load(job: Job, launcher: Launcher, meter: Meter, start_ns: int, say: Any) -> int:
    """Make calls, and return how many were due or made while they counted."""
    load: Load
    if job.in_flight:
        load = ClosedLoop(launcher, job.in_flight)
    else:
        # The processes take turns.
        shift_ns = job.number * round(1e9 / job.rate / job.processes)
        load = OpenLoop(launcher, Pace(start_ns + shift_ns, job.rate), meter)
    await _until(start_ns)
    load.start()
    from_ns = start_ns + round(job.warm_up_s * 1e9)
    await _until(from_ns)
    made = load.made
    meter.begin(time.monotonic_ns())
    for number in range(1, round(job.seconds / job.interval_s) + 1):
        await _until(from_ns + round(number * job.interval_s * 1e9))
        ended = meter.now
        meter.begin(time.monotonic_ns())
        say("calls", ok=len(ended.latencies_ns), failed=ended.failed, seconds=ended.seconds)
    offered = load.made - made
    load.stop()
    unanswered = await load.landed_all(job.timeout_s + _LATE_S)
    for _ in range(unanswered):
        meter.failed("Unanswered", "no answer came, and no error")
    launcher.give_up()
    meter.end(time.monotonic_ns())
    return offered


async def _until(time_ns: int) -> None:
    await asyncio.sleep(max(0, time_ns - time.monotonic_ns()) / 1e9)


# Before and after the load.


async def _prepare(job: Job, client: Client, own: Own | None) -> None:
    if own is not None:
        if own.prepare is not None and job.number == 0:
            await own.prepare()
        return
    scenario = SCENARIOS[job.scenario]
    for keys in _share(job, scenario):
        await _ask_all(client, keys, "", Kind.GET_OR_CREATE)
        if scenario.prepare:
            await _ask_all(client, keys, scenario.prepare)


async def _left(job: Job, client: Client) -> int:
    scenario = SCENARIOS.get(job.scenario)
    if scenario is None or not scenario.left:
        return 0
    await asyncio.sleep(_LEFT_AFTER_S)
    left = 0
    for keys in _share(job, scenario):
        left += sum(await _ask_all(client, keys, scenario.left))
    return left


def _share(job: Job, scenario: Scenario) -> list[list[ObjectKey]]:
    """Return this process's share of the objects, some at a time."""
    keys = [
        ObjectKey(scenario.type, name_of(number))
        for number in range(job.number, job.objects, job.processes)
    ]
    return [keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE)]


async def _ask_all(
    client: Client, keys: Sequence[ObjectKey], method: str, kind: Kind = Kind.CALL
) -> list[Any]:
    arguments = encode([[], {}]) if kind == Kind.CALL else b""
    answers = await asyncio.gather(
        *(client.call(key, kind, method, arguments=arguments, timeout_s=_PREPARE_S) for key in keys)
    )
    for answer in answers:
        if answer.code != Code.OK:
            raise error_of(answer)
    if kind != Kind.CALL:
        return []
    return [decode(answer.reply.payload) for answer in answers]


if __name__ == "__main__":
    sys.exit(main())
