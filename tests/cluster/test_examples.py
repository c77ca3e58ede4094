"""The examples run as a newcomer runs them: without a server, again, and against a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.processes import READY_S, Cluster, running_cluster

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
ARGUMENTS = {"flights": ["--limit", "300"]}
BUSY_S = 80.0
BARE = [sys.executable, "-c", "import asyncio"]


def run(name: str, folder: Path, address: str | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PERDURE_DATA"}
    environment["PERDURE_ADDRESS"] = address or ""
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *ARGUMENTS.get(name, [])]
    ran = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=READY_S,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    app = ROOT / "tests" / "harness" / "examples_app.py"
    with running_cluster(app, tmp_path_factory.mktemp("examples") / "data") as running:
        yield running


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_twice_without_a_server(name: str, tmp_path: Path) -> None:
    assert run(name, tmp_path)
    assert run(name, tmp_path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_twice_against_a_cluster(
    name: str, cluster: Cluster, tmp_path: Path
) -> None:
    assert run(name, tmp_path, cluster.address)
    assert run(name, tmp_path, cluster.address)
    assert list(tmp_path.iterdir()) == []


def test_the_counter_prints_5_and_then_10(tmp_path: Path) -> None:
    assert [run("counter", tmp_path), run("counter", tmp_path)] == ["5\n", "10\n"]


def test_a_program_has_its_first_answer_in_less_than_a_second(tmp_path: Path) -> None:
    """Where Python alone takes a tenth of it: on a machine that is slow or busy, in proportion."""
    seconds: list[float] = []
    of_python: list[float] = []

    def allowed() -> float:
        return max(1.0, 10 * min(of_python))

    # The machine is busy with other tests; one of these runs finds it idle.
    while not seconds or (min(seconds) >= allowed() and sum(seconds) < BUSY_S):
        of_python.append(seconds_of(lambda: subprocess.run(BARE, check=True)))
        seconds.append(seconds_of(lambda: run("counter", tmp_path)))

    assert min(seconds) < allowed()


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
