"""Which classes travel by name: dataclasses, pydantic models, Enums and exceptions.

A class is known by its name, never by its module, and a name from outside is only ever looked
up: among the classes registered here, and among those that a registered module defines at its
top level (or inside such a class). Nothing is imported because of a name.

Invariants:
  * One name means one class. The same class defined again (a cell run twice, a reload, one file
    as `__main__` and as a module) takes the place of the old one; a class of that name from
    another file is an error that names both files.
  * A class is found by the name under which its instances were written, in this process and in
    every other that imports the same file: so a class inside a function is not known by itself.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeVar

from perdure.errors import UnknownType

__all__ = [
    "Kind",
    "find",
    "kind_of",
    "name_of",
    "register",
    "register_annotations",
    "register_module",
    "resolve_annotation",
]

Kind = Literal["dataclass", "enum", "error", "model"]
"""What a class that travels by name is. An exception that is a dataclass too is an error."""

_C = TypeVar("_C", bound=type)

_NAME_CHARACTERS_MAX: Final = 200

_registered: dict[str, type] = {}
_names: dict[type, str] = {}
"""The names of registered classes; replaced ones too, whose instances may still live."""
_modules: dict[str, None] = {}
_homes: dict[str, str] = {}
"""The module in which a name was last found: a hint, checked at each use."""
_unread: list[Callable[..., Any]] = []
"""Functions whose annotations have not been looked at."""
_unresolved: list[tuple[str, dict[str, Any]]] = []
"""Annotations that name something not defined yet, with the names around them."""


def kind_of(cls: type) -> Kind | None:
    """Return what a class is, or None if its instances cannot travel by name."""
    if issubclass(cls, enum.Enum):
        return "enum"
    if issubclass(cls, BaseException):
        return "error" if issubclass(cls, Exception) else None
    pydantic = sys.modules.get("pydantic.main")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return "model"
    return "dataclass" if dataclasses.is_dataclass(cls) else None


def register(cls: _C, name: str | None = None) -> _C:
    """Make a class known, by its own name or another, and return it.

    Raises:
        TypeError: It is no dataclass, pydantic model, Enum or exception, or another file has
            a class of that name.
        ValueError: `name` is no possible name.
    """
    if not isinstance(cls, type) or kind_of(cls) is None:
        raise TypeError(
            f"{getattr(cls, '__qualname__', cls)!r} is no dataclass, pydantic model, Enum or "
            f"exception: nothing else travels by name"
        )
    name = _own_name(cls) if name is None else name
    if type(name) is not str or not name.isprintable() or not 0 < len(name) <= _NAME_CHARACTERS_MAX:
        raise ValueError(
            f"the name of a class has 1 to {_NAME_CHARACTERS_MAX} printable characters: {name!r}"
        )
    _check_same(name, _registered.get(name), cls)
    _registered[name] = cls
    _names[cls] = name
    return cls


def register_module(module_name: str) -> None:
    """Make known the classes that a module defines, now and later.

    The module is looked into when a class is looked for, so it may still be half imported.
    """
    _modules[module_name] = None


def register_annotations(function: Callable[..., Any]) -> None:
    """Make known the classes in a function's annotations.

    They are read when a class is first looked for. What cannot be resolved then is left out.
    """
    _unread.append(function)


def name_of(cls: type) -> str | None:
    """Return the name under which instances of a class travel; None: it is not known.

    Raises:
        TypeError: Another file has a class of that name.
    """
    if (name := _names.get(cls)) is not None:
        return name
    if _unread:
        _read_annotations()
        if (name := _names.get(cls)) is not None:
            return name
    if cls.__module__ not in _modules or kind_of(cls) is None:
        return None
    name = cls.__qualname__
    found = _look_up(cls.__module__, name)
    if found is None or origin_of(found) != origin_of(cls):
        return None
    _check_same(name, _registered.get(name), cls)
    for other in _modules:
        _check_same(name, _look_up(other, name), cls)
    _names[cls] = name
    return name


def find(name: str, kind: Kind) -> type | None:
    """Return the class that is known by a name, or None.

    Raises:
        UnknownType: Two files define one of that name.
    """
    cls = _registered.get(name) or _find_in_modules(name)
    if cls is None and _unread:
        _read_annotations()
        cls = _registered.get(name)
    return cls if cls is not None and kind_of(cls) == kind else None


def origin_of(cls: type) -> str:
    """Return the file that defines a class, or its module where there is no file."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    return cls.__module__ if file is None else os.path.realpath(file)


def resolve_annotation(annotation: object, namespace: dict[str, Any]) -> Any:
    """Return what an annotation means, if it is written as text.

    Raises:
        NameError: It names something that is not in the namespace.
        Exception: Whatever else evaluating this part of the program raises.
    """
    holder = type("Annotated", (), {"__annotations__": {"it": annotation}})
    return typing.get_type_hints(holder, globalns=namespace, include_extras=True)["it"]


def _own_name(cls: type) -> str:
    return cls.__qualname__.rpartition("<locals>.")[2]


def _check_same(name: str, known: type | None, cls: type) -> None:
    if known is None or known is cls or origin_of(known) == origin_of(cls):
        return
    raise TypeError(
        f"two classes are named {name!r}: one in {origin_of(known)}, one in {origin_of(cls)}; "
        f"give one of them another name: @durable.value(name=...)"
    )


def _look_up(module_name: str, name: str) -> type | None:
    """Return the class that a module defines by this name, dots leading into classes.

    Dictionaries are read, attributes are not asked for: the name may come from outside.
    """
    found: Any = sys.modules.get(module_name)
    if found is None:
        return None  # Its import has failed, or it was taken away: others are not to suffer.
    for part in name.split("."):
        found = vars(found).get(part)
        if not isinstance(found, type):
            return None
    defined_here = found.__module__ == module_name and found.__qualname__ == name
    return found if defined_here and kind_of(found) is not None else None


def _find_in_modules(name: str) -> type | None:
    home = _homes.get(name)
    if home is not None and (cls := _look_up(home, name)) is not None:
        return cls
    found: type | None = None
    for module_name in _modules:
        if (cls := _look_up(module_name, name)) is not None:
            if found is not None and origin_of(found) != origin_of(cls):
                raise UnknownType(
                    name, f" that only one file defines: {origin_of(found)} and {origin_of(cls)}"
                )
            found = cls
    if found is not None:
        _homes[name] = found.__module__
    return found


def _read_annotations() -> None:
    """Register the classes in annotations not read so far; retry those that did not resolve."""
    functions, _unread[:] = list(_unread), []
    waiting, _unresolved[:] = list(_unresolved), []
    for wrapped in functions:
        function = inspect.unwrap(wrapped)
        namespace = getattr(function, "__globals__", {})
        waiting += [(a, namespace) for a in getattr(function, "__annotations__", {}).values()]
    for annotation, namespace in waiting:
        try:
            meaning = resolve_annotation(annotation, namespace)
        except Exception:
            # An annotation is free to name what only a type checker ever imports.
            _unresolved.append((annotation, namespace))
            continue
        for cls in _classes_in(meaning):
            if cls not in _names and name_of(cls) is None:
                register(cls)


def _classes_in(annotation: Any) -> Iterator[type]:
    arguments = typing.get_args(annotation)
    if not arguments and isinstance(annotation, type) and kind_of(annotation) is not None:
        yield annotation
    for argument in arguments:
        for part in argument if isinstance(argument, list) else [argument]:
            yield from _classes_in(part)
