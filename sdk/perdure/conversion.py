"""What a JSON argument means where an annotation says what it should be.

Only JSON is converted, because it has no dates, no tuples and no classes. A value that already
is what the annotation says is left alone; one that could only be converted with a loss, or by a
guess, is refused. Annotations that do not say what a value is (`Any`, type variables without a
bound, names that only a type checker imports) let everything pass.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import dataclasses
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from perdure import lifting, temporal, values
from perdure.errors import BadArguments

__all__ = ["convert"]

_T = typing.TypeVar("_T")


class _Mismatch(Exception):
    """A value is not what it should be. `path` says where in the argument."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem, path)
        self.problem = problem
        self.path = path


def convert(value: Any, annotation: Any, module_namespace: dict[str, Any]) -> Any:
    """Return the value that JSON means for a parameter.

    Args:
        value: What `from_json` returned, or a part of it.
        annotation: The parameter's, possibly still text.
        module_namespace: The names of the module that the annotation stands in.

    Raises:
        BadArguments: It cannot be converted.
    """
    try:
        meaning = values.resolve_annotation(annotation, module_namespace)
    except Exception:
        # It names what only a type checker imports, so it says nothing here.
        return value
    try:
        return _to(value, meaning)
    except _Mismatch as mismatch:
        where = f"at {mismatch.path}: " if mismatch.path else ""
        raise BadArguments(f"{where}{mismatch.problem}") from None


def _to(value: Any, wanted: Any) -> Any:
    if wanted is Any or wanted is object or isinstance(wanted, str | typing.ForwardRef):
        return value
    if wanted is None or wanted is type(None):
        return value if value is None else _refuse(value, "null")
    origin = typing.get_origin(wanted)
    if origin is None:
        return _to_plain(value, wanted)
    arguments = typing.get_args(wanted)
    if origin is typing.Annotated:
        return _to(value, arguments[0])
    if origin is typing.Literal:
        return _to_literal(value, arguments)
    if origin in (typing.Union, types.UnionType):
        return _to_any_of(value, arguments)
    if origin in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
        return _to(value, arguments[0])
    if origin is tuple:
        return _to_tuple(value, arguments)
    if origin in _COLLECTIONS:
        return _to_collection(value, origin, arguments[0])
    if (make := _MAPPINGS.get(origin)) is not None:
        return make(_entries(value, _label(wanted), *arguments[:2]), arguments)
    return _to_plain(value, origin)


def _to_plain(value: Any, wanted: Any) -> Any:
    if isinstance(wanted, typing.TypeVar):
        return _to_type_variable(value, wanted)
    if hasattr(wanted, "__supertype__"):
        return _to(value, wanted.__supertype__)
    if hasattr(wanted, "__value__"):  # `type X = ...`
        return _to(value, wanted.__value__)
    if not isinstance(wanted, type):
        return value
    if type(value) is wanted:
        return value
    if (read := _SCALARS.get(wanted)) is not None:
        return read(value)
    if wanted is tuple:
        return tuple(_items(value, "tuple", Any))
    if wanted in _COLLECTIONS:
        return _to_collection(value, wanted, Any)
    if (make := _MAPPINGS.get(wanted)) is not None:
        return make(_entries(value, wanted.__name__, Any, Any), ())
    if typing.is_typeddict(wanted):
        return _to_typed_dict(value, wanted)
    return _to_instance(value, wanted)


def _to_instance(value: Any, wanted: Any) -> Any:
    """Return an instance of one of the user's classes."""
    kind = values.kind_of(wanted)
    with contextlib.suppress(TypeError):  # Some protocols refuse to be asked.
        if isinstance(value, wanted):
            return value
    if kind == "enum":
        return _to_enum(value, wanted)
    if kind == "model":
        return _to_model(value, wanted)
    if kind == "dataclass":
        return _to_dataclass(value, wanted)
    if getattr(wanted, "_is_protocol", False):
        return value
    return _refuse(value, wanted.__qualname__)


def _to_any_of(value: Any, wanted: tuple[Any, ...]) -> Any:
    # What the value is already comes before what it could be made into: text stays text in
    # `datetime | str`.
    for exact in wanted:
        if type(value) is exact or (value is None and exact in (None, type(None))):
            return value
    for alternative in wanted:
        with contextlib.suppress(_Mismatch):
            return _to(value, alternative)
    return _refuse(value, " or ".join(_label(alternative) for alternative in wanted))


def _to_literal(value: Any, wanted: tuple[Any, ...]) -> Any:
    for literal in wanted:
        if type(literal) is type(value) and literal == value:
            return literal
        if isinstance(literal, enum.Enum) and type(value) is str and literal.name == value:
            return literal
    return _refuse(value, " or ".join(repr(literal) for literal in wanted))


def _to_type_variable(value: Any, variable: typing.TypeVar) -> Any:
    if variable.__constraints__:
        return _to_any_of(value, variable.__constraints__)
    return value if variable.__bound__ is None else _to(value, variable.__bound__)


def _to_tuple(value: Any, wanted: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(wanted) == 2 and wanted[1] is Ellipsis:
        return tuple(_items(value, "tuple", wanted[0]))
    items = _items(value, "tuple", Any)
    wanted = () if wanted == ((),) else wanted
    if len(items) != len(wanted):
        raise _Mismatch(f"{len(wanted)} items are wanted, not {len(items)}")
    pairs = zip(items, wanted, strict=True)
    return tuple(_at(f"[{i}]", x, kind) for i, (x, kind) in enumerate(pairs))


def _to_collection(value: Any, wanted: Any, item: Any) -> Any:
    if type(value) in (set, frozenset) and issubclass(wanted, collections.abc.Set):
        value = list(value)
    return _COLLECTIONS[wanted](_items(value, wanted.__name__, item))


def _to_typed_dict(value: Any, wanted: Any) -> dict[str, Any]:
    fields = _hints(wanted)
    content = _object(value, wanted.__qualname__)
    for name in wanted.__required_keys__:
        if name not in content:
            raise _Mismatch(f"{name!r} is missing")
    return {name: _at(f".{name}", x, _field(name, fields)) for name, x in content.items()}


def _to_dataclass(value: Any, wanted: Any) -> Any:
    hints = _hints(wanted)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(wanted) if field.init}
    content = _object(value, wanted.__qualname__)
    given = {name: _at(f".{name}", x, _field(name, fields)) for name, x in content.items()}
    try:
        return wanted(**given)
    except (TypeError, ValueError) as error:
        raise _Mismatch(str(error)) from None


def _to_model(value: Any, wanted: Any) -> Any:
    try:
        return wanted.model_validate(value)
    except ValueError as error:
        problems: list[Any] = getattr(error, "errors", list)()
        text = "; ".join(
            f"{'.'.join(str(step) for step in problem['loc'])}: {problem['msg']}"
            for problem in problems
        )
        raise _Mismatch(text or str(error)) from None


def _to_enum(value: Any, wanted: Any) -> Any:
    # By value first, as the enum itself does; then by name, as values travel.
    for member in wanted:
        if type(member.value) is type(value) and member.value == value:
            return member
    if type(value) is str and value in wanted.__members__:
        return wanted.__members__[value]
    return _refuse(value, f"{wanted.__qualname__}: {', '.join(wanted.__members__)}")


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError:
        return collections.defaultdict(lambda: Any)


def _field(name: str, fields: dict[str, Any]) -> Any:
    if name not in fields and not isinstance(fields, collections.defaultdict):
        raise _Mismatch(f"there is no {name!r}; there are {', '.join(fields)}")
    return fields[name]


def _object(value: Any, label: str) -> dict[str, Any]:
    if type(value) is not dict or any(type(key) is not str for key in value):
        raise _Mismatch(f"{label} is wanted as an object, not {_given(value)}")
    return value


def _at(step: str, value: Any, wanted: Any) -> Any:
    try:
        return _to(value, wanted)
    except _Mismatch as mismatch:
        raise _Mismatch(mismatch.problem, step + mismatch.path) from None


def _items(value: Any, label: str, wanted: Any) -> list[Any]:
    if type(value) not in (list, tuple, collections.deque):
        raise _Mismatch(f"{label} is wanted, not {_given(value)}")
    return [_at(f"[{i}]", x, wanted) for i, x in enumerate(value)]


def _entries(value: Any, label: str, key: Any = Any, content: Any = Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _Mismatch(f"{label} is wanted, not {_given(value)}")
    entries: dict[Any, Any] = {}
    for k, x in value.items():
        new_key = _at(f"[key {k!r:.50}]", k, key) if type(k) is not str else _key(k, key)
        if new_key in entries:
            raise _Mismatch(f"the key {new_key!r:.50} is there twice")
        entries[new_key] = _at(f"[{k!r:.50}]", x, content)
    return entries


def _key(text: str, wanted: Any) -> Any:
    """Return the key that text means: an object of JSON has no others."""
    if wanted in (int, float) and type(wanted) is type:
        with contextlib.suppress(ValueError):
            number: int | float = wanted(text)
            # Exactly one text for each key, so that two texts never become one key.
            if str(number) == text:
                return number
    return _at(f"[key {text!r:.50}]", text, wanted)


def _distinct(build: Callable[[Iterable[Any]], Any]) -> Callable[[list[Any]], Any]:
    def build_distinct(items: list[Any]) -> Any:
        try:
            collection = build(items)
        except TypeError as error:
            raise _Mismatch(str(error)) from None
        if len(collection) != len(items):
            raise _Mismatch("an item is there twice")
        return collection

    return build_distinct


def _defaultdict(entries: dict[Any, Any], arguments: tuple[Any, ...]) -> Any:
    factory = typing.get_origin(arguments[1]) or arguments[1] if arguments else None
    if factory not in (list, dict, set, int, float, str):
        raise _Mismatch('a defaultdict is wanted: {"$defaultdict": [...]} says over what')
    return collections.defaultdict(factory, entries)


def _bool(value: Any) -> bool:
    return value if type(value) is bool else _refuse(value, "bool")


def _int(value: Any) -> int:
    if type(value) is float and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    return value if type(value) is int else _refuse(value, "int")


def _float(value: Any) -> float:
    if type(value) is int:
        with contextlib.suppress(OverflowError):
            if float(value) == value:
                return float(value)
        raise _Mismatch(f"{str(value)[:50]} is no float without a loss")
    return value if type(value) is float else _refuse(value, "float")


def _str(value: Any) -> str:
    return value if type(value) is str else _refuse(value, "str")


def _bytes(value: Any) -> bytes:
    return _refuse(value, 'bytes: {"$bytes": base64}')


def _bytearray(value: Any) -> bytearray:
    return bytearray(value) if type(value) is bytes else _refuse(value, '{"$bytearray": base64}')


def _decimal(value: Any) -> decimal.Decimal:
    if type(value) in (int, float, str):
        # The shortest text of a float is what its JSON said.
        with contextlib.suppress(ArithmeticError):
            return lifting.read_decimal(str(value))
    return _refuse(value, "Decimal")


def _timedelta(value: Any) -> timedelta:
    if type(value) in (int, float):
        with contextlib.suppress(OverflowError, ValueError):
            return timedelta(seconds=value)
    return _read_text(value, temporal.read_duration, "a duration as seconds or ISO 8601 text")


def _read_text(value: Any, read: Callable[[str], _T], label: str) -> _T:
    if type(value) is str:
        with contextlib.suppress(ValueError):
            return read(value)
    return _refuse(value, label)


def _refuse(value: Any, wanted: str) -> typing.NoReturn:
    raise _Mismatch(f"{wanted} is wanted, not {_given(value)}")


def _given(value: Any) -> str:
    if value is None:
        return "null"
    if type(value) in (bool, int, float, str):
        return f"{value!r:.60}"
    return type(value).__name__


def _label(wanted: Any) -> str:
    return wanted.__qualname__ if isinstance(wanted, type) else str(wanted).replace("typing.", "")


_SCALARS: Final[dict[type, Callable[[Any], Any]]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes,
    bytearray: _bytearray,
    datetime: lambda v: _read_text(v, temporal.read_datetime, "a datetime as ISO 8601 text"),
    date: lambda v: _read_text(v, temporal.read_date, "a date as ISO 8601 text"),
    time: lambda v: _read_text(v, temporal.read_time, "a time as ISO 8601 text"),
    timedelta: _timedelta,
    decimal.Decimal: _decimal,
    uuid.UUID: lambda v: _read_text(v, uuid.UUID, "a UUID as text"),
    ZoneInfo: lambda v: _read_text(v, lambda t: temporal.read_zone(f"[{t}]"), "a time zone's key"),
}

_COLLECTIONS: Final[dict[Any, Callable[[list[Any]], Any]]] = {
    list: list,
    collections.deque: collections.deque,
    set: _distinct(set),
    frozenset: _distinct(frozenset),
    collections.abc.Set: _distinct(frozenset),
    collections.abc.MutableSet: _distinct(set),
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
}

_MAPPINGS: Final[dict[Any, Callable[[dict[Any, Any], tuple[Any, ...]], Any]]] = {
    dict: lambda entries, _: entries,
    collections.abc.Mapping: lambda entries, _: entries,
    collections.abc.MutableMapping: lambda entries, _: entries,
    collections.OrderedDict: lambda entries, _: collections.OrderedDict(entries),
    collections.Counter: lambda entries, _: collections.Counter(entries),
    collections.defaultdict: _defaultdict,
}
