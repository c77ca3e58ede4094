"""Which async methods need no task: those that never wait, and those that wait for steps only.

A task costs several microseconds, and most methods await nothing but `self.save()`, which does
not wait, and steps that they ask their context for. That is read from the source, once per
method. A wrong "waits" costs a task; a wrong "needs no task" costs nothing else either, because a
method that waits for something else after all goes on in one.
"""

from __future__ import annotations

import ast
import enum
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, Final

from perdure.context import ctx
from perdure.objects import DurableObject

__all__ = ["Waits", "waits_of"]

_WAITING: Final = (ast.AsyncFor, ast.AsyncWith, ast.Import, ast.ImportFrom)
"""What may wait, or brings in what asks for the task that runs."""
_STEPS: Final = frozenset(("call", "run", "sleep"))
_ASK_FOR_TASKS: Final = frozenset(("asyncio", "anyio"))
"""Whoever names these modules or what is in them may ask for the task that runs."""


class Waits(enum.IntEnum):
    """What a method waits for."""

    NEVER = 0
    """For nothing."""
    FOR_STEPS = 1
    """For its steps, and it does not ask for the task that it runs in."""
    AT_WILL = 2
    """For anything."""


def waits_of(cls: type[DurableObject], function: Callable[..., Any]) -> Waits:
    """Tell what an async function of a class waits for, with those of its class that it awaits."""
    return _waits_of(cls, function, set())


def _waits_of(
    cls: type[DurableObject], function: Callable[..., Any], looked_at: set[Callable[..., Any]]
) -> Waits:
    if function in looked_at:
        return Waits.NEVER
    looked_at.add(function)
    if function is DurableObject.save:
        return Waits.NEVER
    definition = _definition_of(function)
    if definition is None or not definition.args.args:
        return Waits.AT_WILL
    itself = definition.args.args[0].arg
    found = Waits.NEVER
    for node in ast.walk(definition):
        if isinstance(node, _WAITING) or (isinstance(node, ast.comprehension) and node.is_async):
            return Waits.AT_WILL
        if isinstance(node, ast.AsyncFunctionDef) and node is not definition:
            return Waits.AT_WILL
        if isinstance(node, ast.Await):
            called = _own_method(cls, node.value, itself)
            if called is not None:
                found = max(found, _waits_of(cls, called, looked_at))
            elif _is_step(definition, function, node.value):
                found = max(found, Waits.FOR_STEPS)
            else:
                return Waits.AT_WILL
    if found is Waits.FOR_STEPS and _asks_for_tasks(definition, function):
        return Waits.AT_WILL
    return found


def _definition_of(function: Callable[..., Any]) -> ast.AsyncFunctionDef | None:
    if hasattr(function, "__wrapped__"):
        return None  # A decorator may wait for whatever it likes.
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None  # Typed at a prompt, or written by a program.
    return definition if isinstance(definition, ast.AsyncFunctionDef) else None


def _called_attribute(awaited: ast.expr) -> tuple[str, str] | None:
    """Return name and attribute of `name.attribute(...)`, if it is that."""
    if (
        isinstance(awaited, ast.Call)
        and isinstance(awaited.func, ast.Attribute)
        and isinstance(awaited.func.value, ast.Name)
    ):
        return awaited.func.value.id, awaited.func.attr
    return None


def _own_method(
    cls: type[DurableObject], awaited: ast.expr, itself: str
) -> Callable[..., Any] | None:
    """Return the method of `self.method(...)`, if that is what is awaited."""
    called = _called_attribute(awaited)
    if called is None or called[0] != itself:
        return None
    found = inspect.getattr_static(cls, called[1], None)
    return found if inspect.iscoroutinefunction(found) else None


def _is_step(
    definition: ast.AsyncFunctionDef, function: Callable[..., Any], awaited: ast.expr
) -> bool:
    """Tell whether `ctx.call(...)` or its like is awaited, of a parameter or perdure's own."""
    called = _called_attribute(awaited)
    if called is None or called[1] not in _STEPS:
        return False
    name = called[0]
    arguments = definition.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if argument.arg == name:
            annotation = argument.annotation
            text = "" if annotation is None else ast.unparse(annotation).strip("'\"")
            return text.rpartition(".")[2] == "DurableContext"
    return _names_of(function).get(name) is ctx and name not in function.__code__.co_varnames


def _asks_for_tasks(definition: ast.AsyncFunctionDef, function: Callable[..., Any]) -> bool:
    known = _names_of(function)
    for node in ast.walk(definition):
        value = known.get(node.id) if isinstance(node, ast.Name) else None
        module = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        if str(module).partition(".")[0] in _ASK_FOR_TASKS:
            return True
    return False


def _names_of(function: Callable[..., Any]) -> dict[str, Any]:
    names: dict[str, Any] = function.__globals__
    return names
