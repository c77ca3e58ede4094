"""`import perdure` is the whole API: what leaks is a promise nobody meant to make."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import perdure


def test_all_names_exactly_what_is_public() -> None:
    public = {
        name
        for name, value in vars(perdure).items()
        if not name.startswith("_")
        and (not isinstance(value, types.ModuleType) or name in perdure.__all__)
    }

    assert public == set(perdure.__all__)


def test_all_is_sorted_and_names_nothing_twice() -> None:
    assert len(set(perdure.__all__)) == len(perdure.__all__)
    assert set(perdure.__all__) <= set(dir(perdure))


def test_the_names_that_every_program_needs_are_there() -> None:
    needed = {"DurableContext", "DurableObject", "PerdureError", "connect", "ctx", "durable"}

    assert needed <= set(perdure.__all__)


def test_every_error_is_public_and_documented() -> None:
    from perdure import errors

    for name in errors.__all__:
        value = getattr(errors, name)
        if isinstance(value, type) and issubclass(value, perdure.PerdureError):
            assert getattr(perdure, name) is value
            assert value.__doc__


@pytest.mark.parametrize(
    "heavy", ["grpc", "rocksdict", "httpx", "pydantic", "rich", "typer", "uvloop"]
)
def test_importing_perdure_does_not_import(heavy: str) -> None:
    code = f"import perdure, sys; sys.exit({heavy!r} in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
