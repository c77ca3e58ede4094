"""`perdure why`: what an object does, in one sentence, and what there is to know besides."""

from __future__ import annotations

import json
import shlex
import sys
from typing import NamedTuple

from perdure.cli.wording import (
    as_dict,
    call_name,
    counted,
    duration,
    object_name,
    step_text,
    what_runs,
)
from perdure.hints import did_you_mean
from perdure.ids import ObjectKey
from perdure.wire.v1 import cluster_pb2

__all__ = ["Answer", "explain", "print_inspection"]


class Answer(NamedTuple):
    """What is said of an object."""

    state: str
    """`running`, `blocked`, `parked`, `waiting`, `idle`, `missing`, `unknown type`, `stopped` or
    `unreachable`."""
    sentence: str

    @property
    def found(self) -> bool:
        """Whether something is known of the object."""
        return self.state not in ("missing", "unknown type", "stopped", "unreachable")


def explain(inspection: cluster_pb2.Inspection, target: ObjectKey, types: list[str]) -> Answer:
    """Say what an object does, and what it waits for.

    Args:
        inspection: What its node says.
        target: The object.
        types: The types that the app has, if the object's is none of them.
    """
    name = f"{target.type}/{target.id}"
    if not inspection.reachable:
        if not inspection.node:
            text = f"no node that answers has partition {inspection.partition}, which {name} is in"
        else:
            text = f"{name} is on node {inspection.node}, which does not answer"
        return Answer("unreachable", text)
    if inspection.stopped:
        place = f"partition {inspection.partition} of node {inspection.node}"
        return Answer("stopped", f"{name} is in {place}, which is not served: {inspection.stopped}")
    if inspection.running:
        return _held(inspection, target)
    if inspection.waiting_count:
        why = inspection.held_up or "the next one is about to start"
        return Answer("waiting", f"{name} runs no call, and {_waiting(inspection)}: {why}")
    if not inspection.type_known:
        hint = did_you_mean(target.type, types)
        if inspection.exists:
            return Answer(
                "idle", f"{name} is stored, but the app has no type {target.type!r}{hint}"
            )
        return Answer("unknown type", f"there is no type {target.type!r}{hint}")
    if not inspection.exists:
        return Answer("missing", f"there is no {name}")
    where = "in memory" if inspection.resident else "not in memory"
    text = f"{name} is idle ({where}): no call runs or waits, and {_timers(inspection, target)}"
    if inspection.held_up:
        text += f"; no call could start now: {inspection.held_up}"
    return Answer("idle", text)


def _held(inspection: cluster_pb2.Inspection, target: ObjectKey) -> Answer:
    call, count = inspection.running[0], inspection.running_count
    name, typed = f"{target.type}/{target.id}", object_name(*target)
    what = f"{what_runs(call)} ({call_name(call)})"
    if call.state == "parked":
        return Answer(
            "parked",
            f"{name} is held by the parked {what}, which does not go on because {call.reason}: "
            f"`perdure calls retry {typed}` runs it again, `perdure calls drop {typed}` ends it",
        )
    since = f"for {duration(call.age_ms)}"
    if call.resumed:
        since += " since it was taken up again after a restart"
    if count > 1:
        text = f"{name} runs {counted(count, 'shared call')}, {what} {since}"
    else:
        text = f"{name} has been running {what} {since}"
    text += f", {_at(call)}; {_waiting(inspection)}"
    return Answer("blocked" if inspection.waiting_count else "running", text)


def _at(call: cluster_pb2.OpenCall) -> str:
    if not call.steps:
        if call.journalled:
            return f"at no step now ({counted(call.steps_done, 'step')} done)"
        return "without a step so far"
    text = f"at {step_text(call.steps[0])}"
    if call.steps_open > 1:
        text += f" (and {counted(call.steps_open - 1, 'step')} more at the same time)"
    return text


def _waiting(inspection: cluster_pb2.Inspection) -> str:
    count, oldest = inspection.waiting_count, inspection.oldest_waiting
    if not count:
        return "no call waits"
    one = "1 call waits" if count == 1 else f"{count:,} calls wait"
    age = duration(oldest.age_ms)
    return f"{one}, {'' if count == 1 else 'the oldest one, '}{what_runs(oldest)}, for {age}"


def _timers(inspection: cluster_pb2.Inspection, target: ObjectKey) -> str:
    armed = [timer for timer in inspection.timers if not timer.parked]
    parked = [timer for timer in inspection.timers if timer.parked]
    if not inspection.timer_count:
        return "it has no timers"
    parts = []
    if armed:
        first = armed[0]
        again = f", after {counted(first.attempts, 'failed attempt')}" if first.attempts else ""
        due = f"in {duration(first.due_in_ms)}" if first.due_in_ms else "now"
        parts.append(f"its next timer {first.name!r} (method {first.method}) fires {due}{again}")
    if parked:
        first = parked[0]
        typed = object_name(*target)
        parts.append(
            f"its timer {first.name!r} (method {first.method}) is parked after "
            f"{counted(first.attempts, 'failed attempt')}: `perdure calls retry-timer {typed} "
            f"{shlex.quote(first.name)}` lets it fire now"
        )
    return ", and ".join(parts)


def print_inspection(inspection: cluster_pb2.Inspection, answer: Answer, *, as_json: bool) -> None:
    """Print what was found of an object; of one of which nothing is known, only as JSON."""
    if as_json:
        content = {"state": answer.state, "sentence": answer.sentence, **as_dict(inspection)}
        sys.stdout.write(json.dumps(content) + "\n")
    elif answer.found:
        lines = [answer.sentence, "", *_details(inspection)]
        sys.stdout.write("\n".join(lines) + "\n")


def _details(inspection: cluster_pb2.Inspection) -> list[str]:
    lines = [f"node      {inspection.node}", f"partition {inspection.partition}"]
    for call in inspection.running:
        lines.append(f"{call.state:<10}{what_runs(call)}, {call_name(call)}")
        if call.chain:
            lines.append(f"{'  made by':<10}{' > '.join(call.chain)}")
        if call.journalled:
            lines.append(f"{'  steps':<10}{call.steps_done} done, {call.steps_open} not done")
        for step in call.steps:
            lines.append(f"{'  at':<10}{step_text(step)}")
            if step.type:
                lines.append(f"{'  see':<10}perdure why {object_name(step.type, step.id)}")
    if inspection.waiting_count:
        lines.append(f"{'waiting':<10}{inspection.waiting_count}")
        oldest = inspection.oldest_waiting
        lines.append(f"{'  oldest':<10}{what_runs(oldest)}, {call_name(oldest)}")
    for timer in inspection.timers:
        due = "parked" if timer.parked else f"in {duration(timer.due_in_ms)}"
        lines.append(f"{'timer':<10}{timer.name}: {timer.method}, {due}")
    left = inspection.timer_count - len(inspection.timers)
    if left:
        lines.append(f"{'':<10}and {counted(left, 'timer')} more")
    return lines
