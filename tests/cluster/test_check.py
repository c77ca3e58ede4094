"""`perdure check` against real processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from harness.commands import COUNTERS, perdure
from harness.processes import running_cluster

pytestmark = pytest.mark.cluster


def check(minutes: float, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a check: longer while the machine is so busy that nothing was shown."""
    for _ in range(5):
        done = perdure("check", *words, "--minutes", str(minutes))
        if "nothing shown" not in done.stdout:
            break
        minutes *= 2
    return done


def test_a_cluster_whose_nodes_are_killed_and_stopped_is_linearizable(tmp_path: Path) -> None:
    figures, history = tmp_path / "figures.json", tmp_path / "history.jsonl"
    words = ("--faults", "kill9,pause", "--seed", "3")

    done = check(0.2, *words, "--json", str(figures), "--history", str(history))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "linearizable: every object" in done.stdout
    found = json.loads(figures.read_text())
    assert found["faults"]["kill9"]["hit"] > 0
    assert found["faults"]["pause"]["hit"] > 0
    assert found["objects_undecided"] == []
    assert len(history.read_text().splitlines()) == 2 * found["calls"]


def test_a_running_cluster_is_checked_without_faults(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(f"import perdure.check.app\n{COUNTERS}")
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        done = check(0.05, "--address", cluster.address)
        refused = perdure("check", "--address", cluster.address, "--faults", "kill9")

    assert done.returncode == 0, done.stdout + done.stderr
    assert refused.returncode == 2
    assert "--faults needs a cluster of the check's own" in refused.stderr


def test_a_cluster_without_the_classes_of_the_check_is_named(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(COUNTERS)
    with running_cluster(app, tmp_path / "data", nodes=1) as cluster:
        done = perdure("check", "--address", cluster.address, "--minutes", "0.05")

    assert done.returncode == 1
    assert "does not know CheckAccount" in done.stderr
    assert "import perdure.check.app" in done.stderr


def test_a_cluster_that_is_not_there_is_no_success() -> None:
    done = perdure("check", "--address", "127.0.0.1:1", "--minutes", "0.05")

    assert done.returncode == 1
    assert "nothing answers at 127.0.0.1:1" in done.stderr
