"""House rules, so that no reviewer has to be the one who says it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
GRAB_BAGS = {"base", "common", "helper", "helpers", "manager", "misc", "types", "util", "utils"}

FORBIDDEN_IMPORTS = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
"""What they read back may run code."""

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}

MAKES_FUNCTIONS = {"sdk/perdure/methods.py"}
"""Writes functions from the signatures of the program's own classes, as dataclasses do. What
was stored or sent is never part of the text."""


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the project, new ones included, ignored ones not."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(path for line in listed.splitlines() if (path := ROOT / line).is_file())


PYTHON = [path for path in tracked("*.py") if "_pb2" not in path.name]
SOURCES = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in ("sdk", "node", "router")]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for item in ast.walk(tree):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            yield item


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_module_is_small_and_named_after_what_it_holds(path: Path) -> None:
    text = path.read_text()

    assert path.stem not in GRAB_BAGS, "name the module after what it holds"
    assert len(text.splitlines()) <= MODULE_LINES_MAX, "split the module"
    for function in functions(ast.parse(text)):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{function.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", [p for p in SOURCES if name(p) not in MAKES_FUNCTIONS], ids=name)
def test_nothing_that_was_stored_or_sent_is_ever_run_as_code(path: Path) -> None:
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in item.names} & FORBIDDEN_IMPORTS
        elif isinstance(item, ast.ImportFrom):
            assert (item.module or "").partition(".")[0] not in FORBIDDEN_IMPORTS
        elif isinstance(item, ast.Call) and isinstance(item.func, ast.Name):
            assert item.func.id not in FORBIDDEN_CALLS


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_error_is_swallowed_whole(path: Path) -> None:
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.ExceptHandler):
            broad = item.type is None or (
                isinstance(item.type, ast.Name) and item.type.id in ("Exception", "BaseException")
            )
            empty = all(isinstance(line, ast.Pass | ast.Continue) for line in item.body)
            assert not (broad and empty), f"line {item.lineno}"


@pytest.mark.parametrize("path", [p for p in PYTHON if "tests" in p.parts], ids=name)
def test_no_test_is_left_out(path: Path) -> None:
    marks = re.compile(r"pytest\.(skip|xfail|importorskip)|mark\.(skip|skipif|xfail)")
    if path == Path(__file__):
        return

    assert not marks.search(path.read_text())


def test_nothing_is_left_for_later() -> None:
    # In two parts, or this file would find itself.
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
    texts = tracked("*.py", "*.md", "*.toml", "*.proto", "scripts/*", ".ci/*")

    found = [
        f"{name(path)}:{number}"
        for path in texts
        if "_pb2" not in path.name
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if words.search(line)
    ]

    assert found == []


def test_the_folders_of_the_packages_hold_nothing_else() -> None:
    for folder, package in (
        ("sdk", "perdure"),
        ("node", "perdure_node"),
        ("router", "perdure_router"),
    ):
        inside = {path.relative_to(ROOT / folder).parts[0] for path in tracked(f"{folder}/*")}
        assert inside == {package}


def test_every_package_says_that_it_is_typed() -> None:
    for package in ("sdk/perdure", "node/perdure_node", "router/perdure_router"):
        assert (ROOT / package / "py.typed").exists()


def test_the_newest_entry_of_the_changelog_is_the_version_of_the_package() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert next(heading for heading in headings if heading != "Unreleased") == version


def test_every_known_bug_can_still_be_planted() -> None:
    script = ROOT / "scripts" / "plant_bugs.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
