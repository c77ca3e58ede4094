"""Two runs compared: a figure has changed when no round of one is like a round of the other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness.bench_rounds import measured, result, settings

from perdure.bench.compare import Comparison, Verdict, compare, judge
from perdure.bench.figures import Sample
from perdure.bench.written import as_json
from perdure.errors import ConfigError


def run(*calls: int, scenario: str = "counter", **changes: Any) -> dict[str, Any]:
    rounds = [measured(each, **changes) for each in calls]
    written = as_json(settings(scenario, rounds=len(calls)), [result(*rounds, scenario=scenario)])
    content: dict[str, Any] = json.loads(json.dumps(written))
    return content


def verdicts(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Verdict]:
    return {item.figure: item.verdict for item in compare(before, after)}


@pytest.mark.parametrize(
    ("before", "after", "is_lower_better", "verdict"),
    [
        ((100, 110, 120), (121, 130, 140), False, Verdict.BETTER),
        ((100, 110, 120), (121, 130, 140), True, Verdict.WORSE),
        ((121, 130, 140), (100, 110, 120), False, Verdict.WORSE),
        ((121, 130, 140), (100, 110, 120), True, Verdict.BETTER),
        ((100, 110, 120), (120, 130, 140), False, Verdict.NOISE),
        ((100, 110, 120), (90, 110, 300), True, Verdict.NOISE),
        ((0, 0, 0), (0, 0, 0), True, Verdict.NOISE),
        ((100, 110), (200, 210, 220), False, Verdict.UNKNOWN),
        ((100, 110, 120), (200,), False, Verdict.UNKNOWN),
    ],
)
def test_a_change_is_one_when_the_rounds_do_not_overlap(
    before: tuple[float, ...], after: tuple[float, ...], is_lower_better: bool, verdict: Verdict
) -> None:
    assert judge(Sample(before), Sample(after), is_lower_better=is_lower_better) is verdict


def test_more_calls_are_better_and_more_time_is_worse() -> None:
    found = verdicts(
        run(100, 110, 120, latency_ms=1.0), run(200, 210, 220, latency_ms=2.0, node_cpu_s=4.0)
    )

    assert found["calls_per_s"] is Verdict.BETTER
    assert found["p50_ms"] is found["p99_9_ms"] is Verdict.WORSE
    assert found["cpu_us_per_call node n1"] is Verdict.WORSE
    assert found["cpu_us_per_call caller"] is Verdict.BETTER
    assert found["memory_mb node n1"] is Verdict.NOISE
    assert found["failed_percent"] is Verdict.NOISE
    assert "max_ms" not in found


def test_a_ratio_has_the_spread_of_both_runs() -> None:
    [rate] = [
        item
        for item in compare(run(100, 120, 110), run(240, 220, 260))
        if item.figure == "calls_per_s"
    ]

    assert (rate.before.median, rate.after.median) == (110, 240)
    assert rate.ratio == pytest.approx(240 / 110)
    assert rate.ratio_low == pytest.approx(220 / 120)
    assert rate.ratio_high == pytest.approx(260 / 100)


def test_there_is_no_ratio_to_nothing() -> None:
    item = Comparison("s", "t", "failed_percent", Sample((0.0,)), Sample((1.0,)), Verdict.UNKNOWN)

    assert item.ratio is None


def test_only_what_both_runs_have_is_compared() -> None:
    before, after = run(100, 110, 120), run(100, 110, 120)
    after["results"] += run(5, 6, 7, scenario="hot")["results"]

    assert {item.scenario for item in compare(before, after)} == {"counter"}


def test_runs_that_have_nothing_in_common_are_refused() -> None:
    with pytest.raises(ConfigError, match="counter, one node there, hot, one node here"):
        compare(run(1, 2, 3), run(1, 2, 3, scenario="hot"))


def test_runs_that_were_made_in_other_ways_are_refused() -> None:
    before, after = run(1, 2, 3), run(1, 2, 3)
    after["settings"]["in_flight"] = 512

    with pytest.raises(ConfigError, match="in_flight was 64 in the first and 512 in the second"):
        compare(before, after)


def test_runs_over_other_numbers_of_objects_are_refused() -> None:
    before, after = run(1, 2, 3), run(1, 2, 3)
    after["results"][0]["objects"] = 1_000_000

    with pytest.raises(ConfigError, match=r"1,000 objects in the first and 1,000,000"):
        compare(before, after)
