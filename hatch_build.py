"""A wheel whose hot modules are compiled with mypyc; beside each .so lies its .py.

Off unless `HATCH_BUILD_HOOKS_ENABLE=1`; it needs a C compiler and the headers of Python. Which
modules, and why some are not: `[tool.hatch.build.targets.wheel.hooks.custom]` in pyproject.toml.

The plugin hatch-mypyc is no way to do this here. It compiles inside the source tree, where a .so
hides the .py that somebody edits next; it knows one folder of sources, and we have three; and it
puts pyproject.toml away meanwhile, with the settings of the types.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GROUP = "perdure"
"""All compiled modules are linked into one library, `perdure__mypyc`; each .so only leads to it."""

DENSE = ("-fvisibility=hidden", "-fno-plt")
"""One call goes through more code than the first cache of a processor holds, so what counts is to
have less of it on the way: no detours between functions of the library and to those of Python."""

_ERRORS = "CPy_AddTraceback", "CPy_TypeError", "CPy_TypeErrorTraceback", "CPy_AttributeError"

COLD = "#include <Python.h>\n#include <CPy.h>\n" + "".join(
    f"__attribute__((cold)) __typeof__({name}) {name};\n" for name in _ERRORS
)
"""Tells the compiler what is called after errors only. So it puts all that leads there, a quarter
of what mypyc makes, behind the code that runs."""


class CompiledModules(BuildHookInterface[Any]):
    """Compiles what the configuration includes, and adds it to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless this is an editable install, whose sources are edited."""
        if version == "editable":
            return
        if (missing := missing_tools()) is not None:
            raise SystemExit(missing)
        self._folder = TemporaryDirectory(prefix="perdure-compiled-")
        work = Path(self._folder.name)
        chosen = chosen_modules(Path(self.root), self.build_config.packages, self.config)
        # The packages side by side, as in the wheel: a traceback names the file of a compiled line
        # as it was named here, and Python shows the line when the file is found from `sys.path`.
        sources, built = work / "sources", work / "built"
        for package in self.build_config.packages:
            source = Path(self.root, package)
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, sources / source.name, ignore=unwanted)
        with chdir(sources):
            compile_modules(list(chosen), Path(self.root, "pyproject.toml"), work, built)
        for file in built.rglob("*"):
            if file.is_file():
                build_data["force_include"][str(file)] = file.relative_to(built).as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, *_: Any) -> None:
        """Throw away what is in the wheel now."""
        if version != "editable":
            self._folder.cleanup()


def missing_tools() -> str | None:
    """Say what has to be installed before anything can be compiled; None: nothing."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        what = f"there is no C compiler ({compiler})"
    elif not Path(sysconfig.get_path("include"), "Python.h").is_file():
        what = f"the headers of Python are not in {sysconfig.get_path('include')}"
    else:
        return None
    return f"{what}: apt install gcc python3-dev, or what your system calls them"


def chosen_modules(root: Path, packages: Sequence[str], config: Mapping[str, Any]) -> Iterator[str]:
    """Find the files of the modules to compile, as they lie in a wheel.

    Args:
        root: Of the project.
        packages: Folders below it.
        config: `include` and `exclude` are patterns of files below the root.

    Raises:
        ValueError: A pattern means no module any more.
    """
    unused = {*config["include"], *config["exclude"]}
    for package in packages:
        for file in sorted(Path(root, package).rglob("*.py")):
            name = file.relative_to(root).as_posix()
            including, excluding = (
                {pattern for pattern in config[key] if fnmatch(name, pattern)}
                for key in ("include", "exclude")
            )
            unused -= including
            unused -= excluding
            if including and not excluding:
                yield file.relative_to(Path(root, package).parent).as_posix()
    if unused:
        raise ValueError(f"pyproject.toml: no module is meant by {', '.join(sorted(unused))}")


def compile_modules(modules: Sequence[str], settings: Path, work: Path, target: Path) -> None:
    """Compile modules of the current folder, and put what comes of it into another one.

    Args:
        modules: Their files.
        settings: Where those of mypy are.
        work: May be filled. What mypy knows of types is kept there, or in MYPY_CACHE_DIR.
        target: Is made.
    """
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    known_types = os.environ.get("MYPY_CACHE_DIR", str(work / "types"))
    options = [f"--config-file={settings}", f"--cache-dir={known_types}"]
    extensions = mypycify(
        # What is not compiled may stand on an extra that is not installed here.
        [*options, "--follow-imports=silent", *modules],
        opt_level="2",
        debug_level="0",
        # So that all cores compile.
        multi_file=True,
        group_name=GROUP,
        target_dir=str(work / "c"),
    )

    cold = work / "cold.h"
    cold.write_text(COLD)

    class SideBySide(build_ext):
        """Compiles the files of one extension on all cores."""

        def build_extensions(self) -> None:
            compile_some = self.compiler.compile

            def compile_all(sources: Iterable[str], *args: Any, **kwargs: Any) -> list[str]:
                each = pool.map(lambda source: compile_some([source], *args, **kwargs), sources)
                return [file for files in each for file in files]

            self.compiler.compile = compile_all
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                super().build_extensions()

    (library,) = (each for each in extensions if each.name == f"{GROUP}__mypyc")
    # A list of its own: those that only lead there do not know mypyc's headers.
    library.extra_compile_args = [*library.extra_compile_args, *DENSE, "-include", str(cold)]
    command = SideBySide(Distribution({"name": GROUP, "ext_modules": extensions}))
    command.build_lib = str(target)
    command.build_temp = str(work / "objects")
    command.ensure_finalized()
    command.run()
