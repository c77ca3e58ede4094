"""A run passes only when it has shown something."""

from __future__ import annotations

import io
import json

import pytest
from harness.operations import counter, op
from rich.console import Console

from perdure.check.faults import FaultCount
from perdure.check.history import History, Operation, Outcome, read_events, write_events
from perdure.check.report import Run, as_json, print_report
from perdure.check.verdict import CALLS_MIN, STUCK_S, Findings, Verdict, judge
from perdure.check.workload import ENABLED, Objects, Script
from perdure.cli.check import faults_of
from perdure.cli.failure import CommandFailed


def adds(count: int) -> list[Operation]:
    return counter(*(("+", (2 * n - 1, 2 * n), n) for n in range(1, count + 1)))


def failed(count: int) -> list[Operation]:
    return [
        op("add", 1, at=(1_000 + n, 2_000 + n), outcome=Outcome.FAILED, object="down")
        for n in range(count)
    ]


def test_enough_calls_that_are_linearizable_pass() -> None:
    findings = judge(adds(CALLS_MIN), ["counter"])

    assert findings.verdict is Verdict.LINEARIZABLE
    assert int(findings.verdict) == 0


def test_a_run_without_calls_is_no_success() -> None:
    findings = judge([], ENABLED)

    assert findings.verdict is Verdict.NOTHING_SHOWN
    assert "no call was made" in findings.shows_nothing
    assert int(judge([], []).verdict) != 0


def test_a_run_whose_calls_nearly_all_failed_is_no_success() -> None:
    assert judge(failed(1_000), ["counter"]).verdict is Verdict.NOTHING_SHOWN

    findings = judge([*adds(50), *failed(1_000)], ["counter"])

    assert findings.verdict is Verdict.NOTHING_SHOWN
    assert findings.shows_nothing == ["counter: only 50 of 1,050 calls succeeded"]


def test_a_kind_that_was_hardly_called_is_not_shown_to_work() -> None:
    findings = judge(adds(CALLS_MIN), ["counter", "register"])

    assert findings.verdict is Verdict.NOTHING_SHOWN
    assert findings.shows_nothing == [
        f"register: 0 calls succeeded, fewer than {CALLS_MIN}",
    ]


def test_faults_that_were_asked_for_and_never_hit_are_no_success() -> None:
    faults = {"kill9": FaultCount(hit=3), "pause": FaultCount(missed=2)}

    findings = judge(adds(CALLS_MIN), ["counter"], faults=faults)

    assert findings.shows_nothing == ["pause was asked for and never hit"]


def test_an_object_that_cannot_be_read_at_the_end_is_no_success() -> None:
    findings = judge(adds(CALLS_MIN), ["counter"], unread=["o (NO_OWNER)"])

    assert findings.verdict is Verdict.NOTHING_SHOWN


def test_a_process_that_ended_by_itself_is_no_success() -> None:
    deaths = ["node n1 ended with status 70: TypeError", "node n2 ended with status 70: "]

    findings = judge(adds(CALLS_MIN), ["counter"], deaths=deaths)

    assert findings.verdict is Verdict.NOTHING_SHOWN
    assert findings.shows_nothing == [
        "node n1 ended with status 70: TypeError and 1 times more, and no fault had done that"
    ]


def test_a_call_that_got_stuck_is_no_success() -> None:
    stuck = op("add", 1, at=(1_000, 1_001 + int(STUCK_S * 1000)), told=CALLS_MIN + 1)

    assert judge([*adds(CALLS_MIN), stuck], ["counter"]).verdict is Verdict.NOTHING_SHOWN


def test_an_undecided_object_is_no_success() -> None:
    amounts = [op("add", 2**k, at=(1_000 + k, None)) for k in range(12)]
    read = op("read", at=(2_000, 2_001), told=2**13)

    findings = judge([*adds(CALLS_MIN), *amounts, read], ["counter"], tries_max=500)

    assert findings.undecided == ["o"]
    assert findings.verdict is Verdict.NOTHING_SHOWN


def test_whatever_is_wrong_fails_however_little_was_called() -> None:
    lost = counter(("+", (1, 4), 1), ("+", (2, 3), 1))

    assert judge(lost, ["counter"]).verdict is Verdict.VIOLATED
    assert judge([], ["list"], wrong_effects=["o: lost"]).verdict is Verdict.VIOLATED


def printed(findings: Findings) -> str:
    out = io.StringIO()
    run = Run(findings, {"kill9": FaultCount(hit=2)}, 7, 10.0, 0.5, 0.1)
    json.dumps(as_json(run))
    print_report(Console(file=out, width=200), run)
    return out.getvalue()


def test_the_report_says_what_was_shown_and_why_not() -> None:
    assert "linearizable: every object" in printed(judge(adds(CALLS_MIN), ["counter"]))
    assert "no call was made" in printed(judge([], ["counter"]))


def test_the_report_shows_the_calls_that_have_no_order() -> None:
    lost = counter(("+", (1_000, 1_003), 31), ("+", (1_001, 1_002), 31))

    text = printed(judge([*adds(30), *lost], ["counter"]))

    assert "NOT LINEARIZABLE" in text
    assert "Before them the object is at 30" in text
    assert text.count("add(1)") == 2


def test_a_history_is_read_back_from_its_lines() -> None:
    times = iter(range(100))
    history = History(lambda: float(next(times)))
    append = history.invoke(1, "list", "a", "append", ((1, 2),))
    add = history.invoke(2, "counter", "b", "add", (1,))
    history.ok(append, 1)
    history.fail(add, "DISK_FULL")
    history.unknown(history.invoke(1, "counter", "b", "add", (1,)), "DEADLINE_EXCEEDED")
    history.invoke(1, "counter", "b", "read", ())
    out = io.StringIO()

    write_events(history.operations, out)

    assert read_events(out.getvalue().splitlines()) == history.operations
    assert history.open_count == 1
    with pytest.raises(ValueError, match="line 1 is no event"):
        read_events(["{}"])


def test_a_caller_does_the_same_again_with_the_same_seed() -> None:
    def bursts(seed: int) -> list[object]:
        script = Script(seed, 3, Objects("run", ENABLED, 4))
        return [script.next() for _ in range(50)]

    assert bursts(1) == bursts(1)
    assert bursts(1) != bursts(2)


def test_an_object_is_replaced_before_its_history_gets_too_long() -> None:
    objects = Objects("run", ("counter",), 2)
    first = objects.current("counter", 0)
    for _ in range(1_000):
        objects.use("counter", 0, objects.current("counter", 0), 1)

    assert objects.current("counter", 0) != first
    assert objects.current("counter", 1) == "run-counter-1-0"
    assert len(objects.names["counter"]) == 5


def test_faults_are_read_by_name() -> None:
    assert faults_of("none") == faults_of("") == ()
    assert faults_of("kill9, pause,kill9") == ("kill9", "pause")
    with pytest.raises(CommandFailed, match="there is no fault 'kil9': did you mean 'kill9'"):
        faults_of("kil9")
