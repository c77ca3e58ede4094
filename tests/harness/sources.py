"""Compiled modules as their sources say: to plant a bug in a class is to derive one from it."""

import importlib.util
from pathlib import Path
from types import ModuleType


def from_source(module: ModuleType) -> ModuleType:
    """Run a module's source, if what runs is compiled. Nothing else gets to know what comes of it.

    Python refuses to derive classes from compiled ones.
    """
    compiled = Path(str(module.__file__))
    if compiled.suffix == ".py":
        return module
    source = compiled.with_name(f"{module.__name__.rpartition('.')[2]}.py")
    spec = importlib.util.spec_from_file_location(f"{module.__name__}, its source", source)
    assert spec is not None
    assert spec.loader is not None
    pure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pure)
    return pure
