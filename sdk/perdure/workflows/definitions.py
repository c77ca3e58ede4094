"""`@workflow`: functions that run as workflows, by their names.

Invariants:
  * A workflow is known by its name, never by its module: the latest definition counts, and two
    files cannot define one of the same name.
"""

from __future__ import annotations

import datetime as dt
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

    def __init__(
        self, function: Callable[..., Any], name: str, version: str, retention_s: float | None
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.version = version
        self.retention_s = retention_s
        """How long its runs stay after their end; None: as the node says."""
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
    *,
    name: str | None = None,
    version: str = "1",
    retention: dt.timedelta | float | None = None,
) -> Callable[[Callable[_P, Coroutine[Any, Any, _R]]], WorkflowFunction[_P, _R]]: ...
def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "1",
    retention: dt.timedelta | float | None = None,
) -> Any:
    """Make a workflow of an async function: `@workflow`, or `@workflow(version="2")`.

    Its code must ask for the same things in the same order whenever it runs again: what has an
    effect, or another outcome each time, belongs into functions with `@step`.

    Args:
        function: The function.
        name: The workflow's name; the function's by default.
        version: Noted with each run that is started.
        retention: How long a run stays after its end, with its result, events and streams; a
            number means seconds, `math.inf` for ever. What the workflow says when the run ends
            counts. None: as long as the node's limit `run_retention_ms` says, which is a week.

    Raises:
        TypeError: It is no async function, another file defines a workflow of that name, or
            an option is something else.
        ValueError: The name or the retention is not possible.
    """
    define = functools.partial(
        _define,
        name=name,
        version=version,
        retention_s=None if retention is None else _seconds(retention),
    )
    return define if function is None else define(function)


def _define(
    function: Callable[..., Any], *, name: str | None, version: str, retention_s: float | None
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
    made: WorkflowFunction[..., Any] = WorkflowFunction(function, name, version, retention_s)
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


def _seconds(retention: object) -> float:
    seconds = retention.total_seconds() if isinstance(retention, dt.timedelta) else retention
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        text = f"the retention of a workflow is a timedelta or a number, not {retention!r:.100}"
        raise TypeError(text)
    if not seconds >= 0:
        raise ValueError(f"the retention of a workflow is not negative, and not {retention!r:.100}")
    return float(seconds)
