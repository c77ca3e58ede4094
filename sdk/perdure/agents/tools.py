"""`@tool`: functions that a model may call."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, TypeVar, overload

__all__ = ["is_step", "tool"]

_F = TypeVar("_F", bound=Callable[..., Any])

_POSSIBLE: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
"""Kinds of parameters: a model gives arguments by their names."""

_tools: Final[weakref.WeakKeyDictionary[FunctionType, bool]] = weakref.WeakKeyDictionary()
"""The decorated functions, and whether a call of each is a step by itself."""


@overload
def tool(function: _F, /) -> _F: ...
@overload
def tool(*, step: bool = True) -> Callable[[_F], _F]: ...
def tool(function: Any = None, /, *, step: bool = True) -> Any:
    """Make a function one that an agent's model may call: `Agent(..., tools=[weather])`.

    The model is told the function's name, its parameters with their types, and its docstring, and
    gives it arguments of these types. What it returns goes back to the model as JSON. Raise
    `pydantic_ai.ModelRetry` to tell the model what it has to do otherwise; any other exception is
    one of the agent. The function stays what it is: call it yourself as before.

    Args:
        function: `def` or `async def`. One that is not async runs in a thread.
        step: Each call is a step by itself, made at least once, with a result that is recorded
            once. False: an async function that runs as a part of the method that runs the agent,
            so that what it asks for (calls of objects, `ctx.call`, `ctx.run`) are the steps.

    Raises:
        TypeError: It is no function, a parameter has no type or cannot be given by its name, there
            is no docstring, or `step=False` for one that is not async.
    """
    if function is None:
        return lambda function: _register(function, step)
    return _register(function, step)


def is_step(function: object) -> bool:
    """Tell whether a call of a tool is a step by itself.

    Raises:
        TypeError: It is no function decorated with `@tool`.
    """
    if not isinstance(function, FunctionType) or function not in _tools:
        raise TypeError(f"a tool is a function decorated with @perdure.tool, not {function!r:.100}")
    return _tools[function]


def _register(function: Any, step: bool) -> Any:
    if not isinstance(function, FunctionType):
        raise TypeError(f"@tool decorates a function, not {function!r:.100}")
    label = f"the tool {function.__qualname__}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{label} is a generator: a tool returns one result")
    if not (function.__doc__ or "").strip():
        raise TypeError(f"{label} needs a docstring: it tells the model what the tool is for")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in _POSSIBLE:
            raise TypeError(f"{label}: a model gives arguments by name, so not {str(parameter)!r}")
        if parameter.annotation is inspect.Parameter.empty:
            raise TypeError(f"{label}: {parameter.name!r} needs a type: the model is told of it")
    if not step and not inspect.iscoroutinefunction(function):
        raise TypeError(f"{label}: with step=False a tool is async, to await the steps it makes")
    _tools[function] = step
    return function
