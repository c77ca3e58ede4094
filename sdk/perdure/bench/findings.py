"""What one run has shown, and what there is to be said about it so that nobody is misled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perdure.bench.figures import Result, Round
from perdure.bench.jobs import Job, Part
from perdure.bench.watch import Seen, Watched

__all__ = ["notes_of", "round_of"]

_BUSY: Final = 0.9
"""A process that calls and uses so much of a core may be what limits the rate."""

_IDLE_CORES_MIN: Final = 0.1
"""With less of all cores to spare, whoever calls and whoever answers are in each other's way."""

_OTHERS_MANY: Final = 0.15
"""If other programs use so many cores, they are said to."""

_BEHIND_MIN: Final = 0.98
"""A process that makes a smaller share of the calls that are due is behind."""

_WATCHED_MIN: Final = 0.5
"""Costs that were watched for a smaller share of a run say nothing about it."""

_EMBEDDED: Final = "caller and node"


def round_of(job: Job, part: Part, seen: Seen, notes: list[str]) -> Round:
    """Return what a run has shown.

    Args:
        job: Of the run.
        part: What all processes that called have counted.
        seen: What it has cost.
        notes: What is known already.
    """
    callers, processes = [], []
    for watched in seen.watched:
        is_caller = watched.name.startswith("caller")
        if is_caller and job.address is None:
            watched.name = _EMBEDDED
        elif is_caller:
            callers.append(watched)
        processes.append(watched)
    run = Round(part, processes, cores=seen.cores, notes=list(notes))
    run.notes += [f"{name} ended during a run" for name in seen.gone]
    if seen.seconds >= _WATCHED_MIN * run.seconds:
        run.watched_s = seen.seconds
        used_s = sum(watched.cpu_s for watched in processes)
        run.others_cores = max(0.0, seen.busy_cores - used_s / seen.seconds)
        run.notes += _saturation(job, callers, seen)
    else:
        run.processes = []
        run.notes.append(
            "CPU time and memory are not known: perdure bench itself was held up too long to look"
        )
    run.notes += _load_notes(job, part)
    return run


def notes_of(results: Sequence[Result]) -> list[str]:
    """Return all that there is to know of all results, each thing once."""
    notes: list[str] = []
    for note in dict.fromkeys(note for result in results for note in result.notes):
        which = [str(result.case) for result in results if note in result.notes]
        everywhere = len(which) == len(results)
        notes.append(note if everywhere else f"{note} ({'; '.join(which)})")
    rounds = [each for result in results for each in result.rounds]
    most = max(each.others_cores for each in rounds)
    if most >= _OTHERS_MANY:
        notes.append(
            f"other programs used up to {most:.1f} of this machine's {rounds[0].cores} cores in "
            f"the meantime: without them figures are better and spread less"
        )
    return notes


def _saturation(job: Job, callers: list[Watched], seen: Seen) -> list[str]:
    notes: list[str] = []
    shares = [caller.cpu_s / seen.seconds for caller in callers]
    if shares and max(shares) >= _BUSY:
        notes.append(
            f"the process that calls was busy all the time (90 % of a core and more): the figures "
            f"may show its limit, not the server's; --processes {2 * job.processes} has more"
        )
    if seen.cores - seen.busy_cores < _IDLE_CORES_MIN:
        notes.append(
            f"all {seen.cores} cores of this machine were busy: callers and servers share them, "
            f"and each would be faster without the others"
        )
    return notes


def _load_notes(job: Job, part: Part) -> list[str]:
    notes: list[str] = []
    if part.left:
        notes.append(
            "timers had not fired a second after the load: calls set more of them than the nodes "
            "can let fire, so calls/s is not what could go on for long"
        )
    seconds = sum(stretch.seconds for stretch in part.stretches)
    if not job.in_flight and part.offered < _BEHIND_MIN * job.rate * seconds:
        notes.append(
            f"the process that calls could not make all calls in time: less than the rate was "
            f"offered; --processes {2 * job.processes} has more"
        )
    return notes
