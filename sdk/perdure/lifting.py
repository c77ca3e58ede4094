"""Python values out of MessagePack with the extensions that `lowering` writes.

The bytes may be hostile. `codec` says what that can cost at most.
"""

from __future__ import annotations

import decimal
import enum
import os
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Final
from zoneinfo import ZoneInfo

import ormsgpack

from perdure import instances, temporal, values
from perdure.errors import BadPayload, PerdureError, UnknownType
from perdure.extensions import DEPTH_MAX, FACTORIES, Extension
from perdure.ids import ObjectKey

__all__ = [
    "TooDeep",
    "check_depth",
    "distinct",
    "find_class",
    "from_key",
    "make_deque",
    "make_instance",
    "make_reference",
    "may_be_deep",
    "read",
    "read_decimal",
]


class TooDeep(BadPayload):
    """More than `DEPTH_MAX` containers inside one another."""

    def __init__(self, text: str = f"nested more than {DEPTH_MAX} levels deep") -> None:
        super().__init__(text)


from_key: list[Callable[[ObjectKey], Any]] = []
"""What makes a reference, last."""

_Reader = Callable[[bytes, int], Any]

# All but what containers and extensions of every size begin with.
_NO_HEADERS: Final = bytes(
    {*range(256)} - {*range(0x80, 0xA0), *range(0xC7, 0xCA), *range(0xD4, 0xD9), *range(0xDC, 0xE0)}
)

# Proves that a value ended where its bytes did. Random, so that nobody can send it.
_END: Final = os.urandom(16)
_TAIL: Final = b"\xc4\x10" + _END

_DECIMALS: Final = decimal.Context(traps=[decimal.InvalidOperation])

_failed = threading.local()
"""`error`: what a hook raised. ormsgpack replaces it by one that says nothing."""


def read(data: bytes, level: int = 0) -> Any:
    """Return the value of some bytes.

    Args:
        data: One value.
        level: How many extensions it is inside of.

    Raises:
        BadPayload: They are no value.
        UnknownType: There is an instance of an unknown class.
    """
    if level:
        if level > DEPTH_MAX:
            raise TooDeep
        if may_be_deep(data):
            # Nothing inside is decoded before it is known that the C stack can bear it.
            check_depth(_read(data, _ignore_extension))
    return _read(data, _HOOKS[level])


def may_be_deep(data: bytes) -> bool:
    """Tell whether there are enough possible beginnings of containers to be too deep."""
    return len(data) > DEPTH_MAX and len(data.translate(None, _NO_HEADERS)) > DEPTH_MAX


def check_depth(value: object) -> None:
    """Refuse a decoded value that is too deep.

    Raises:
        TooDeep: It is.
    """
    layer: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        layer = [x for x in layer if type(x) not in _FLAT]
        if not layer:
            return
        below: list[Any] = []
        for item in layer:
            kind = type(item)
            if kind in _SEQUENCES:
                below += item
            elif kind in _MAPPINGS:
                below += item
                below += item.values()
            else:
                below += instances.parts_of(item).values()
        layer = below
    raise TooDeep


def _read(data: bytes, hook: Callable[[int, bytes], Any]) -> Any:
    try:
        value, end = ormsgpack.unpackb(
            b"\x92" + data + _TAIL, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS
        )
    except ValueError as error:
        raise _cause(error) from None
    if end != _END:
        raise BadPayload("there are bytes behind the value")
    return value


def _cause(error: ValueError) -> BaseException:
    """Return why decoding failed: what a hook raised, or what ormsgpack says."""
    raised: BaseException | None = vars(_failed).pop("error", None)
    if raised is None:
        return BadPayload(f"no MessagePack: {error}")
    if isinstance(raised, PerdureError) or not isinstance(raised, Exception):
        return raised
    if isinstance(raised, MemoryError | RecursionError):
        return raised
    return BadPayload(f"no value: {type(raised).__name__}: {raised}"[:300])


def _make_hook(level: int) -> Callable[[int, bytes], Any]:
    def read_extension(code: int, payload: bytes) -> Any:
        try:
            reader = _READERS.get(code)
            if reader is None:
                raise BadPayload(f"there is no extension {code}")
            return reader(payload, level + 1)
        except BaseException as error:
            _failed.error = error
            raise

    return read_extension


def _ignore_extension(_code: int, _payload: bytes) -> None:
    return None


def _array(payload: bytes, level: int) -> list[Any]:
    items = read(payload, level)
    if type(items) is not list:
        raise BadPayload("the content of this extension is an array")
    return items


def _record(payload: bytes, level: int, types: tuple[type, ...]) -> list[Any]:
    """Return an array of some length whose first items are of these types."""
    items = _array(payload, level)
    if len(items) < len(types) or any(
        type(item) is not kind for item, kind in zip(items, types, strict=False)
    ):
        raise BadPayload(f"an array begins with {', '.join(kind.__name__ for kind in types)}")
    return items


def _dict(pairs: list[Any]) -> dict[Any, Any]:
    if len(pairs) % 2:
        raise BadPayload("a key without a value")
    content = dict(zip(pairs[::2], pairs[1::2], strict=True))
    if len(content) * 2 != len(pairs):
        raise BadPayload("a key occurs twice")
    return content


def distinct(items: list[Any]) -> frozenset[Any]:
    """Return the items of a set.

    Raises:
        BadPayload: One of them occurs twice.
    """
    content = frozenset(items)
    if len(content) != len(items):
        raise BadPayload("an item of a set occurs twice")
    return content


def make_deque(maxlen: object, items: list[Any]) -> deque[Any]:
    """Return a deque.

    Raises:
        BadPayload: It could not have so many items.
    """
    if maxlen is None:
        return deque(items)
    if type(maxlen) is not int or len(items) > maxlen:
        raise BadPayload("a deque has more items than it can")
    return deque(items, maxlen)


def make_instance(name: object, fields: object, rest: list[Any]) -> Any:
    """Return a dataclass instance or a model; a model may come with more than its fields.

    Raises:
        BadPayload: These are no parts of one.
        UnknownType: Nobody knows the class, or its fields have changed.
    """
    if type(name) is not str or type(fields) is not dict:
        raise BadPayload("an instance is the name of its class and its fields")
    cls = values.find(name, "model")
    if cls is not None:
        if len(rest) not in (0, 3):
            raise BadPayload(f"{name} is stored as its fields, or these and three things more")
        return instances.assemble_model(cls, name, [fields, *rest])
    cls = find_class(name, "dataclass")
    if rest:
        raise BadPayload("a dataclass instance has nothing but fields")
    return instances.assemble_dataclass(cls, name, fields)


def make_reference(key: ObjectKey) -> Any:
    """Return a handle to an object.

    Raises:
        BadPayload: Nobody can make one here.
    """
    if not from_key:
        raise BadPayload("there are no references here")
    return from_key[-1](key)


def find_class(name: object, kind: values.Kind) -> type:
    """Return the class of this name.

    Raises:
        BadPayload: It is no name.
        UnknownType: Nobody knows one.
    """
    if type(name) is not str:
        raise BadPayload("the name of a class is text")
    cls = values.find(name, kind)
    if cls is None:
        raise UnknownType(name, f" ({kind}): give the class to @durable.value, where it is defined")
    return cls


def read_decimal(text: str) -> decimal.Decimal:
    """Return the Decimal of a text, whatever the current context is.

    Raises:
        ArithmeticError: There is none.
    """
    return decimal.Decimal(text, _DECIMALS)


def _read_int(payload: bytes, _level: int) -> int:
    return int.from_bytes(payload, "big", signed=True)


def _read_tuple(payload: bytes, level: int) -> tuple[Any, ...]:
    return tuple(_array(payload, level))


def _read_set(payload: bytes, level: int) -> set[Any]:
    return set(distinct(_array(payload, level)))


def _read_frozenset(payload: bytes, level: int) -> frozenset[Any]:
    return distinct(_array(payload, level))


def _read_dict(payload: bytes, level: int) -> dict[Any, Any]:
    return _dict(_array(payload, level))


def _read_ordered_dict(payload: bytes, level: int) -> OrderedDict[Any, Any]:
    return OrderedDict(_dict(_array(payload, level)))


def _read_counter(payload: bytes, level: int) -> Counter[Any]:
    return Counter(_dict(_array(payload, level)))


def _read_defaultdict(payload: bytes, level: int) -> defaultdict[Any, Any]:
    name, *pairs = _array(payload, level)
    return defaultdict(None if name is None else FACTORIES[name], _dict(pairs))


def _read_deque(payload: bytes, level: int) -> deque[Any]:
    maxlen, *items = _array(payload, level)
    return make_deque(maxlen, items)


def _read_timedelta(payload: bytes, level: int) -> timedelta:
    days, seconds, microseconds = _record(payload, level, (int, int, int))
    return timedelta(days, seconds, microseconds)


def _read_uuid(payload: bytes, _level: int) -> uuid.UUID:
    if len(payload) == 16:
        return uuid.UUID(bytes=payload)
    safe = {0: uuid.SafeUUID.safe, 255: uuid.SafeUUID.unsafe}
    return uuid.UUID(bytes=payload[:-1], is_safe=safe[payload[-1]])


def _read_enum(payload: bytes, level: int) -> enum.Enum:
    name, member = _array(payload, level)
    return instances.member_of(find_class(name, "enum"), name, member)


def _read_instance(payload: bytes, level: int) -> Any:
    name, fields, *rest = _array(payload, level)
    return make_instance(name, fields, rest)


def _read_reference(payload: bytes, level: int) -> Any:
    type_name, object_id = _record(payload, level, (str, str))
    return make_reference(ObjectKey(type_name, object_id))


_READERS: Final[dict[int, _Reader]] = {
    Extension.INT: _read_int,
    Extension.TUPLE: _read_tuple,
    Extension.SET: _read_set,
    Extension.FROZENSET: _read_frozenset,
    Extension.DICT: _read_dict,
    Extension.BYTEARRAY: lambda payload, _: bytearray(payload),
    Extension.ORDERED_DICT: _read_ordered_dict,
    Extension.COUNTER: _read_counter,
    Extension.DEFAULTDICT: _read_defaultdict,
    Extension.DEQUE: _read_deque,
    Extension.DATETIME: lambda payload, _: temporal.read_datetime(payload.decode()),
    Extension.DATE: lambda payload, _: temporal.read_date(payload.decode()),
    Extension.TIME: lambda payload, _: temporal.read_time(payload.decode()),
    Extension.TIMEDELTA: _read_timedelta,
    Extension.ZONE: lambda payload, _: temporal.read_zone(payload.decode()),
    Extension.DECIMAL: lambda payload, _: read_decimal(payload.decode()),
    Extension.UUID: _read_uuid,
    Extension.ENUM: _read_enum,
    Extension.INSTANCE: _read_instance,
    Extension.REFERENCE: _read_reference,
}

_HOOKS: Final = [_make_hook(level) for level in range(DEPTH_MAX + 1)]

_SEQUENCES: Final = frozenset({list, tuple, set, frozenset, deque})
_MAPPINGS: Final = frozenset({dict, OrderedDict, Counter, defaultdict})
_FLAT: Final = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        str,
        bytes,
        bytearray,
        datetime,
        date,
        time,
        timedelta,
        timezone,
        ZoneInfo,
        decimal.Decimal,
        uuid.UUID,
    }
)
