"""The measurement of one node runs, says what is wanted, and its figures can be true."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.commands import modules_of_tests

from perdure.compiled import is_compiled

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_node.py"


def measured(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), modules_of_tests(), "--short", "--json", *arguments]
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # What is this short may have no answer in time on a busy machine.
        if "no call succeeded" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def median(part: dict[str, Any], name: str) -> float:
    return float(part["figures"][name]["median"])


def test_it_says_what_a_node_takes_beside_what_is_wanted() -> None:
    found = measured("cpu", "growth", "resident", "idle", "start")

    assert found["cpu"]["figures"]["node_us"]["wanted"] == {"at_most": 20.0}
    assert 1 < median(found["cpu"], "node_us") < 10_000
    assert found["growth"]["figures"]["traced_bytes_per_call"]["wanted"] == {"at_most": 1.0}
    calls = found["growth"]["notes"]["traced_calls"]
    assert calls == sorted(set(calls)), "each look is after more calls"
    # What a traced Python has allocated for an object is there, and not a multiple of it.
    traced, resident = (median(found["resident"], f"{how}_bytes") for how in ("traced", "rss"))
    assert 500 < traced < 10_000
    assert resident < 50_000
    assert 20 < median(found["idle"], "rss_mb") < 1_000
    start = found["start"]
    assert 0 < median(start, "ready_s") < median(start, "answered_s")
    assert all(len(part["load"]) == 2 for part in found.values())
    which = "compiled" if is_compiled() else "pure Python"
    assert all(part["notes"]["perdure"] == which for part in found.values())


def test_it_reads_journals_fills_stores_and_offers_too_much() -> None:
    found = measured("replay", "million", "open-loop")

    assert median(found["replay"], "commits_per_s") > 100
    million = found["million"]
    quotient = median(million, "calls_per_s_full") / median(million, "calls_per_s_empty")
    assert median(million, "ratio") == pytest.approx(quotient)
    assert million["notes"]["disk_mb"] > 3_000 * 300 / 1e6
    over = found["open-loop"]["figures"]
    assert over["over_goodput"]["wanted"] == {"at_least": 0.7}
    assert over["over_goodput"]["median"] > 0


def test_a_disk_is_made_slow_or_it_is_said_what_to_install() -> None:
    if shutil.which("strace") is None:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), modules_of_tests(), "--short", "slow-disk"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "apt-get install strace" in done.stderr
        return
    slow = measured("slow-disk")["slow-disk"]
    # Each call alone waits for one sync at least, which takes 2 ms more.
    assert median(slow, "calls_per_s_1") < 500
    assert median(slow, "ratio") > 1
