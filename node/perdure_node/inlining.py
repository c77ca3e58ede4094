"""Which async methods never wait: they are run at once, without a task of their own.

A task costs several microseconds, and most methods await nothing but `self.save()`, which does
not wait. That is read from the source, once per method. A wrong "waits" costs a task; a wrong
"never waits" costs nothing else either, because a method that suspends after all goes on in one.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from perdure.objects import DurableObject

__all__ = ["never_waits"]

_WAITING = (ast.AsyncFor, ast.AsyncWith)


def never_waits(cls: type[DurableObject], function: Callable[..., Any]) -> bool:
    """Tell whether an async function of a class awaits only `save()` and others of its kind."""
    return _never_waits(cls, function, set())


def _never_waits(
    cls: type[DurableObject], function: Callable[..., Any], looked_at: set[Callable[..., Any]]
) -> bool:
    if function in looked_at:
        return True
    looked_at.add(function)
    if function is DurableObject.save:
        return True
    definition = _definition_of(function)
    if definition is None or not definition.args.args:
        return False
    itself = definition.args.args[0].arg
    for node in ast.walk(definition):
        if isinstance(node, _WAITING) or (isinstance(node, ast.comprehension) and node.is_async):
            return False
        if isinstance(node, ast.AsyncFunctionDef) and node is not definition:
            return False
        if isinstance(node, ast.Await):
            called = _own_method(cls, node.value, itself)
            if called is None or not _never_waits(cls, called, looked_at):
                return False
    return True


def _definition_of(function: Callable[..., Any]) -> ast.AsyncFunctionDef | None:
    if hasattr(function, "__wrapped__"):
        return None  # A decorator may wait for whatever it likes.
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None  # Typed at a prompt, or written by a program.
    return definition if isinstance(definition, ast.AsyncFunctionDef) else None


def _own_method(
    cls: type[DurableObject], awaited: ast.expr, itself: str
) -> Callable[..., Any] | None:
    """Return the method of `self.method(...)`, if that is what is awaited."""
    if (
        isinstance(awaited, ast.Call)
        and isinstance(awaited.func, ast.Attribute)
        and isinstance(awaited.func.value, ast.Name)
        and awaited.func.value.id == itself
    ):
        found = inspect.getattr_static(cls, awaited.func.attr, None)
        return found if inspect.iscoroutinefunction(found) else None
    return None
