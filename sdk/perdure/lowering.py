"""Python values in terms of what MessagePack can write, by exact type.

`lower` returns None, bool, int, float, str, bytes, list and dict as they are and puts an `Ext`
in the place of everything else, so that `pack` never sees a value it could change. See `codec`
for why that matters.
"""

from __future__ import annotations

import decimal
import enum
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, Final

import msgspec
from msgspec.msgpack import Ext

from perdure import instances, temporal, values
from perdure.extensions import FACTORIES, Extension
from perdure.ids import ObjectKey

__all__ = [
    "Refused",
    "TooManyLevels",
    "check_no_attributes",
    "decimal_text",
    "enum_parts",
    "factory_name",
    "instance_parts",
    "lower",
    "pack",
    "temporal_text",
    "to_keys",
]


class Refused(Exception):
    """Something in a value cannot be written. `problem` says what, not where."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class TooManyLevels(Refused):
    """Too many containers inside one another, or one inside itself."""


to_keys: Final[dict[type, Callable[[Any], ObjectKey]]] = {}
"""Classes whose instances travel as references."""

SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
_are_scalars: Final = SCALARS.issuperset
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1

_write: Final = msgspec.msgpack.Encoder().encode

# Text of a Decimal depends on the context's capitals, so it is ours and not the user's.
_DECIMALS: Final = decimal.Context()


def pack(lowered: object) -> bytes:
    """Return the bytes of what `lower` returned.

    Raises:
        Refused: There is text in it that is no Unicode, or 4 GiB in one piece.
    """
    try:
        try:
            return _write(lowered)
        except OverflowError:
            return _write(_lower_large_ints(lowered))
    except UnicodeEncodeError:
        raise Refused("text with a lone surrogate") from None
    except msgspec.EncodeError as error:
        # A lowered value has nothing else in it that msgspec refuses.
        raise Refused(f"too much for MessagePack: {error}") from None


def lower(value: Any, room: int) -> Any:
    """Return a value in terms of MessagePack.

    Args:
        value: Anything.
        room: How many levels of containers it may have.

    Raises:
        Refused: There is something in it that cannot be written.
    """
    kind = type(value)
    if kind in SCALARS:
        return value
    if kind is dict:
        if room <= 0:
            raise TooManyLevels("")
        room -= 1
        # Loops, where lists have one call in C: most dicts are small.
        for key in value:
            if type(key) is not str:
                if not _are_native_keys(value):
                    return _extension(Extension.DICT, pack(_lower_pairs(value, room)))
                break
        for content in value.values():
            if type(content) not in SCALARS:
                return {k: x if type(x) in SCALARS else lower(x, room) for k, x in value.items()}
        return value
    if kind is list:
        if room <= 0:
            raise TooManyLevels("")
        if _are_scalars(map(type, value)):
            return value
        room -= 1
        return [x if type(x) in SCALARS else lower(x, room) for x in value]
    if (leaf := _LEAVES.get(kind)) is not None:
        return _extension(*leaf(value))
    return _lower_container(value, kind, room)


def _extension(code: int, payload: bytes) -> Ext:
    # msgspec takes no subclass of int.
    return Ext(int(code), payload)


def _lower_large_ints(lowered: Any) -> Any:
    """Put an extension in the place of every int beyond 64 bits, where the walk left it.

    Such a number as a key has made its dict an extension already.
    """
    kind = type(lowered)
    if kind is int and not _INT_MIN <= lowered <= _INT_MAX:
        size = (lowered + (lowered < 0)).bit_length() // 8 + 1
        return _extension(Extension.INT, lowered.to_bytes(size, "big", signed=True))
    if kind is list:
        return [_lower_large_ints(x) for x in lowered]
    if kind is dict:
        return {key: _lower_large_ints(x) for key, x in lowered.items()}
    return lowered


def _are_native_keys(keys: Iterable[object]) -> bool:
    for key in keys:
        kind = type(key)
        if kind is int:
            if not _INT_MIN <= key <= _INT_MAX:  # type: ignore[operator]  # it is an int
                return False
        elif kind not in SCALARS:
            return False
    return True


def _lower_pairs(items: Mapping[Any, Any], room: int) -> list[Any]:
    pairs: list[Any] = []
    for key, value in items.items():
        pairs.append(lower(key, room))
        pairs.append(lower(value, room))
    return pairs


def _lower_container(value: Any, kind: type, room: int) -> Ext:
    if (to_key := to_keys.get(kind)) is not None:
        return _extension(Extension.REFERENCE, pack(list(to_key(value))))
    if isinstance(value, enum.Enum):
        name, member = enum_parts(value)
        return _extension(Extension.ENUM, pack([name, lower(member, 0)]))
    if room <= 0:
        raise TooManyLevels("")
    code, payload = _CONTAINERS.get(kind, _write_instance)(value, room - 1)
    return _extension(code, payload)


def _write_tuple(value: tuple[Any, ...], room: int) -> tuple[int, bytes]:
    return Extension.TUPLE, pack([lower(x, room) for x in value])


def _write_set(value: set[Any], room: int) -> tuple[int, bytes]:
    return Extension.SET, _sorted_array(value, room)


def _write_frozenset(value: frozenset[Any], room: int) -> tuple[int, bytes]:
    return Extension.FROZENSET, _sorted_array(value, room)


def _sorted_array(items: Iterable[Any], room: int) -> bytes:
    # A set has no order of its own, and equal sets must give equal bytes.
    packed = sorted([pack(lower(x, room)) for x in items])
    return pack([msgspec.Raw(x) for x in packed])


def _write_ordered_dict(value: OrderedDict[Any, Any], room: int) -> tuple[int, bytes]:
    check_no_attributes(value)
    return Extension.ORDERED_DICT, pack(_lower_pairs(value, room))


def _write_counter(value: Counter[Any], room: int) -> tuple[int, bytes]:
    check_no_attributes(value)
    return Extension.COUNTER, pack(_lower_pairs(value, room))


def _write_defaultdict(value: defaultdict[Any, Any], room: int) -> tuple[int, bytes]:
    return Extension.DEFAULTDICT, pack([factory_name(value), *_lower_pairs(value, room)])


def factory_name(value: defaultdict[Any, Any]) -> str | None:
    """Return the name of a defaultdict's factory.

    Raises:
        Refused: It is none that is known by name.
    """
    factory = value.default_factory
    for name, known in FACTORIES.items():
        if factory is known:
            return name
    if factory is None:
        return None
    raise Refused(f"a defaultdict over something else than {', '.join(FACTORIES)}")


def _write_deque(value: deque[Any], room: int) -> tuple[int, bytes]:
    return Extension.DEQUE, pack([value.maxlen, *(lower(x, room) for x in value)])


def check_no_attributes(value: Any) -> None:
    """Refuse an OrderedDict or Counter that has attributes of its own.

    Raises:
        Refused: It has.
    """
    if value.__dict__:
        raise Refused(f"a {type(value).__name__} with attributes of its own")


def enum_parts(member: enum.Enum) -> list[Any]:
    """Return an Enum member's class and its name or, for a Flag, its value.

    Raises:
        Refused: The class is not known.
    """
    name = _known_name(type(member))
    if isinstance(member, enum.Flag):
        return [name, member.value]
    if type(member).__members__.get(member.name) is not member:
        raise Refused(f"{name}, of which this is no member")
    return [name, member.name]


def instance_parts(value: Any) -> list[Any]:
    """Return the class's name and the content of a dataclass instance or model.

    A model that was given all of its fields, has none beside them and no private attributes is
    told by its fields, as a dataclass instance is.

    Raises:
        Refused: It is neither, its class is not known, or it holds more than that.
    """
    cls = type(value)
    kind = values.kind_of(cls)
    if kind not in ("dataclass", "model"):
        raise Refused(_what(cls))
    name = _known_name(cls)
    try:
        if kind == "dataclass":
            return [name, instances.dataclass_fields(value)]
        return [name, *instances.model_parts(value)]
    except instances.Unstorable as error:
        raise Refused(str(error)) from None


def _write_instance(value: Any, room: int) -> tuple[int, bytes]:
    name, *parts = instance_parts(value)
    for at, part in enumerate(parts):
        if type(part) is dict and not _are_scalars(map(type, part.values())):
            parts[at] = {k: lower(x, room) for k, x in part.items()}
    return Extension.INSTANCE, pack([name, *parts])


def _known_name(cls: type) -> str:
    try:
        name = values.name_of(cls)
    except TypeError as error:
        raise Refused(str(error)) from None
    if name is None:
        raise Refused(f"{cls.__qualname__}, a class that is not known: give it to @durable.value")
    return name


def _what(cls: type) -> str:
    """Say what a value is whose class is on no list."""
    for base in (*SCALARS, list, dict, *_LEAVES, *_CONTAINERS):
        if base is not type(None) and issubclass(cls, base):
            return (
                f"{cls.__qualname__}, a subclass of {base.__name__}: only {base.__name__} itself "
                f"comes back as it was"
            )
    if hasattr(cls, "__await__"):
        return f"{cls.__qualname__}, which was not awaited"
    if any(base.__module__ == "perdure.objects" for base in cls.__mro__):
        return f"{cls.__qualname__}, a durable object: keep a handle to it, or its id"
    return cls.__qualname__


def temporal_text(value: datetime | time | tzinfo) -> str:
    """Return the text of a datetime, time or zone.

    Raises:
        Refused: There is a zone that other processes need not know.
    """
    try:
        text = temporal.zone_text(value) if isinstance(value, tzinfo) else temporal.text_of(value)
        text.encode()
    except UnicodeEncodeError:
        raise Refused("a time zone whose name has a lone surrogate") from None
    except ValueError as error:
        raise Refused(str(error)) from None
    return text


def decimal_text(value: decimal.Decimal) -> str:
    """Return the text of a Decimal, all its digits, in scientific notation where needed."""
    return _DECIMALS.to_sci_string(value)


def _write_timedelta(value: timedelta) -> tuple[int, bytes]:
    return Extension.TIMEDELTA, pack([value.days, value.seconds, value.microseconds])


def _write_uuid(value: uuid.UUID) -> tuple[int, bytes]:
    if value.is_safe is uuid.SafeUUID.unknown:
        return Extension.UUID, value.bytes
    return Extension.UUID, value.bytes + bytes([value.is_safe.value & 255])


_LEAVES: Final[dict[type, Callable[[Any], tuple[int, bytes]]]] = {
    bytearray: lambda value: (Extension.BYTEARRAY, bytes(value)),
    datetime: lambda value: (Extension.DATETIME, temporal_text(value).encode()),
    date: lambda value: (Extension.DATE, value.isoformat().encode()),
    time: lambda value: (Extension.TIME, temporal_text(value).encode()),
    timedelta: _write_timedelta,
    timezone: lambda value: (Extension.ZONE, temporal_text(value).encode()),
    zoneinfo.ZoneInfo: lambda value: (Extension.ZONE, temporal_text(value).encode()),
    decimal.Decimal: lambda value: (Extension.DECIMAL, decimal_text(value).encode()),
    uuid.UUID: _write_uuid,
}

_CONTAINERS: Final[dict[type, Callable[[Any, int], tuple[int, bytes]]]] = {
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_frozenset,
    OrderedDict: _write_ordered_dict,
    Counter: _write_counter,
    defaultdict: _write_defaultdict,
    deque: _write_deque,
}
