"""Plant known bugs, one at a time, and see that the tests named for each of them fail.

A test that passes with its bug in place is no test. Works on copies: the tree is never changed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from planted import BUGS, Bug

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("sdk", "node", "router", "tests", "protos", "pyproject.toml")
PACKAGES = ("sdk", "node", "router", "tests")

AT_ONCE = 2
TEST_S = 30
"""A bug may make a test wait for ever: that is a failure too."""

TESTS_S = 300
"""Then pytest itself hangs, and nothing is known of its tests."""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", action="append", metavar="NAME", help="may be repeated")
    options.add_argument("--check", action="store_true", help="only see that they can be planted")
    chosen = options.parse_args()
    names: list[str] = chosen.only or [bug.name for bug in BUGS]
    bugs = [bug for bug in BUGS if bug.name in names]
    if unknown := set(names) - {bug.name for bug in bugs}:
        raise SystemExit(f"no such bug: {', '.join(sorted(unknown))}")

    with TemporaryDirectory(prefix="perdure-bugs-") as folder:
        sound = Path(folder, "sound")
        copy_sources(sound)
        if problems := [problem for bug in bugs if (problem := check(bug, sound))]:
            raise SystemExit("\n".join(problems))
        if chosen.check:
            return 0
        tests = sorted({test for bug in bugs for test in bug.tests})
        print(f"{len(tests)} tests without any bug", flush=True)
        failed, output = run_tests(sound, tests)
        if failed is None or failed:
            raise SystemExit(f"{output}\nThey have to pass before a bug is planted.")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            caught = list(pool.map(lambda bug: try_bug(bug, sound), bugs))
    print(f"{sum(caught)} of {len(bugs)} bugs are caught")
    return 0 if all(caught) else 1


def copy_sources(target: Path) -> None:
    target.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)


def check(bug: Bug, sound: Path) -> str | None:
    """Return why a bug cannot be planted, or None."""
    found = (sound / bug.file).read_text().count(bug.text)
    if found != 1:
        return f"{bug.name}: its text is {found} times in {bug.file}, not once"
    return None if bug.tests else f"{bug.name}: no test is named"


def try_bug(bug: Bug, sound: Path) -> bool:
    """Plant a bug in a copy of its own; tell whether every test named for it fails."""
    place = sound.with_name(re.sub(r"\W", "-", bug.name))
    shutil.copytree(sound, place)
    path = place / bug.file
    path.write_text(path.read_text().replace(bug.text, bug.planted))
    failed, output = run_tests(place, bug.tests)
    shutil.rmtree(place)
    lines = [f"{bug.name}: {bug.sentence}"]
    missed = failed is None
    for test in bug.tests:
        fails = any(re.match(re.escape(test) + r"(\[|\s|$)", line) for line in failed or ())
        missed |= not fails
        lines.append(f"    {'fails ' if fails else 'PASSES'} {test}")
    if failed is None:
        lines += ["    THE TESTS DID NOT RUN", output]
    print("\n".join(lines), flush=True)
    return not missed


def run_tests(place: Path, tests: list[str]) -> tuple[list[str] | None, str]:
    """Return the ids of those that fail; None when pytest itself could not go on."""
    paths = os.pathsep.join(str(place / package) for package in PACKAGES)
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", f"--timeout={TEST_S}"]
    running = subprocess.Popen(
        [*command, *tests],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=place,
        # Before everything that is installed, for the processes that tests start too.
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    try:
        output, _ = running.communicate(timeout=TESTS_S)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        output, _ = running.communicate()
    failed = re.findall(r"^FAILED (.*)$", output, re.MULTILINE)
    ran = running.returncode == bool(failed)
    return (failed if ran else None), output


if __name__ == "__main__":
    sys.exit(main())
