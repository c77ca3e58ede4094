"""All runs of one command: places opened, cases taken in turns, and each run measured."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from perdure.bench.figures import Case, Result, Round, merge
from perdure.bench.findings import round_of
from perdure.bench.generators import generators
from perdure.bench.jobs import Job
from perdure.bench.places import Place, Target, open_place
from perdure.bench.scenarios import CACHE_SHARE, SCENARIOS
from perdure.bench.watch import Watch
from perdure.config import Config

__all__ = ["Progress", "Settings", "run_bench"]

_APP: Final = "perdure.bench.app"
_INTERVALS_MAX: Final = 60
_INTERVAL_S: Final = 0.25

_COLD_ELSEWHERE: Final = (
    f"how many objects a running node keeps in memory is not known: cold is what it says only if "
    f"--objects is {CACHE_SHARE} times activations_max of all nodes together"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure, and how."""

    scenarios: tuple[str, ...]
    targets: tuple[Target, ...]
    in_flight: int
    """0: an open loop."""
    rate: float
    """Calls in a second; only in an open loop."""
    objects: int | None
    """None: as many as the scenario wants."""
    processes: int
    rounds: int
    warm_up_s: float
    seconds: float
    timeout_s: float
    seed: int
    app: str | None
    """Of the user's scenarios; None: the module that holds the scenario."""
    config: Config
    """Of the nodes that are started."""
    data: Path | None

    def objects_of(self, scenario: str) -> int:
        """Return how many objects a scenario calls; 0: that is the user's business."""
        built_in = SCENARIOS.get(scenario)
        if built_in is None:
            return 0
        return built_in.objects if built_in.is_fixed else self.objects or built_in.objects

    @property
    def interval_s(self) -> float:
        """The length of the intervals of a run."""
        count = min(_INTERVALS_MAX, max(1, round(self.seconds / _INTERVAL_S)))
        return self.seconds / count

    def cases(self) -> list[Case]:
        """Return what is measured, in turns."""
        return [Case(name, target.name) for name in self.scenarios for target in self.targets]


class Progress(Protocol):
    """Is told what happens now."""

    def say(self, line: str) -> None:
        """Something that a person may want to know."""

    def run(self, case: Case, number: int) -> None:
        """The next run begins, of this round."""

    def phase(self, what: str) -> None:
        """The run has come to this."""

    def calls(self, count: int, seconds: float) -> None:
        """One process has made so many calls in so many seconds."""


async def run_bench(settings: Settings, progress: Progress) -> list[Result]:
    """Measure every case in every round.

    Raises:
        CommandFailed: Something cannot be called at all, or a process that calls has failed.
    """
    results = {case: Result(case) for case in settings.cases()}
    targets = {target.name: target for target in settings.targets}
    async with AsyncExitStack() as stack:
        places: dict[_Key, Place] = {}
        for case in results:
            key = _key(case, targets)
            if key not in places:
                opened = _open(settings, case, targets[case.target], progress)
                places[key] = await stack.enter_async_context(opened)
        prepared: set[tuple[str, _Key]] = set()
        for number in range(settings.rounds):
            for turn, (case, result) in enumerate(results.items()):
                progress.run(case, number)
                key = _key(case, targets)
                made = (case.scenario, key)
                job = _job(
                    settings,
                    case,
                    targets[case.target],
                    places[key].address,
                    run=number * len(results) + turn,
                    prepare=made not in prepared,
                )
                result.rounds.append(await _run_once(settings, job, places[key], progress))
                prepared.add(made)
    return list(results.values())


_Key = tuple[str, bool]
"""What is opened, and whether it keeps few objects in memory."""


def _key(case: Case, targets: Mapping[str, Target]) -> _Key:
    """Cases with the same key are called at the same place."""
    return targets[case.target].place, case.scenario == "cold"


@asynccontextmanager
async def _open(
    settings: Settings, case: Case, target: Target, progress: Progress
) -> AsyncIterator[Place]:
    is_cold = case.scenario == "cold"
    progress.say(_opening(target, is_small=is_cold))
    folder = None
    if settings.data is not None:
        name = target.place.replace(" ", "-")
        folder = settings.data / (f"{name}-cold" if is_cold else name)
    config = _config(settings, case, target)
    async with open_place(target, _apps(settings), config, folder, _types(settings)) as place:
        if is_cold and target.address is not None:
            place.notes.append(_COLD_ELSEWHERE)
        yield place


def _opening(target: Target, *, is_small: bool) -> str:
    if target.address is not None:
        return f"looking for {target.address}"
    memory = " that keeps few objects in memory" if is_small else ""
    if target.is_embedded:
        return f"preparing a folder for an embedded node{memory}"
    return f"starting {target.place}{memory}"


def _apps(settings: Settings) -> tuple[str, ...]:
    own = [name.rpartition(":")[0] for name in settings.scenarios if name not in SCENARIOS]
    if own and settings.app is not None:
        own = [settings.app]
    is_needed = any(name in SCENARIOS for name in settings.scenarios)
    return tuple(dict.fromkeys([*([_APP] if is_needed else []), *own]))


def _types(settings: Settings) -> set[str]:
    types = {SCENARIOS[name].type for name in settings.scenarios if name in SCENARIOS}
    return types | ({"BenchCounter"} if "nested" in settings.scenarios else set())


def _config(settings: Settings, case: Case, target: Target) -> Config:
    if case.scenario != "cold":
        return settings.config
    kept = max(1, settings.objects_of("cold") // CACHE_SHARE // max(1, target.nodes))
    return replace(settings.config, limits={**settings.config.limits, "activations_max": kept})


def _job(
    settings: Settings, case: Case, target: Target, address: str | None, *, run: int, prepare: bool
) -> Job:
    return Job(
        scenario=case.scenario,
        apps=_apps(settings) if address is None or case.scenario not in SCENARIOS else (),
        address=address,
        routing=target.routing,
        objects=settings.objects_of(case.scenario),
        number=0,
        processes=settings.processes,
        run=run,
        in_flight=settings.in_flight,
        rate=settings.rate,
        warm_up_s=settings.warm_up_s,
        seconds=settings.seconds,
        interval_s=settings.interval_s,
        timeout_s=settings.timeout_s,
        seed=settings.seed,
        prepare=prepare,
    )


def _shares(job: Job) -> list[Job]:
    """Return the jobs of all processes, which together do what one would do."""
    count = job.processes
    return [
        replace(
            job,
            number=number,
            in_flight=len(range(number, job.in_flight, count)),
            rate=job.rate / count,
        )
        for number in range(count)
    ]


async def _run_once(settings: Settings, job: Job, place: Place, progress: Progress) -> Round:
    environment = {**os.environ, **place.environment}
    # Whether a process is a client is for its job to say.
    environment.pop("PERDURE_ADDRESS", None)
    deaths = len(place.deaths())
    async with generators(_shares(job), environment, progress.say) as callers:
        progress.phase("preparing")
        await callers.ready()
        watch = Watch({**place.pids(), **callers.pids()}, os.getpid())
        start_ns = callers.begin()
        progress.phase("warming up")
        watching = asyncio.create_task(_watch(settings, watch, start_ns, progress))
        try:
            part = merge(await callers.done(progress.calls))
            await watching
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    died = [f"{death}; it was started again" for death in place.deaths()[deaths:]]
    return round_of(job, part, watch.seen(), [*place.notes, *died])


async def _watch(settings: Settings, watch: Watch, start_ns: int, progress: Progress) -> None:
    from_ns = start_ns + round(settings.warm_up_s * 1e9)
    await asyncio.sleep(max(0.0, (from_ns - time.monotonic_ns()) / 1e9))
    progress.phase("measuring")
    await watch.look_until(from_ns + round(settings.seconds * 1e9), settings.interval_s)
    progress.phase("waiting for the last")
