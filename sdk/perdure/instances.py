"""Taking dataclass instances and pydantic models apart, and putting them together again.

State must come back as it was. So no constructor, `__post_init__` or validator runs when an
instance is put together: every field, `init=False` ones included, gets the value it had. Where
the class has changed since, a field that was not stored gets its default, and a stored field
that the class no longer has is an error: it could only be dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import sys
import types
from collections.abc import Mapping
from typing import Any, Final

from perdure import values
from perdure.errors import BadPayload, UnknownType

__all__ = [
    "Unstorable",
    "assemble_dataclass",
    "assemble_model",
    "dataclass_fields",
    "member_of",
    "model_parts",
    "parts_of",
]

_IGNORED: Final = frozenset({"__orig_class__", "__weakref__"})
"""Left in instances by `typing` for its own use."""


class Unstorable(Exception):
    """An instance cannot be taken apart without loss."""


def dataclass_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance, in their order.

    Raises:
        Unstorable: It holds more than its fields, or a field is not set.
    """
    cls: Any = type(value)
    try:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(cls)}
    except AttributeError as error:
        raise Unstorable(f"{cls.__qualname__} whose field {error.name!r} is not set") from None
    if not _is_plain(cls):
        raise Unstorable(f"{cls.__qualname__}, a dataclass that is another kind of value as well")
    _check_nothing_else(value, fields)
    return fields


def assemble_dataclass(cls: type, name: str, fields: Mapping[str, Any]) -> Any:
    """Make an instance with exactly these values.

    Raises:
        UnknownType: The fields are not those of the class any more.
    """
    instance: Any = object.__new__(cls)
    left = dict(fields)
    for field in dataclasses.fields(cls):
        if field.name in left:
            content = left.pop(field.name)
        elif field.default is not dataclasses.MISSING:
            content = field.default
        elif field.default_factory is not dataclasses.MISSING:
            content = field.default_factory()
        else:
            raise _missing(name, field.name)
        # Past any `__setattr__` of the class: a frozen one has one that refuses.
        object.__setattr__(instance, field.name, content)
    if left:
        raise _unexpected(name, next(iter(left)))
    return instance


def model_parts(model: Any) -> list[Any]:
    """Return a model's fields; if they do not tell everything, three things more.

    These are the names of the fields that were set, the extra fields, the private attributes.

    Raises:
        Unstorable: The model holds more than that, or a field is not set.
    """
    cls = type(model)
    held = model.__dict__
    # Not `model_fields`, which takes as long as all the rest of this.
    known = cls.__pydantic_fields__
    if held.keys() != known.keys():
        _check_held(cls, held, known)
    # In the order of the class, which is nearly always that of the instance.
    fields = {**held} if [*held] == [*known] else {name: held[name] for name in known}
    was_set = model.__pydantic_fields_set__
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    if was_set == fields.keys() and not extra and not private:
        return [fields]
    # In the order of the fields, as sets have none.
    names = [name for name in (*fields, *(extra or {})) if name in was_set]
    return [fields, names, extra or {}, private or {}]


def _check_held(cls: Any, held: dict[str, Any], known: dict[str, Any]) -> None:
    for name in known:
        if name not in held:
            raise Unstorable(f"{cls.__qualname__} whose field {name!r} is not set")
    for name in held.keys() - known.keys():
        if not isinstance(getattr(cls, name, None), functools.cached_property):
            raise Unstorable(f"{cls.__qualname__} has no field {name!r} to store it in")


def assemble_model(cls: Any, name: str, parts: list[Any]) -> Any:
    """Make a pydantic model of what `model_parts` returned.

    Raises:
        UnknownType: The fields are not those of the class any more.
        BadPayload: The parts are none.
    """
    fields, was_set, extra, private = parts if len(parts) == 4 else (*parts, [*parts[0]], {}, {})
    if not (type(was_set) is list and type(extra) is dict and type(private) is dict):
        raise BadPayload(f"{name} is stored as fields, names, extra fields and attributes")
    known = cls.__pydantic_fields__
    if fields.keys() == known.keys():
        content = {field_name: fields[field_name] for field_name in known}
    else:
        content = _completed(known, name, fields)
    takes_extra = cls.model_config.get("extra") == "allow"
    if extra and not takes_extra:
        raise _unexpected(name, next(iter(extra)))
    if private:
        for unexpected in private.keys() - cls.__private_attributes__.keys():
            raise _unexpected(name, unexpected)
    instance = cls.__new__(cls)
    instance.__setstate__(
        {
            "__dict__": content,
            "__pydantic_fields_set__": set(was_set),
            "__pydantic_extra__": extra if takes_extra else None,
            "__pydantic_private__": _private(cls, private),
        }
    )
    return instance


def _completed(known: dict[str, Any], name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a model, with the defaults of those that are not stored."""
    left = dict(fields)
    content: dict[str, Any] = {}
    for field_name, field in known.items():
        if field_name in left:
            content[field_name] = left.pop(field_name)
        elif field.is_required():
            raise _missing(name, field_name)
        else:
            content[field_name] = field.get_default(
                call_default_factory=True, validated_data=content
            )
    for unexpected in left:
        raise _unexpected(name, unexpected)
    return content


def parts_of(value: Any) -> dict[str, Any]:
    """Return what is in a dataclass instance or a model, by name; nothing for other values."""
    cls = type(value)
    kind = values.kind_of(cls)
    if kind == "dataclass":
        names = [field.name for field in dataclasses.fields(cls)]
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if kind == "model":
        extra, private = value.__pydantic_extra__, value.__pydantic_private__
        return {**value.__dict__, **(extra or {}), **(private or {})}
    return {}


def member_of(cls: Any, name: str, member: object) -> enum.Enum:
    """Return an Enum's member by its name, or a Flag by its int.

    Raises:
        UnknownType: The class has no such member any more.
    """
    found: enum.Enum | None = None
    if type(member) is str:
        found = cls.__members__.get(member)
    elif type(member) is int and issubclass(cls, enum.Flag):
        # A boundary of the class decides about unknown bits: refusing, or keeping all of them.
        with contextlib.suppress(ValueError):
            found = cls(member)
        if found is not None and found.value != member:
            found = None
    if found is None:
        raise UnknownType(name, f" with the member {member!r:.100}, which a stored value is")
    return found


def _private(cls: Any, stored: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the private attributes of a model: what was stored, else the default if any."""
    if not cls.__private_attributes__:
        return None
    undefined = sys.modules["pydantic_core"].PydanticUndefined
    defaults = {
        name: attribute.get_default()
        for name, attribute in cls.__private_attributes__.items()
        if name not in stored
    }
    return {**stored, **{k: v for k, v in defaults.items() if v is not undefined}}


@functools.cache
def _is_plain(cls: Any) -> bool:
    """Tell whether instances hold nothing but attributes: they are no list, date, ... as well."""
    try:
        object.__new__(cls)
    except TypeError:
        return False
    return True


@functools.cache
def _slots(cls: Any) -> frozenset[str]:
    """Return the attributes that the instances of a class have outside of their `__dict__`."""
    return frozenset(
        name
        for base in cls.__mro__
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    )


def _check_nothing_else(value: Any, fields: Mapping[str, Any]) -> None:
    """Refuse an instance that has more attributes than its fields."""
    cls: Any = type(value)
    held = getattr(value, "__dict__", {}).keys() | _slots(cls)
    for attribute in held - fields.keys() - _IGNORED:
        # What a cached property holds is computed again when it is asked for.
        if isinstance(getattr(cls, attribute, None), functools.cached_property):
            continue
        if hasattr(value, attribute):
            raise Unstorable(f"{cls.__qualname__} has no field {attribute!r} to store it in")


def _missing(name: str, field: str) -> UnknownType:
    return UnknownType(
        name, f" whose field {field!r} has a default: a stored one was written without it"
    )


def _unexpected(name: str, field: str) -> UnknownType:
    return UnknownType(name, f" with the field {field!r}, which a stored one has")
