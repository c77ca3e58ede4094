"""`@workflow`: functions that run as workflows, by their names.

Invariants:
  * A workflow is known by its name, never by its module: the latest definition counts, and two
    files cannot define one of the same name.
"""

from __future__ import annotations

import functools
import inspect
import os
import types
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, NoReturn, ParamSpec, TypeVar, overload

from perdure.call import Call
from perdure.methods import Method
from perdure.workflows.functions import check_name, method_of

__all__ = ["WORKFLOW", "WorkflowFunction", "find_workflow", "known_workflows", "workflow"]

WORKFLOW: Final = "workflow"
"""The type of all runs."""

_P = ParamSpec("_P")
_R = TypeVar("_R")

_workflows: dict[str, WorkflowFunction[..., Any]] = {}


class WorkflowFunction(Generic[_P, _R]):
    """What `@workflow` makes of a function: calling it starts a run and gives its result."""

    def __init__(self, function: Callable[..., Any], name: str, version: str) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.version = version
        self.method: Method = method_of("workflow", name, function)
        self.__signature__ = self.method.signature

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Call[_R]:
        """Start a run and return it, to be awaited for its result.

        Inside of a workflow it is a child of that run: the same one in every replay.

        Raises:
            BadArguments: They do not fit the workflow, or cannot travel; nothing is started.
        """
        from perdure.workflows.runs import run_to_its_end

        return run_to_its_end(self, args, kwargs)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be sent or stored: name it where it is needed")


@overload
def workflow(function: Callable[_P, Coroutine[Any, Any, _R]], /) -> WorkflowFunction[_P, _R]: ...
@overload
def workflow(
    *, name: str | None = None, version: str = "1"
) -> Callable[[Callable[_P, Coroutine[Any, Any, _R]]], WorkflowFunction[_P, _R]]: ...
def workflow(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, version: str = "1"
) -> Any:
    """Make a workflow of an async function: `@workflow`, or `@workflow(version="2")`.

    Its code must ask for the same things in the same order whenever it runs again: what has an
    effect, or another outcome each time, belongs into functions with `@step`.

    Args:
        function: The function.
        name: The workflow's name; the function's by default.
        version: Noted with each run that is started.

    Raises:
        TypeError: It is no async function, or another file defines a workflow of that name.
        ValueError: The name is not possible.
    """
    if function is None:
        return functools.partial(_define, name=name, version=version)
    return _define(function, name=name, version=version)


def _define(
    function: Callable[..., Any], *, name: str | None, version: str
) -> WorkflowFunction[..., Any]:
    name = check_name("workflow", function, name)
    if type(version) is not str or not version:
        raise TypeError(f"the version of a workflow is a str that is not empty, not {version!r}")
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"the workflow {name} is an async function: async def {name}(...)")
    earlier = _workflows.get(name)
    if earlier is not None and _file_of(earlier.function) != _file_of(function):
        raise TypeError(
            f"two workflows are named {name!r}: one in {_file_of(earlier.function)}, one in "
            f"{_file_of(function)}; give one another name with @workflow(name=...)"
        )
    made: WorkflowFunction[..., Any] = WorkflowFunction(function, name, version)
    _workflows[name] = made
    return made


def find_workflow(name: str) -> WorkflowFunction[..., Any] | None:
    """Return the workflow of a name; None: this process knows none."""
    return _workflows.get(name)


def known_workflows() -> list[str]:
    """Return the names of all workflows that this process knows."""
    return sorted(_workflows)


def _file_of(function: Callable[..., Any]) -> str:
    code: types.CodeType = inspect.unwrap(function).__code__
    return os.path.realpath(code.co_filename)
