"""What type checkers say of code that uses Perdure: the editor's half of the model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "typing"
RIGHT, WRONG = FOLDER / "right.py", FOLDER / "wrong.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, check=False, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def mypy() -> dict[Path, dict[int, str]]:
    output = run("mypy", "--strict", "--no-incremental", str(RIGHT), str(WRONG))
    found: dict[Path, dict[int, str]] = {RIGHT: {}, WRONG: {}}
    for line in output.splitlines():
        if match := re.match(r"(.+?):(\d+): error: (.*)", line):
            found.setdefault((ROOT / match[1]).resolve(), {})[int(match[2])] = match[3]
    assert "checked 2 source files" in output, output
    return found


def pyright() -> dict[Path, dict[int, str]]:
    output = run("pyright", "--outputjson", str(RIGHT), str(WRONG))
    report = json.loads(output[output.index("{") :])
    assert report["summary"]["filesAnalyzed"] == 2, output
    found: dict[Path, dict[int, str]] = {RIGHT: {}, WRONG: {}}
    for diagnostic in report["generalDiagnostics"]:
        if diagnostic["severity"] == "error":
            line = diagnostic["range"]["start"]["line"] + 1
            found.setdefault(Path(diagnostic["file"]), {})[line] = diagnostic["message"]
    return found


def refused_lines() -> set[int]:
    lines = WRONG.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


@pytest.mark.parametrize("check", [mypy, pyright])
def test_typed_code_is_understood_exactly_and_wrong_code_is_refused(check):
    errors = check()

    assert errors[RIGHT] == {}
    assert set(errors[WRONG]) == refused_lines(), errors[WRONG]
    assert set(errors) == {RIGHT, WRONG}
