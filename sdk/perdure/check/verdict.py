"""What a run has shown: that all was well, that something was not, or nothing at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from perdure.check.faults import FaultCount
from perdure.check.history import Operation, Outcome
from perdure.check.linearizability import TRIES_MAX, Decision, by_object, decide
from perdure.check.minimal import Counterexample, shrink
from perdure.check.models import MODELS

__all__ = ["ANSWERED_MIN", "CALLS_MIN", "STUCK_S", "Findings", "KindCount", "Verdict", "judge"]

CALLS_MIN: Final = 20
"""Fewer answered calls than this, of any kind, show nothing about it."""

ANSWERED_MIN: Final = 0.5
"""A smaller share of calls that succeeded is a cluster that does not work."""

STUCK_S: Final = 30.0
"""A call that waits so long for its answer is stuck: nothing is down for so long."""

_SHRUNK_MAX: Final = 3
"""As many counterexamples as anybody reads."""


class Verdict(IntEnum):
    """What is known now. The number is the exit status of the command."""

    LINEARIZABLE = 0
    VIOLATED = 1
    NOTHING_SHOWN = 3


@dataclass(slots=True)
class KindCount:
    """The calls of one kind."""

    objects: int = 0
    ok: int = 0
    failed: int = 0
    unknown: int = 0

    @property
    def calls(self) -> int:
        """All of them."""
        return self.ok + self.failed + self.unknown


@dataclass(slots=True)
class Findings:
    """What was found out about a run."""

    kinds: dict[str, KindCount] = field(default_factory=dict[str, KindCount])
    codes: Counter[str] = field(default_factory=Counter[str])
    """How often calls did not succeed, by the name of the reason."""
    longest_s: float = 0.0
    """The longest that anybody waited for an answer."""
    stuck: int = 0
    """Calls that waited for `STUCK_S` and longer."""
    decided: int = 0
    """Objects whose histories have an order."""
    undecided: list[str] = field(default_factory=list[str])
    violated: list[str] = field(default_factory=list[str])
    counterexamples: dict[str, Counterexample] = field(default_factory=dict[str, Counterexample])
    """Of some of the violated objects."""
    wrong_effects: list[str] = field(default_factory=list[str])
    shows_nothing: list[str] = field(default_factory=list[str])
    """Why the run proves nothing, if it does not."""

    @property
    def verdict(self) -> Verdict:
        """What all of it comes to. Whatever is wrong is wrong, however little was tried."""
        if self.violated or self.wrong_effects:
            return Verdict.VIOLATED
        if self.shows_nothing or self.undecided:
            return Verdict.NOTHING_SHOWN
        return Verdict.LINEARIZABLE

    @property
    def calls(self) -> int:
        """All calls."""
        return sum(count.calls for count in self.kinds.values())


def judge(
    operations: Sequence[Operation],
    kinds: Sequence[str],
    *,
    wrong_effects: Sequence[str] = (),
    unread: Sequence[str] = (),
    deaths: Sequence[str] = (),
    faults: Mapping[str, FaultCount] | None = None,
    tries_max: int = TRIES_MAX,
) -> Findings:
    """Judge a run.

    Args:
        operations: All that was done.
        kinds: What should have been done; a kind that was not is not shown to work.
        wrong_effects: What `effects` has found.
        unread: Objects that could not be read at the end.
        deaths: How processes have ended that no fault had ended.
        faults: Those that were asked for, and how often they hit.
        tries_max: As for `decide`.
    """
    findings = Findings(wrong_effects=list(wrong_effects))
    findings.kinds = {kind: KindCount() for kind in kinds}
    for (kind, object), some in by_object(operations).items():
        count = findings.kinds.setdefault(kind, KindCount())
        count.objects += 1
        for item in some:
            count.ok += item.outcome is Outcome.OK
            count.failed += item.outcome is Outcome.FAILED
            count.unknown += item.outcome is Outcome.UNKNOWN
            if item.ended_s is not None:
                waited_s = item.ended_s - item.begun_s
                findings.longest_s = max(findings.longest_s, waited_s)
                findings.stuck += waited_s >= STUCK_S
            if item.outcome is not Outcome.OK:
                findings.codes[item.code or "not ended"] += 1
        if kind in MODELS:
            _decide(findings, kind, object, some, tries_max)
    findings.shows_nothing = _gaps(findings, unread, faults or {})
    if deaths:
        more = f" and {len(deaths) - 1:,} times more" if len(deaths) > 1 else ""
        findings.shows_nothing.append(f"{deaths[0]}{more}, and no fault had done that")
    return findings


def _decide(
    findings: Findings, kind: str, object: str, operations: list[Operation], tries_max: int
) -> None:
    match decide(operations, MODELS[kind](operations), tries_max=tries_max):
        case Decision.LINEARIZABLE:
            findings.decided += 1
        case Decision.UNDECIDED:
            findings.undecided.append(object)
        case Decision.VIOLATED:
            findings.violated.append(object)
            if len(findings.counterexamples) < _SHRUNK_MAX:
                try:
                    findings.counterexamples[object] = shrink(operations, MODELS[kind])
                except ValueError:
                    return  # It stays violated; only a smaller history takes too long to find.


def _gaps(findings: Findings, unread: Sequence[str], faults: Mapping[str, FaultCount]) -> list[str]:
    gaps: list[str] = []
    if findings.calls == 0:
        gaps.append("no call was made")
    for kind, count in findings.kinds.items():
        if count.ok < CALLS_MIN:
            gaps.append(f"{kind}: {count.ok} calls succeeded, fewer than {CALLS_MIN}")
        elif count.ok < ANSWERED_MIN * count.calls:
            gaps.append(f"{kind}: only {count.ok:,} of {count.calls:,} calls succeeded")
    if findings.stuck:
        gaps.append(f"{findings.stuck:,} calls waited for {STUCK_S:.0f} s and longer")
    if unread:
        more = f" and {len(unread) - 3:,} more" if len(unread) > 3 else ""
        gaps.append(f"not readable at the end: {', '.join(unread[:3])}{more}")
    gaps += [f"{kind} was asked for and never hit" for kind, n in faults.items() if n.hit == 0]
    return gaps
