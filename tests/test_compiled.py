"""Perdure runs from its sources, and with its hot modules compiled: which of them runs is known."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
import tomllib
import traceback
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from harness.commands import perdure as command

import perdure
import perdure_node
import perdure_router
from perdure import codec
from perdure.compiled import is_compiled
from perdure.errors import BadPayload

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL: dict[str, Any] = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]


def load_hook() -> Any:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook


HOOK = load_hook()
CHOSEN = [
    name.removesuffix(".py").replace("/", ".")
    for name in HOOK.chosen_modules(ROOT, WHEEL["packages"], WHEEL["hooks"]["custom"])
]


def test_the_tests_run_with_what_they_are_told_to_run_with() -> None:
    assert is_compiled() == (os.environ.get("TESTED") == "compiled")


def modules() -> dict[str, ModuleType]:
    """All that a wheel holds, imported."""
    for package in (perdure, perdure_node, perdure_router):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.rpartition(".")[2] != "__main__":
                importlib.import_module(found.name)
    return {
        name: module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in {"perdure", "perdure_node", "perdure_router"}
    }


def test_the_modules_that_are_chosen_are_compiled_and_no_others() -> None:
    assert len(CHOSEN) > 50
    files = {name: Path(str(module.__file__)) for name, module in modules().items()}

    compiled = {name for name, file in files.items() if file.suffix != ".py"}

    assert compiled == (set(CHOSEN) if is_compiled() else set())
    for name in compiled:
        source = files[name].with_name(f"{name.rpartition('.')[2]}.py")
        assert source.is_file(), "for people, and for inspect"


def test_no_class_of_plain_python_stands_on_a_compiled_one() -> None:
    """Python refuses to make instances of it, in the middle of a call."""
    for name, module in modules().items():
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == name and name not in CHOSEN:
                above = {base.__module__ for base in value.__mro__[1:]}
                assert above.isdisjoint(CHOSEN), f"{name}.{value.__name__}"


def test_no_module_that_is_chosen_holds_structs_of_msgspec() -> None:
    for name in HOOK.chosen_modules(ROOT, WHEEL["packages"], WHEEL["hooks"]["custom"]):
        [file] = ROOT.glob(f"*/{name}")
        assert "(msgspec.Struct" not in file.read_text(), (
            f"{name}: put them into a file of their own"
        )


def test_a_process_that_a_test_starts_runs_the_same() -> None:
    done = command("--version")

    version = SETTINGS["project"]["version"]
    which = "compiled" if is_compiled() else "pure Python"
    assert done.stdout == f"perdure {version}, {which}\n"


def test_no_object_file_lies_among_the_sources() -> None:
    for package in WHEEL["packages"]:
        assert [*Path(ROOT, package).rglob("*.so")] == []


def test_a_traceback_names_the_file_and_the_line() -> None:
    with pytest.raises(BadPayload) as raised:
        codec.decode(b"\xc1")

    frames = traceback.extract_tb(raised.value.__traceback__)
    [*_, last] = [frame for frame in frames if frame.filename.endswith("perdure/codec.py")]
    source = (ROOT / "sdk/perdure/codec.py").read_text().splitlines()
    assert last.lineno is not None
    assert source[last.lineno - 1].startswith("    ")
    definitions = [line for line in source[: last.lineno] if line.startswith("def ")]
    assert definitions[-1].startswith(f"def {last.name}(")


def test_a_wheel_is_pure_unless_it_is_asked_to_be_compiled(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    hatch = {name: value for name, value in os.environ.items() if "HATCH" not in name}
    subprocess.run(build, cwd=ROOT, env=hatch, check=True, capture_output=True)

    [wheel] = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {f"{chosen.replace('.', '/')}.py" for chosen in CHOSEN} <= names
    assert not [name for name in names if name.endswith(".so")]


def test_a_pattern_that_means_no_module_is_refused() -> None:
    hook = WHEEL["hooks"]["custom"]
    gone = {"include": [*hook["include"], "sdk/perdure/gone.py"], "exclude": hook["exclude"]}

    with pytest.raises(ValueError, match=r"sdk/perdure/gone\.py"):
        list(HOOK.chosen_modules(ROOT, WHEEL["packages"], gone))


def test_without_a_c_compiler_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HOOK.missing_tools() is None or not is_compiled()

    monkeypatch.setenv("CC", "no-such-compiler -O2")
    told = HOOK.missing_tools()

    assert told is not None
    assert "no-such-compiler" in told
    assert "apt install gcc python3-dev" in told
