"""Python values out of MessagePack with the extensions that `lowering` writes.

The bytes may be hostile. `codec` says what that can cost at most.
"""

from __future__ import annotations

import decimal
import enum
import gc
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec.msgpack import Ext

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

_COUNTED_BYTES_MAX: Final = 16_384
"""Counting is for small values. More bytes than this are taken to be deep."""

# Leaves extensions as they are, so that nothing but msgspec is on the stack.
_decode: Final = msgspec.msgpack.Decoder().decode
_DEEPEST: Final = b"\x91" * DEPTH_MAX + b"\xc0"

# Extension -1, of which msgspec makes a datetime by itself. Other things may look like it.
_TIMESTAMP: Final = re.compile(rb"[\xd6\xd7\x04\x08\x0c]\xff")

_DECIMALS: Final = decimal.Context(traps=[decimal.InvalidOperation])


def read(data: bytes, room: int = DEPTH_MAX) -> Any:
    """Return the value of some bytes.

    Args:
        data: One value.
        room: How many levels of containers it may have.

    Raises:
        BadPayload: They are no value, or a value with more levels (`TooDeep`).
        UnknownType: There is an instance of an unknown class.
    """
    try:
        return _read(data, room)
    except PerdureError:
        raise
    except (MemoryError, RecursionError):
        raise
    except msgspec.DecodeError as error:
        raise BadPayload(f"no MessagePack: {error}"[:300]) from None
    except Exception as error:
        # What the constructors of the types say, and a user's `__hash__` or default factory.
        raise BadPayload(f"no value: {type(error).__name__}: {error}"[:300]) from None


def check_depth(value: object, room: int = DEPTH_MAX) -> None:
    """Refuse a value with more than `room` levels of containers.

    Raises:
        TooDeep: It has more.
    """
    layer: list[Any] = [value]
    for _ in range(room + 1):
        layer = [x for x in layer if type(x) not in _FLAT]
        if not layer:
            return
        below: list[Any] = []
        for item in layer:
            kind = type(item)
            if kind in _SEQUENCES:
                below += item
            elif kind in _MAPPINGS:
                if not _are_scalars(map(type, item)):
                    below += item
                below += item.values()
            else:
                below += instances.parts_of(item).values()
        layer = below
    raise TooDeep


def _read(data: bytes, room: int) -> Any:
    if (
        len(data) <= room
        or (len(data) <= _COUNTED_BYTES_MAX and len(data.translate(None, _NO_HEADERS)) <= room)
    ) and (0xFF not in data or not _TIMESTAMP.search(data)):
        before = _last_extension[0]
        value = _decode_all(data)
        if _last_extension[0] is not before:
            # What is a key of a map may have been one. As an `Ext` it has no hash: refused.
            _decode(data)
        return value
    try:
        value = _decode(data)
    except RecursionError:
        # The interpreter's limit. Others may have used it up before: then this is one, too.
        _decode(_DEEPEST)
        raise TooDeep from None
    return value if type(value) in _SCALARS or _is_plain(value, room) else _resolve(value, room)


def _read_extension(code: int, payload: bytes | memoryview, room: int = DEPTH_MAX) -> Any:
    _last_extension[0] = object()
    reader = _READERS.get(code)
    if reader is None:
        raise BadPayload(f"there is no extension {code}")
    return reader(bytes(payload), room)


_decode_all: Final = msgspec.msgpack.Decoder(ext_hook=_read_extension).decode

_last_extension: Final = [object()]
"""Another object for each extension that is decoded, by whichever thread."""


def _is_plain(value: Any, room: int) -> bool:
    """Tell whether a decoded value has nothing but scalars, lists and dicts, and not too deep."""
    layer: list[Any] = [value]
    for _ in range(room):
        if not _LISTS_AND_DICTS.issuperset(map(type, layer)):
            return False
        # What is in them, in one call in C. It leaves out keys that are text.
        layer = [x for x in gc.get_referents(*layer) if type(x) not in _SCALARS]
        if not layer:
            return True
    return False


def _resolve(value: Any, room: int) -> Any:
    """Return a value with its extensions decoded. Lists and dicts are changed in place."""
    kind = type(value)
    if kind is Ext:
        return _read_extension(value.code, value.data, room)
    if kind is list:
        if room <= 0:
            raise TooDeep
        if not _are_scalars(map(type, value)):
            value[:] = [x if type(x) in _SCALARS else _resolve(x, room - 1) for x in value]
    elif kind is dict:
        if room <= 0:
            raise TooDeep
        if not _are_scalars(map(type, value)):
            for key in value:
                _check_key(key, room - 1)
        if not _are_scalars(map(type, value.values())):
            for key, x in value.items():
                if type(x) not in _SCALARS:
                    value[key] = _resolve(x, room - 1)
    elif kind not in _SCALARS:
        raise _no_timestamp()
    return value


def _check_key(key: Any, room: int) -> None:
    """Refuse a key of a map that is neither a scalar nor an array of such."""
    if type(key) is tuple:
        if room <= 0:
            raise TooDeep
        for part in key:
            _check_key(part, room - 1)
    elif type(key) not in _SCALARS:
        raise _no_timestamp()


def _no_timestamp() -> BadPayload:
    """Return the error about what msgspec makes by itself of an extension of MessagePack."""
    return BadPayload("there is no extension -1: a datetime is one of extension 11")


def _array(payload: bytes, room: int) -> list[Any]:
    items = _read(payload, room)
    if type(items) is not list:
        raise BadPayload("the content of this extension is an array")
    return items


def _record(payload: bytes, room: int, types: tuple[type, ...]) -> list[Any]:
    """Return an array of items of these types."""
    # The array is only how the extension is written: it is no level of the value.
    items = _array(payload, room + 1)
    if len(items) != len(types) or any(
        type(item) is not kind for item, kind in zip(items, types, strict=True)
    ):
        raise BadPayload(
            f"this extension is an array of {', '.join(kind.__name__ for kind in types)}"
        )
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


def _read_int(payload: bytes, _room: int) -> int:
    return int.from_bytes(payload, "big", signed=True)


def _read_tuple(payload: bytes, room: int) -> tuple[Any, ...]:
    return tuple(_array(payload, room))


def _read_set(payload: bytes, room: int) -> set[Any]:
    return set(distinct(_array(payload, room)))


def _read_frozenset(payload: bytes, room: int) -> frozenset[Any]:
    return distinct(_array(payload, room))


def _read_dict(payload: bytes, room: int) -> dict[Any, Any]:
    return _dict(_array(payload, room))


def _read_ordered_dict(payload: bytes, room: int) -> OrderedDict[Any, Any]:
    return OrderedDict(_dict(_array(payload, room)))


def _read_counter(payload: bytes, room: int) -> Counter[Any]:
    return Counter(_dict(_array(payload, room)))


def _read_defaultdict(payload: bytes, room: int) -> defaultdict[Any, Any]:
    name, *pairs = _array(payload, room)
    return defaultdict(None if name is None else FACTORIES[name], _dict(pairs))


def _read_deque(payload: bytes, room: int) -> deque[Any]:
    maxlen, *items = _array(payload, room)
    return make_deque(maxlen, items)


def _read_timedelta(payload: bytes, room: int) -> timedelta:
    days, seconds, microseconds = _record(payload, room, (int, int, int))
    return timedelta(days, seconds, microseconds)


def _read_uuid(payload: bytes, _room: int) -> uuid.UUID:
    if len(payload) == 16:
        return uuid.UUID(bytes=payload)
    safe = {0: uuid.SafeUUID.safe, 255: uuid.SafeUUID.unsafe}
    return uuid.UUID(bytes=payload[:-1], is_safe=safe[payload[-1]])


def _read_enum(payload: bytes, room: int) -> enum.Enum:
    name, member = _array(payload, room + 1)
    return instances.member_of(find_class(name, "enum"), name, member)


def _read_instance(payload: bytes, room: int) -> Any:
    name, fields, *rest = _array(payload, room + 1)
    return make_instance(name, fields, rest)


def _read_reference(payload: bytes, room: int) -> Any:
    type_name, object_id = _record(payload, room, (str, str))
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


_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
_are_scalars: Final = _SCALARS.issuperset
_LISTS_AND_DICTS: Final = frozenset({list, dict})
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
