"""build/compiled: Perdure with compiled modules, beside the sources and never among them.

`python scripts/compiled.py` makes it, as `scripts/compile` does. Measurements choose with it
whether they measure that or the sources.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
COMPILED = BUILD / "compiled"
PACKAGES = ("sdk/perdure", "node/perdure_node", "router/perdure_router")
TOOLS = ("hatchling", "mypy", "setuptools")

_CHOSEN = "PERDURE_MEASURED_FROM"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let whoever measures choose; `choose` does what was chosen."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--compiled",
        action="store_true",
        default=None,
        help="measure compiled modules; so it is where a C compiler is",
    )
    either.add_argument(
        "--pure", action="store_false", dest="compiled", help="measure the Python sources"
    )


def choose(options: argparse.Namespace) -> str:
    """Go on with the Perdure that was chosen, here and in all processes to come.

    What it says on stderr says which is measured, and why.

    Returns:
        What is measured: `compiled` or `pure Python`.
    """
    wanted: bool | None = options.compiled
    if wanted is None and (missing := missing_tools()) is not None:
        print(f"not compiled: {missing}", file=sys.stderr)
        wanted = False
    if wanted is not False:
        build()
    import perdure
    from perdure.compiled import is_compiled

    place = COMPILED if wanted is not False else ROOT / "sdk"
    if Path(perdure.__file__).parents[1] != place:
        _run_again_with(place)
    return "compiled" if is_compiled() else "pure Python"


def _run_again_with(place: Path) -> NoReturn:
    if os.environ.get(_CHOSEN) == str(place):
        raise SystemExit(f"Perdure does not come from {place}, whatever PYTHONPATH says")
    sources = [str((ROOT / package).parent) for package in PACKAGES]
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [path for path in before if path and path not in {str(COMPILED), *sources}]
    ours = [str(COMPILED)] if place == COMPILED else sources
    paths = os.pathsep.join([*ours, *others])
    environment = {**os.environ, "PYTHONPATH": paths, _CHOSEN: str(place)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def missing_tools() -> str | None:
    """Say what has to be installed before anything can be compiled; None: nothing."""
    if any(importlib.util.find_spec(name) is None for name in TOOLS):
        return f"{' or '.join(TOOLS)} is not installed: ./scripts/install"
    sys.path.insert(0, str(ROOT))
    from hatch_build import missing_tools

    sys.path.remove(str(ROOT))
    return missing_tools()


def build() -> None:
    """Make build/compiled from the sources as they are, unless it was made from them."""
    if (missing := missing_tools()) is not None:
        raise SystemExit(missing)
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "compiling").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = _digest()
        stamp = COMPILED / "made-from"
        if stamp.is_file() and stamp.read_text() == digest:
            return
        print(f"compiling into {COMPILED}: this takes some minutes", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            made = Path(folder, "made")
            with zipfile.ZipFile(_wheel(Path(folder))) as wheel:
                wheel.extractall(made)
            (made / stamp.name).write_text(digest)
            if COMPILED.exists():
                COMPILED.rename(Path(folder, "before"))
            made.rename(COMPILED)


def _wheel(folder: Path) -> Path:
    """Compile a wheel with the tools that are installed here, so that no others are fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    environment = {
        "MYPY_CACHE_DIR": str(BUILD / "types"), **os.environ, "HATCH_BUILD_HOOKS_ENABLE": "1"
    }  # fmt: skip
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nThe modules cannot be compiled.")
    [wheel] = folder.glob("*.whl")
    return wheel


def _digest() -> str:
    """Return what stands for all that a compiled wheel is made from."""
    digest = hashlib.sha256(sys.version.encode())
    for name in TOOLS:
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    for file in _sources():
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    yield ROOT / "hatch_build.py"
    yield ROOT / "pyproject.toml"
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                yield file


if __name__ == "__main__":
    build()
