"""What is made of the counts of several processes, and of several rounds."""

from __future__ import annotations

import io
import json

import pytest
from harness.bench_rounds import latencies, measured, part, result, settings
from rich.console import Console

from perdure.bench.figures import Sample, merge, metrics_of
from perdure.bench.findings import notes_of, round_of
from perdure.bench.jobs import Job, Part, read_part, write_part
from perdure.bench.table import print_results
from perdure.bench.watch import Seen, Watched
from perdure.bench.written import as_json


def printed(*results: object, open_loop: bool = False) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_results(console, results, open_loop=open_loop)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_calls_of_all_processes_add_up_moment_by_moment() -> None:
    together = merge(
        [
            part([1.0] * 10, [1.0] * 20, offered=30, errors={"Overloaded": 2}),
            part([5.0] * 1, [5.0] * 2, offered=5, errors={"Overloaded": 1, "NoOwner": 4}),
        ]
    )

    assert [len(stretch.latencies) for stretch in together.stretches] == [11, 22]
    assert together.offered == 35
    assert together.errors == {"Overloaded": 3, "NoOwner": 4}
    assert together.stretches[0].latencies.percentiles_ms([100])[0] == pytest.approx(5, rel=0.01)


def test_what_a_process_saw_travels_whole() -> None:
    before = part([1.0, 2.0], [3.0], late=(9.0,), offered=7, errors={"NoOwner": 1})
    before.left = 3

    after = read_part(json.loads(json.dumps(write_part(before))))

    assert write_part(after) == write_part(before)
    assert after.errors == {"NoOwner": 1}
    assert after.left == 3


def test_calls_that_end_after_the_load_count_for_latency_and_not_for_the_rate() -> None:
    run = measured()
    run.part = part([1.0] * 50, [1.0] * 50, late=(700.0,), offered=101)

    metrics = metrics_of(run)

    assert metrics["calls_per_s"] == 100
    assert metrics["max_ms"] == pytest.approx(700, rel=0.01)
    assert len(run.latencies) == 101


def test_the_cpu_time_of_a_call_is_that_of_calls_that_succeeded() -> None:
    metrics = metrics_of(measured(100, node_cpu_s=0.5, errors={"Overloaded": 100}))

    assert metrics["cpu_us_per_call node n1"] == pytest.approx(5_000)
    assert metrics["cores node n1"] == 0.5
    assert metrics["memory_mb node n1"] == 60
    assert metrics["failed_percent"] == 50


def test_a_run_in_which_everything_failed_has_no_latencies_and_says_so() -> None:
    case = result(measured(0, errors={"Overloaded": 9}))

    text = printed(case)

    assert "p50_ms" not in case.samples()
    assert "cpu_us_per_call node n1" not in case.samples()
    assert "100 %" in text
    assert "Overloaded: 9 calls (counter, one node): Overloaded <said> so" in text


def test_a_sample_has_a_median_and_a_spread() -> None:
    sample = Sample((90.0, 100.0, 130.0))

    assert (sample.median, sample.low, sample.high) == (100, 90, 130)
    assert sample.spread == pytest.approx(0.2)
    assert Sample((5.0,)).spread is None


def test_the_middle_round_is_the_one_with_the_median_rate() -> None:
    slow, middle, fast = measured(50), measured(100), measured(400)

    assert result(fast, slow, middle).middle() is middle


def test_goodput_stands_beside_what_was_offered() -> None:
    run = measured(100, errors={"Overloaded": 300})
    run.part.offered = 400

    text = printed(result(run), open_loop=True)

    assert "offered/s" in text
    assert "400" in text
    assert "Overloaded: 300 calls" in text
    assert "75 %" in text


def test_json_holds_the_medians_the_rounds_and_the_histograms() -> None:
    content = as_json(settings(rounds=3), [result(measured(80), measured(100), measured(120))])

    assert content["format"] == "perdure bench 1"
    [case] = json.loads(json.dumps(content))["results"]
    rate = case["figures"]["calls_per_s"]
    assert rate == {"median": 100, "low": 80, "high": 120, "rounds": [80, 100, 120]}
    assert case["objects"] == 1_000
    assert [each["calls"] for each in case["rounds"]] == [80, 100, 120]
    assert all(each["latency_histogram"] for each in case["rounds"])
    assert case["rounds"][0]["moments"][1]["at_s"] == 0.75


# What there is to be said, so that nobody is misled.


JOB = Job(
    scenario="counter",
    apps=(),
    address="127.0.0.1:7400",
    routing="router",
    objects=1_000,
    number=0,
    processes=1,
    run=0,
    in_flight=64,
    rate=0.0,
    warm_up_s=0.0,
    seconds=1.0,
    interval_s=0.5,
    timeout_s=30.0,
    seed=0,
    prepare=True,
)


def notes_on(seen: Part, *watched: Watched, job: Job = JOB, busy_cores: float = 1.0) -> str:
    cost = Seen(watched, (), seconds=1.0, busy_cores=busy_cores, cores=2)
    return "\n".join(notes_of([result(round_of(job, seen, cost, []))]))


def test_a_caller_that_is_busy_all_the_time_is_named_as_a_limit() -> None:
    busy, idle = Watched("caller", cpu_s=0.95), Watched("caller", cpu_s=0.5)

    assert "--processes 2 has more" in notes_on(part([1.0]), busy)
    assert notes_on(part([1.0]), idle) == "other programs used up to 0.5 of this machine's " + (
        "2 cores in the meantime: without them figures are better and spread less"
    )


def test_an_embedded_node_is_no_busy_caller() -> None:
    job = Job.from_json(JOB.to_json().replace('"127.0.0.1:7400"', "null"))

    assert "busy" not in notes_on(part([1.0]), Watched("caller", cpu_s=0.99), job=job)


def test_a_machine_without_an_idle_core_is_named() -> None:
    assert "all 2 cores" in notes_on(part([1.0]), Watched("node n1", cpu_s=1.95), busy_cores=1.95)


def test_a_rate_that_could_not_be_offered_is_named() -> None:
    job = Job.from_json(JOB.to_json().replace('"in_flight": 64', '"in_flight": 0'))
    job = Job.from_json(job.to_json().replace('"rate": 0.0', '"rate": 1000.0'))

    assert "could not make all calls in time" in notes_on(part([1.0], [1.0], offered=900), job=job)
    assert "could not" not in notes_on(part([1.0], [1.0], offered=1_000), job=job)


def test_costs_that_nobody_could_look_at_are_said_to_be_unknown() -> None:
    cost = Seen([Watched("node n1", cpu_s=9.0)], (), seconds=0.0, busy_cores=0.0, cores=2)
    run = round_of(JOB, part([1.0], [1.0]), cost, [])

    assert "not known: perdure bench itself was held up" in "\n".join(run.notes)
    assert not [name for name in metrics_of(run) if "node n1" in name]


def test_timers_that_do_not_keep_up_are_named() -> None:
    seen = part([1.0])
    seen.left = 5

    assert "timers had not fired" in notes_on(seen)


def test_what_is_true_of_some_cases_is_said_of_those() -> None:
    notes = notes_of(
        [
            result(measured(notes=["it rained"]), target="here"),
            result(measured(notes=["it rained", "the sun shone"]), target="there"),
        ]
    )

    assert notes == ["it rained", "the sun shone (counter, there)"]


def test_latencies_of_rounds_add_up() -> None:
    both = latencies(1.0)
    both.add(latencies(3.0))

    assert len(both) == 2
