"""The comparison with what else a machine does runs, says what is missing, and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from harness.commands import modules_of_tests

from perdure.compiled import is_compiled

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1_200)]

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_reference.py"
END_S = 300.0


def command(*arguments: str) -> list[str]:
    short = [modules_of_tests(), "--rounds", "1", "--seconds", "0.2"]
    return [sys.executable, str(SCRIPT), *short, *arguments]


def test_it_prints_figures_and_their_ratios_and_invents_none() -> None:
    done = subprocess.run(command("--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    printed = json.loads(done.stdout)
    figures, ratios = printed["figures"], printed["ratios"]
    assert printed["perdure"] == ("compiled" if is_compiled() else "pure Python")
    assert ratios["counter_vs_echo"] == pytest.approx(
        figures["counter"]["per_s"]["median"] / figures["echo"]["per_s"]["median"]
    )
    parts = figures["echo_alone"], figures["fdatasync"]
    assert ratios["one_at_a_time_vs_echo_plus_fdatasync"] == pytest.approx(
        figures["one_at_a_time"]["p50_ms"]["median"]
        / sum(part["p50_ms"]["median"] for part in parts)
    )
    assert figures["router3"]["cpu_us"].keys() == {"client", "router", "node"}
    with_redis = shutil.which("redis-server") is not None
    for name in ("counter_vs_redis", "router3_vs_redis", "hot_vs_redis"):
        assert (ratios[name] is not None) == with_redis
    assert (figures["redis"] is not None) == with_redis
    assert with_redis or "apt install redis-server" in printed["missing"]["redis"]


def test_nothing_of_it_lives_on_when_it_is_killed(tmp_path: Path) -> None:
    # Its folders for temporary files are left behind.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    said = tmp_path / "said"
    with (
        said.open("w") as output,
        subprocess.Popen(
            command(), stdout=output, stderr=subprocess.STDOUT, env=environment
        ) as process,
    ):
        children: list[psutil.Process] = []
        names = ("perdure_node", "perdure_router", "echo_server.py", "bench_worker.py")
        while not all(any(name in text for text in map(arguments, children)) for name in names):
            assert process.poll() is None, said.read_text()
            children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(children, timeout=END_S)
    assert not alive


def arguments(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # It has just ended.
