"""Values as JSON, for callers in other languages, and JSON as values.

What JSON has is written as itself; everything else is an object with one key that begins with
`$`. docs/values.md has the table. JSON that says two things, or a number that a reader would
change, is refused: repeated keys, NaN and Infinity, numbers that overflow.
"""

from __future__ import annotations

import base64
import decimal
import enum
import json
import math
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo

from perdure import codec, instances, lifting, lowering, temporal
from perdure.conversion import convert
from perdure.errors import BadPayload, PerdureError
from perdure.extensions import DEPTH_MAX, FACTORIES
from perdure.ids import ObjectKey

__all__ = ["convert", "from_json", "to_json"]

_INT_MAX: Final = 2**53 - 1
"""Beyond this JavaScript changes an int."""

_DIGITS_MAX: Final = 4_300
"""Digits of an int. Reading more takes a time that grows with their square."""

_INT: Final = re.compile(r"-?[0-9]+")
_ODD_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "-0.0": -0.0}
_AS_THEMSELVES: Final = frozenset({type(None), bool, str})
_ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def to_json(value: object) -> bytes:
    """Return a value as JSON, in UTF-8.

    Raises:
        NotEncodable: It holds something that cannot be written as it is.
    """
    try:
        tree = _out(value, DEPTH_MAX)
        text = json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except lowering.Refused as refused:
        problem = refused.problem
    except UnicodeEncodeError:
        problem = "text with a lone surrogate"
    codec.encode(value)  # Refuses the same but for long ints, and says where.
    raise codec.NotEncodable("", problem)


def from_json(data: bytes) -> Any:
    """Return the value of some JSON.

    Raises:
        BadPayload: It is no JSON, or says what is refused here (`codec.TooDeep`: too deep).
        UnknownType: An instance of a class that nobody registered, or whose fields have changed.
    """
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
        )
        lifting.check_depth(value)
        if _ESCAPED_SURROGATE.search(data):
            codec.encode(value)
        return value
    except RecursionError:
        raise codec.TooDeep from None
    except codec.NotEncodable:
        raise BadPayload("text with a lone surrogate") from None
    except PerdureError:
        raise
    except Exception as error:
        # Whatever a user's `__hash__` or default factory may raise is among them.
        raise BadPayload(f"no JSON value: {type(error).__name__}: {error}"[:300]) from None


def _out(value: Any, room: int) -> Any:
    """Return what `json` can write of a value that may have `room` levels of containers."""
    kind = type(value)
    if kind in _AS_THEMSELVES:
        return value
    if kind is int:
        return value if -_INT_MAX <= value <= _INT_MAX else {"$int": _digits(value)}
    if kind is float:
        return value if math.isfinite(value) and str(value) != "-0.0" else {"$float": str(value)}
    leaf = _LEAVES.get(kind)
    if leaf is not None:
        tag, write = leaf
        return {tag: write(value)}
    if (to_key := lowering.to_keys.get(kind)) is not None:
        return {"$ref": list(to_key(value))}
    if isinstance(value, enum.Enum):
        return {"$enum": lowering.enum_parts(value)}
    if room <= 0:
        raise lowering.TooManyLevels(f"more than {DEPTH_MAX} containers inside one another")
    return _container(value, kind, room - 1)


def _container(value: Any, kind: type, room: int) -> Any:
    if kind is list:
        return [_out(x, room) for x in value]
    if kind is dict:
        if all(type(key) is str for key in value) and not _looks_tagged(value):
            return {key: _out(x, room) for key, x in value.items()}
        return {"$dict": _pairs(value, room)}
    if kind is tuple:
        return {"$tuple": [_out(x, room) for x in value]}
    if kind in (set, frozenset):
        # In the order of their bytes, so that equal sets give equal JSON.
        items = sorted(value, key=lambda x: lowering.pack(lowering.lower(x, room)))
        return {f"${kind.__name__}": [_out(x, room) for x in items]}
    if kind is deque:
        return {"$deque": [value.maxlen, [_out(x, room) for x in value]]}
    if kind is defaultdict:
        return {"$defaultdict": [lowering.factory_name(value), _pairs(value, room)]}
    if kind in (OrderedDict, Counter):
        lowering.check_no_attributes(value)
        return {f"${kind.__name__.lower()}": _pairs(value, room)}
    name, *parts = lowering.instance_parts(value)
    return {"$value": [name, *(_out_part(part, room) for part in parts)]}


def _out_part(part: Any, room: int) -> Any:
    if isinstance(part, dict):
        return {key: _out(x, room) for key, x in part.items()}
    return part


def _pairs(items: Mapping[Any, Any], room: int) -> list[list[Any]]:
    return [[_out(key, room), _out(x, room)] for key, x in items.items()]


def _looks_tagged(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$")


def _digits(value: int) -> str:
    # Not `str`, whose own limit the process may have set otherwise.
    if value.bit_length() > _DIGITS_MAX * math.log2(10) - 1:
        raise lowering.Refused(f"an int of about {_DIGITS_MAX} digits or more: JSON has no more")
    return str(value)


def _base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


_LEAVES: Final[dict[type, tuple[str, Callable[[Any], Any]]]] = {
    bytes: ("$bytes", _base64),
    bytearray: ("$bytearray", _base64),
    datetime: ("$datetime", lowering.temporal_text),
    date: ("$date", date.isoformat),
    time: ("$time", lowering.temporal_text),
    timedelta: ("$timedelta", temporal.duration_text),
    timezone: ("$zone", lowering.temporal_text),
    ZoneInfo: ("$zone", lowering.temporal_text),
    decimal.Decimal: ("$decimal", lowering.decimal_text),
    uuid.UUID: ("$uuid", str),
}


def _object(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) == 1 and pairs[0][0].startswith("$"):
        tag, content = pairs[0]
        read = _READERS.get(tag)
        if read is None:
            raise BadPayload(
                f"there is no {tag!r:.50} in JSON values: an object with one key that begins "
                f'with $ is written as {{"$dict": [[key, value]]}}'
            )
        return read(content)
    value = dict(pairs)
    if len(value) != len(pairs):
        raise BadPayload("an object has a key twice")
    return value


def _int(text: str) -> int:
    if not _INT.fullmatch(text) or len(text.removeprefix("-")) > _DIGITS_MAX:
        raise BadPayload(f"an int of at most {_DIGITS_MAX} digits, not {text!r:.50}")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadPayload(f"{text:.50} is too large for a float")
    return value


def _constant(name: str) -> NoReturn:
    raise BadPayload(f'{name} is no JSON: write {{"$float": "nan"}}, "inf" or "-inf"')


def _odd_float(text: str) -> float:
    value = _ODD_FLOATS.get(text)
    return _float(text) if value is None else value


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _listed(content: Any) -> list[Any]:
    if type(content) is not list:
        raise BadPayload(f"an array belongs here, not {type(content).__name__}")
    return content


def _dict(content: Any) -> dict[Any, Any]:
    pairs = [_listed(pair) for pair in _listed(content)]
    value: dict[Any, Any] = dict(pairs)
    if len(value) != len(pairs):
        raise BadPayload("a key occurs twice")
    return value


def _frozenset(content: Any) -> frozenset[Any]:
    return lifting.distinct(_listed(content))


def _defaultdict(content: Any) -> defaultdict[Any, Any]:
    name, pairs = _listed(content)
    return defaultdict(None if name is None else FACTORIES[name], _dict(pairs))


def _deque(content: Any) -> deque[Any]:
    maxlen, items = _listed(content)
    return lifting.make_deque(maxlen, _listed(items))


def _enum(content: Any) -> enum.Enum:
    name, member = _listed(content)
    return instances.member_of(lifting.find_class(name, "enum"), name, member)


def _value(content: Any) -> Any:
    name, fields, *rest = _listed(content)
    return lifting.make_instance(name, fields, rest)


def _reference(content: Any) -> Any:
    type_name, object_id = _listed(content)
    if type(type_name) is not str or type(object_id) is not str:
        raise BadPayload("a reference is a type and an id")
    return lifting.make_reference(ObjectKey(type_name, object_id))


def _text(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return a reader that takes nothing but text."""

    def read_text(content: Any) -> Any:
        if type(content) is not str:
            raise BadPayload(f"text belongs here, not {type(content).__name__}")
        return read(content)

    return read_text


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$int": _text(_int),
    "$float": _text(_odd_float),
    "$bytes": _text(_unbase64),
    "$bytearray": _text(lambda text: bytearray(_unbase64(text))),
    "$tuple": lambda content: tuple(_listed(content)),
    "$set": lambda content: set(_frozenset(content)),
    "$frozenset": _frozenset,
    "$dict": _dict,
    "$ordereddict": lambda content: OrderedDict(_dict(content)),
    "$counter": lambda content: Counter(_dict(content)),
    "$defaultdict": _defaultdict,
    "$deque": _deque,
    "$datetime": _text(temporal.read_datetime),
    "$date": _text(temporal.read_date),
    "$time": _text(temporal.read_time),
    "$timedelta": _text(temporal.read_duration),
    "$zone": _text(temporal.read_zone),
    "$decimal": _text(lifting.read_decimal),
    "$uuid": _text(uuid.UUID),
    "$enum": _enum,
    "$value": _value,
    "$ref": _reference,
}
