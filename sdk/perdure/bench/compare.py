"""Two runs of `perdure bench`, figure by figure: what has changed, and what may be noise.

A figure has changed when the rounds of the two runs do not overlap: the worst round of one is
better than the best of the other. Of two equal things this is said by chance once in ten times
with three rounds each, and once in 126 with five.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from perdure.bench.figures import Sample
from perdure.errors import ConfigError

__all__ = ["ROUNDS_MIN", "Comparison", "Verdict", "compare"]

ROUNDS_MIN: Final = 3
"""With fewer rounds nobody knows what noise is."""

_HIGHER_IS_BETTER: Final = {"calls_per_s"}
_LOWER_IS_BETTER: Final = {"p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "failed_percent"}
_LOWER_BY_PROCESS: Final = ("cpu_us_per_call ", "memory_mb ")


class Verdict(enum.Enum):
    """What the second run is, compared with the first."""

    BETTER = "better"
    WORSE = "worse"
    NOISE = "within noise"
    UNKNOWN = "too few rounds"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one case in both runs."""

    scenario: str
    target: str
    figure: str
    before: Sample
    after: Sample
    verdict: Verdict

    @property
    def ratio(self) -> float | None:
        """Median by median, second by first. None: the first is 0."""
        return _divide(self.after.median, self.before.median)

    @property
    def ratio_low(self) -> float | None:
        """The least that rounds show."""
        return _divide(self.after.low, self.before.high)

    @property
    def ratio_high(self) -> float | None:
        """The most that rounds show."""
        return _divide(self.after.high, self.before.low)


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Comparison]:
    """Compare what two runs have written with `--json`.

    Raises:
        ConfigError: They have no case in common, or a case was called in another way.
    """
    first, second = _cases(before), _cases(after)
    common = [case for case in first if case in second]
    if not common:
        raise ConfigError(
            f"the two runs have nothing in common: {_names(first)} there, {_names(second)} here"
        )
    for setting in ("in_flight", "rate"):
        if before["settings"][setting] != after["settings"][setting]:
            raise ConfigError(
                f"the two runs were not made alike: {setting} was {before['settings'][setting]} "
                f"in the first and {after['settings'][setting]} in the second"
            )
    for case in common:
        if first[case]["objects"] != second[case]["objects"]:
            raise ConfigError(
                f"the two runs were not made alike: {', '.join(case)} called "
                f"{first[case]['objects']:,} objects in the first and "
                f"{second[case]['objects']:,} in the second"
            )
    return [item for case in common for item in _figures(case, first[case], second[case])]


def _figures(
    case: tuple[str, str], before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Comparison]:
    for figure in before["figures"]:
        is_lower_better = figure in _LOWER_IS_BETTER or figure.startswith(_LOWER_BY_PROCESS)
        if figure not in after["figures"] or not (is_lower_better or figure in _HIGHER_IS_BETTER):
            continue
        first, second = (Sample(tuple(run["figures"][figure]["rounds"])) for run in (before, after))
        verdict = judge(first, second, is_lower_better=is_lower_better)
        yield Comparison(*case, figure, first, second, verdict)


def judge(before: Sample, after: Sample, *, is_lower_better: bool) -> Verdict:
    """Say what the second sample is, compared with the first."""
    if min(len(before.rounds), len(after.rounds)) < ROUNDS_MIN:
        return Verdict.UNKNOWN
    if after.low > before.high:
        return Verdict.WORSE if is_lower_better else Verdict.BETTER
    if after.high < before.low:
        return Verdict.BETTER if is_lower_better else Verdict.WORSE
    return Verdict.NOISE


def _cases(run: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(result["scenario"], result["target"]): result for result in run["results"]}


def _names(cases: Mapping[tuple[str, str], Any]) -> str:
    return "; ".join(", ".join(case) for case in cases) or "nothing"


def _divide(number: float, by: float) -> float | None:
    return number / by if by else None
