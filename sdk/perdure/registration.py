"""The rules that a class must keep to become a type of durable object.

All of them are checked when the class is decorated, so that a mistake is an error at import
and not at the first call.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from perdure import values
from perdure.methods import Method, make_method, signature_of
from perdure.objects import (
    FUNCTION,
    RESERVED,
    RESERVED_FOR_CLASSES,
    DurableObject,
    ObjectType,
    Persist,
    add_type,
)
from perdure.remote import RemoteMethod

__all__ = ["check_type_name", "register_type"]

_MUTABLE: Final = (list, dict, set, bytearray)

_RETRIES_MAX: Final = 100


def register_type(
    cls: type[DurableObject],
    name: str | None,
    persist: Persist,
    max_state_bytes: int,
    retries: int = 0,
    prefix: str = "",
) -> None:
    """Register a class as a type of durable object.

    Args:
        cls: The class.
        name: The type's name; the class's by default.
        persist: See `ObjectType`.
        max_state_bytes: Likewise.
        retries: Likewise.
        prefix: What the name gets in front, for types that are no classes of users'.

    Raises:
        TypeError: The class breaks a rule, or another file has a type of that name.
        ValueError: An option has no possible value.
    """
    object_type = _build_type(cls, name, prefix, persist, max_state_bytes, retries)
    add_type(object_type)
    values.register_module(cls.__module__)
    for method in object_type.methods.values():
        values.register_annotations(method.function)


def _build_type(
    cls: type[DurableObject],
    name: str | None,
    prefix: str,
    persist: Persist,
    max_state_bytes: int,
    retries: int,
) -> ObjectType:
    """Check a class and read from it all that calls need."""
    if not isinstance(cls, type) or not issubclass(cls, DurableObject):
        label = getattr(cls, "__name__", repr(cls))
        raise TypeError(
            f"@durable.object decorates a class that inherits from DurableObject: "
            f"class {label}(DurableObject)"
        )
    name = cls.__name__ if name is None else name
    check_type_name(name)
    name = prefix + name
    if persist not in get_args(Persist):
        raise ValueError(f"persist is 'always' or 'on_save', not {persist!r}")
    if type(max_state_bytes) is not int or max_state_bytes <= 0:
        raise ValueError(f"max_state_bytes is a positive int, not {max_state_bytes!r}")
    if type(retries) is not int or not 0 <= retries <= _RETRIES_MAX:
        raise ValueError(f"retries is an int from 0 to {_RETRIES_MAX}, not {retries!r}")
    attributes = _attributes(cls)
    _check_attributes(name, attributes)
    _check_init(name, cls)
    _make_migrate_a_classmethod(name, cls, attributes)
    methods = dict(_methods(name, attributes))
    return ObjectType(
        name=name,
        cls=cls,
        methods=types.MappingProxyType(methods),
        persist=persist,
        max_state_bytes=max_state_bytes,
        state_version=_state_version(name, attributes),
        has_on_activate=_has_on_activate(name, attributes),
        class_attributes=types.MappingProxyType(
            {
                attribute: value
                for attribute, value in attributes.items()
                if not attribute.startswith("_") and attribute not in methods
            }
        ),
        remote=types.MappingProxyType({n: RemoteMethod(m) for n, m in methods.items()}),
        origin=values.origin_of(cls),
        retries=retries,
    )


def check_type_name(name: object) -> None:
    """Check the name of a type.

    Raises:
        TypeError: It is no text.
        ValueError: It is no possible name.
    """
    if type(name) is not str:
        raise TypeError(f"the name of a type is a str, not {type(name).__name__}")
    if not name or len(name) > 128 or not name.isprintable() or any(c.isspace() for c in name):
        raise ValueError(
            f"the name of a type has 1 to 128 printable characters and no space: {name!r}"
        )
    if name.startswith(FUNCTION):
        raise ValueError(f"names that begin with {FUNCTION!r} are those of durable functions")


def _attributes(cls: type) -> dict[str, Any]:
    """Return what a class and its bases define, as it is defined: descriptors unresolved."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is not DurableObject and base is not object:
            found.update(vars(base))
    return found


def _check_attributes(name: str, attributes: Mapping[str, Any]) -> None:
    for reserved in RESERVED:
        if reserved in attributes:
            raise TypeError(f"{name}.{reserved} is reserved by DurableObject: choose another name")
    for attribute, value in attributes.items():
        if attribute.startswith("_"):
            continue
        if isinstance(value, _MUTABLE):
            raise TypeError(
                f"{name}.{attribute} is a {type(value).__name__} that all objects of the class "
                f"would share, and is never stored: assign it in __init__"
            )
        if isinstance(value, types.MemberDescriptorType):
            raise TypeError(
                f"{name}.{attribute} is in __slots__, where state is not seen: leave __slots__ away"
            )


def _check_init(name: str, cls: type[DurableObject]) -> None:
    init = cls.__init__
    if inspect.iscoroutinefunction(init):
        raise TypeError(f"{name}.__init__ is not async: do asynchronous work in a method")
    parameters = list(signature_of(init).parameters.values())[1:]
    kinds = inspect.Parameter
    takes_id = parameters and parameters[0].kind in (
        kinds.POSITIONAL_ONLY,
        kinds.POSITIONAL_OR_KEYWORD,
        kinds.VAR_POSITIONAL,
    )
    if not takes_id:
        raise TypeError(f"{name}.__init__ takes the object id: def __init__(self, object_id: str)")
    for parameter in parameters[1:]:
        if parameter.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD):
            continue
        if parameter.default is kinds.empty:
            raise TypeError(
                f"{name}.__init__ is called with the object id alone: "
                f"its parameter {parameter.name!r} needs a default"
            )


def _methods(name: str, attributes: Mapping[str, Any]) -> Iterator[tuple[str, Method]]:
    for attribute, value in attributes.items():
        if attribute.startswith("_") or attribute in RESERVED_FOR_CLASSES:
            continue
        if isinstance(value, types.FunctionType):
            yield attribute, make_method(name, attribute, value)


def _state_version(name: str, attributes: Mapping[str, Any]) -> int:
    version = attributes.get("state_version", 1)
    if type(version) is not int or version < 1:
        raise TypeError(f"{name}.state_version is an int from 1, not {version!r}")
    return version


def _has_on_activate(name: str, attributes: Mapping[str, Any]) -> bool:
    hook = attributes.get("on_activate")
    if hook is None:
        return False
    if not inspect.iscoroutinefunction(hook):
        raise TypeError(f"{name}.on_activate is an async method: async def on_activate(self)")
    try:
        signature_of(hook).bind(None)
    except TypeError:
        raise TypeError(
            f"{name}.on_activate is called without arguments: async def on_activate(self)"
        ) from None
    return True


def _make_migrate_a_classmethod(
    name: str, cls: type[DurableObject], attributes: Mapping[str, Any]
) -> None:
    """Check `migrate`, and let `def migrate(cls, state, version)` mean a class method."""
    migrate = attributes.get("migrate")
    if migrate is None:
        return
    function = migrate.__func__ if isinstance(migrate, classmethod) else migrate
    if not isinstance(function, types.FunctionType) or inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{name}.migrate is a class method, not async: "
            f"@classmethod def migrate(cls, state, version)"
        )
    try:
        signature_of(function).bind(cls, {}, 1)
    except TypeError:
        raise TypeError(f"{name}.migrate takes (cls, state, version)") from None
    if not isinstance(migrate, classmethod):
        cls.migrate = classmethod(function)  # type: ignore[attr-defined]
