"""What `@workflow` and `@step` read from a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

from perdure import values
from perdure.methods import Method, make_method, signature_of

__all__ = ["check_name", "method_of"]

_SELF: Final = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
_NAME_CHARACTERS_MAX: Final = 128


def method_of(kind: str, name: str, function: Callable[..., Any]) -> Method:
    """Return a function as a method, whose arguments can travel; it is given no object.

    Raises:
        TypeError: It is no such function.
    """

    def call(_: object, /, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    functools.update_wrapper(call, function)
    signature = signature_of(function)
    parameters = [_SELF, *signature.parameters.values()]
    if any(p.name == "self" for p in parameters[1:]):
        raise TypeError(f"{function.__qualname__} has a parameter `self`: it belongs to no object")
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    method = make_method(kind, name, call)
    values.register_module(function.__module__)
    values.register_annotations(function)
    return method


def check_name(kind: str, function: object, name: str | None) -> str:
    """Return the name of a workflow or step.

    Raises:
        TypeError: What is decorated is no function, or the name no text.
        ValueError: The name is not possible.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(f"@{kind} decorates a function, not {type(function).__name__}")
    name = function.__name__ if name is None else name
    if type(name) is not str:
        raise TypeError(f"the name of a {kind} is a str, not {type(name).__name__}")
    if not 0 < len(name) <= _NAME_CHARACTERS_MAX or not name.isprintable():
        raise ValueError(f"the name of a {kind} has 1 to 128 printable characters: {name!r:.200}")
    return name
