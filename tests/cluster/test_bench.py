"""`perdure bench`, run as people run it, but shorter."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.commands import COUNTERS, perdure
from harness.processes import running_cluster

from perdure.bench.latency import Latencies
from perdure.bench.scenarios import SCENARIOS

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SHORT = ("--seconds", "0.5", "--warm-up", "0.2")

SHOP = """
from perdure import DurableObject, durable


@durable.object
class BenchedCart(DurableObject):
    def __init__(self, cart_id: str) -> None:
        super().__init__(cart_id)
        self.items = 0

    async def put(self) -> int:
        self.items += 1
        return self.items

    async def fail(self) -> None:
        raise ValueError("no luck")
"""

OWN = """
import asyncio
import os

from shop import BenchedCart


async def prepare() -> None:
    print("what is printed comes between nothing")
    await BenchedCart.get_or_create("ready")
    # The first calls of a new node make stores, which may take seconds.
    await asyncio.gather(*(put(f"cart-{n}-{m}") for n in range(50) for m in range(2)))


async def put(cart_id):
    await (await BenchedCart.get_or_create(cart_id)).put()


async def buy(number, chance):
    await put(f"cart-{number % 50}-{chance.randrange(2)}")


async def fail(number, chance):
    cart = await BenchedCart.get_or_create("ready")
    await cart.fail()


async def die(number, chance):
    os._exit(7)
"""


def bench(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it: again while the machine was so busy that in half a second no call was answered."""
    for _ in range(10):
        done = perdure("bench", *words, cwd=cwd)
        if "no call succeeded" not in done.stderr:
            break
    return done


def calls_of(moments: list[dict[str, Any]]) -> float:
    """Return how many calls there were in intervals, of which the middle and the rate are known."""
    calls = begin_s = 0.0
    for moment in moments:
        seconds = 2 * (moment["at_s"] - begin_s)
        calls += moment["calls_per_s"] * seconds
        begin_s += seconds
    return calls


def figures(done: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what was printed as JSON, by scenario and target."""
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(done.stdout)
    return {(each["scenario"], each["target"]): each for each in content["results"]}


def test_two_ways_to_call_a_cluster_are_measured_in_turns_by_two_processes(tmp_path: Path) -> None:
    report, data = tmp_path / "out.html", tmp_path / "data"
    words = ["--nodes", "2", "--routing", "router,direct", "--processes", "2"]

    done = bench(
        *(*words, *SHORT, "--rounds", "2", "--json", "-"),
        *("--report", str(report), "--data", str(data), "--objects", "40"),
    )

    found = figures(done)
    assert [target for _, target in found] == ["router, 2 nodes", "direct, 2 nodes"]
    for each in found.values():
        assert each["errors"] == {}
        for name in ("router", "node n1", "node n2", "caller 1", "caller 2"):
            assert each["figures"][f"memory_mb {name}"]["median"] > 10, name
            assert f"cpu_us_per_call {name}" in each["figures"]
        for measured in each["rounds"]:
            # What each of the two processes has counted is in there.
            assert measured["calls"] > 0
            assert measured["seconds"] > 0.2
            assert len(Latencies.decode(measured["latency_histogram"])) >= measured["calls"]
            assert calls_of(measured["moments"]) == pytest.approx(measured["calls"], rel=0.5)
    assert "round 2 of 2: counter, direct, 2 nodes" in done.stderr
    html = report.read_text()
    assert "Memory over time: counter, direct, 2 nodes" in html
    # One cluster for both, and nobody removes what was named.
    assert [folder.name for folder in data.iterdir()] == ["router-and-2-nodes"]


@pytest.mark.parametrize("names", [list(SCENARIOS)[:5], list(SCENARIOS)[5:]])
def test_every_scenario_works_in_one_process_with_its_node(
    tmp_path: Path, names: list[str]
) -> None:
    words = ["--embedded", "--rounds", "1", "--inflight", "8", "--warm-up", "0.2"]

    done = bench(
        *("--scenario", ",".join(names), *words),
        *("--seconds", "0.3", "--json", "-"),
        cwd=tmp_path,
    )

    found = figures(done)
    assert [name for name, _ in found] == names
    for (name, _), each in found.items():
        assert each["errors"] == {}, name
        assert each["rounds"][0]["calls"] > 0, name
    assert list(tmp_path.iterdir()) == []


def test_a_scenario_of_the_users_runs_beside_one_that_is_built_in(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "load.py").write_text(OWN)

    done = bench(
        *("--scenario", "load:buy,counter", "--app", "shop.py", *SHORT),
        *("--rounds", "1", "--json", "-"),
        cwd=tmp_path,
    )

    found = figures(done)
    assert found["load:buy", "one node"]["rounds"][0]["calls"] > 0
    assert found["counter", "one node"]["rounds"][0]["calls"] > 0
    assert "caller 1 | what is printed comes between nothing" in done.stderr


def test_a_run_in_which_no_call_succeeds_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "load.py").write_text(OWN)

    done = perdure(
        *("bench", "--scenario", "load:fail", "--embedded", *SHORT, "--rounds", "1"),
        cwd=tmp_path,
    )

    assert done.returncode == 1
    assert "no call succeeded in some run: load:fail, embedded" in done.stderr
    assert "ValueError: " in done.stdout
    assert "no luck" in done.stdout
    assert "100 %" in done.stdout


def test_a_process_that_calls_and_dies_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "load.py").write_text(OWN)

    done = perdure("bench", "--scenario", "load:die", "--embedded", *SHORT, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("perdure: a process that calls has ended with status 7\n")


def test_more_than_can_be_answered_is_goodput_lost_and_not_hidden(tmp_path: Path) -> None:
    done = bench(
        *("--scenario", "hot", "--rate", "50000", "--timeout", "5", *SHORT),
        *("--limit", "mailbox_calls_max=20", "--rounds", "1", "--json", "-"),
    )

    [each] = figures(done).values()
    [offered, calls] = (
        each["figures"][name]["median"] for name in ("offered_per_s", "calls_per_s")
    )
    assert calls < 0.9 * offered
    assert each["errors"]["Overloaded"] > 0
    assert each["figures"]["failed_percent"]["median"] > 0


def test_a_running_cluster_is_measured_when_its_app_knows_the_classes(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(f"import perdure.bench.app\n{COUNTERS}")
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        done = bench(*("--address", cluster.address, *SHORT, "--rounds", "1", "--json", "-"))

    [each] = figures(done).values()
    processes = {name.partition(" ")[2] for name in each["figures"] if name.startswith("cores ")}
    assert processes == {"router", "node n1", "node n2", "caller"}


def test_a_running_cluster_without_the_classes_is_named(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(COUNTERS)
    with running_cluster(app, tmp_path / "data", nodes=1) as cluster:
        done = perdure("bench", "--address", cluster.address, *SHORT, "--rounds", "1")

    assert done.returncode == 1
    assert "does not know BenchCounter: let it `import perdure.bench.app`" in done.stderr


def test_two_results_are_compared_figure_by_figure(tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    done = bench("--embedded", *SHORT, "--rounds", "3", "--json", str(before))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "p99.9" in done.stdout
    content = json.loads(before.read_text())
    rate = content["results"][0]["figures"]["calls_per_s"]
    rate["rounds"] = [100 * each for each in rate["rounds"]]
    after.write_text(json.dumps(content))

    same = perdure("bench", "compare", str(before), str(before))
    better = perdure("bench", "compare", str(before), str(after))

    assert same.returncode == better.returncode == 0
    verdicts = [line.rstrip().rpartition("  ")[2] for line in same.stdout.splitlines()[2:]]
    assert set(verdicts) == {"within noise"}
    [line] = [line for line in better.stdout.splitlines() if "calls_per_s" in line]
    assert line.rstrip().endswith("better")
