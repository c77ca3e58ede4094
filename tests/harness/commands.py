"""The command line, run as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.processes import READY_S

from perdure.compiled import is_compiled

COUNTERS = """
from perdure import DurableObject, durable


@durable.object
class Counter(DurableObject):
    def __init__(self, counter_id):
        super().__init__(counter_id)
        self.value = 0

    async def increment(self, amount: int = 1, *, note: str = "") -> int:
        self.value += amount
        return self.value

    async def fail(self):
        raise ValueError("no luck\\ntoday")

    @durable.shared
    async def peek(self) -> dict:
        return {"value": self.value, "id": self.object_id}


@durable.object
class Empty(DurableObject):
    pass


if __name__ == "__main__":
    raise SystemExit("never run as a script")
"""


def perdure(
    *words: str,
    address: str | None = None,
    cwd: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {name: value for name, value in os.environ.items() if "PERDURE" not in name}
    environment |= settings or {}
    if address is not None:
        environment["PERDURE_ADDRESS"] = address
    return subprocess.run(
        [sys.executable, "-m", "perdure.cli.main", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=READY_S,
    )


def modules_of_tests() -> str:
    """Return the flag by which a script measures what the tests run with."""
    return "--compiled" if is_compiled() else "--pure"


def answered(
    *words: str, address: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end: again while a node is too busy to answer it in time."""
    while True:
        done = perdure(*words, address=address, cwd=cwd)
        said = done.stdout + done.stderr
        if "does not answer" not in said and "no node that answers" not in said:
            return done


def printed(*words: str, address: str) -> str:
    """Run a command that must succeed, and return its output."""
    done = answered(*words, address=address)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(*words: str, address: str | None = None, cwd: Path | None = None) -> str:
    """Run a command that must fail with one line, and return the line."""
    done = answered(*words, address=address, cwd=cwd)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("perdure: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("perdure: ").rstrip()
