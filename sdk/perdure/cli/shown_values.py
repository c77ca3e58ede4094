"""Values as they travel, for people and programs that have none of the user's classes.

`json_of` says the same as `jsonvalue.to_json` does where the classes are known.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final

import msgspec
from msgspec.msgpack import Ext

from perdure import raised, temporal
from perdure.answers import Answer, error_of
from perdure.errors import BadPayload, Code
from perdure.extensions import Extension
from perdure.frames import Encoding, Reply

__all__ = [
    "arguments_as_json",
    "arguments_text",
    "error_as_json",
    "error_text",
    "json_of",
    "shortened",
    "text_of",
]

_INT_MAX: Final = 2**53 - 1

# Leaves extensions as they are.
_decode: Final = msgspec.msgpack.Decoder().decode


def json_of(packed: bytes, encoding: int = Encoding.MSGPACK) -> Any:
    """Return a value as JSON has it, `docs/values.md` says how.

    Bytes that are no value become `{"$unreadable": base64}`: nothing is left out.
    """
    try:
        if encoding == Encoding.JSON:
            return json.loads(packed) if packed else None
        return _out(_decode(packed)) if packed else None
    except (ValueError, TypeError, msgspec.MsgspecError, RecursionError):
        return {"$unreadable": base64.b64encode(packed).decode()}


def _out(value: Any) -> Any:
    kind = type(value)
    if kind is Ext:
        return _extension(value.code, bytes(value.data))
    if kind is int and not -_INT_MAX <= value <= _INT_MAX:
        return {"$int": str(value)}
    if kind is float and (not math.isfinite(value) or str(value) == "-0.0"):
        return {"$float": str(value)}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if kind is list:
        return [_out(item) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value) and not _looks_tagged(value):
            return {key: _out(item) for key, item in value.items()}
        return {"$dict": [[_out(key), _out(item)] for key, item in value.items()]}
    return value


def _looks_tagged(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$")


def _extension(code: int, data: bytes) -> Any:
    if code in _TEXTS:
        return {_TEXTS[code]: data.decode()}
    if code in _ARRAYS:
        return {_ARRAYS[code]: _out(_decode(data))}
    if code in _DICTS:
        return {_DICTS[code]: _pairs(_decode(data))}
    read = _OTHERS.get(code)
    if read is None:
        raise ValueError(f"there is no extension {code}")
    return read(data)


def _pairs(items: list[Any]) -> list[list[Any]]:
    found = [_out(item) for item in items]
    return [list(pair) for pair in zip(found[::2], found[1::2], strict=True)]


def _int(data: bytes) -> Any:
    return {"$int": str(int.from_bytes(data, "big", signed=True))}


def _defaultdict(data: bytes) -> Any:
    name, *pairs = _decode(data)
    return {"$defaultdict": [name, _pairs(pairs)]}


def _deque(data: bytes) -> Any:
    maxlen, *items = _decode(data)
    return {"$deque": [maxlen, [_out(item) for item in items]]}


def _timedelta(data: bytes) -> Any:
    return {"$timedelta": temporal.duration_text(timedelta(*_decode(data)))}


def _uuid(data: bytes) -> Any:
    digits = data[:16].hex()
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return {"$uuid": "-".join(parts)}


def _instance(data: bytes) -> Any:
    name, *parts = _decode(data)
    return {"$value": [name, *(_part(part) for part in parts)]}


def _part(part: Any) -> Any:
    if type(part) is dict:
        return {key: _out(item) for key, item in part.items()}
    return _out(part)


_TEXTS: Final[dict[int, str]] = {
    Extension.DATETIME: "$datetime",
    Extension.DATE: "$date",
    Extension.TIME: "$time",
    Extension.ZONE: "$zone",
    Extension.DECIMAL: "$decimal",
}
_ARRAYS: Final[dict[int, str]] = {
    Extension.TUPLE: "$tuple",
    Extension.SET: "$set",
    Extension.FROZENSET: "$frozenset",
    Extension.ENUM: "$enum",
    Extension.REFERENCE: "$ref",
}
_DICTS: Final[dict[int, str]] = {
    Extension.DICT: "$dict",
    Extension.ORDERED_DICT: "$ordereddict",
    Extension.COUNTER: "$counter",
}
_OTHERS: Final[dict[int, Callable[[bytes], Any]]] = {
    Extension.INT: _int,
    Extension.BYTEARRAY: lambda data: {"$bytearray": base64.b64encode(data).decode()},
    Extension.DEFAULTDICT: _defaultdict,
    Extension.DEQUE: _deque,
    Extension.TIMEDELTA: _timedelta,
    Extension.UUID: _uuid,
    Extension.INSTANCE: _instance,
}


# For people.


def text_of(value: Any) -> str:
    """Return what `json_of` has returned as one line: `Line(sku="a", n=1)`, `{"count": 1}`."""
    if type(value) is dict:
        if _looks_tagged(value):
            [(tag, content)] = value.items()
            return _tagged_text(tag, content)
        return "{" + ", ".join(f"{_quoted(k)}: {text_of(v)}" for k, v in value.items()) + "}"
    if type(value) is list:
        return f"[{_listed(value)}]"
    return _quoted(value)


def _quoted(value: Any) -> str:
    return _harmless(json.dumps(value, ensure_ascii=False))


def _harmless(text: str) -> str:
    """Return a text without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _listed(items: Iterable[Any]) -> str:
    return ", ".join(text_of(item) for item in items)


def _tagged_text(tag: str, content: Any) -> str:
    match tag:
        case "$value":
            return f"{_harmless(content[0])}({_named(content[1])})"
        case "$tuple":
            return f"({_listed(content)}{',' if len(content) == 1 else ''})"
        case "$set" | "$frozenset":
            return f"{{{_listed(content)}}}" if content else "set()"
        case "$enum":
            return _harmless(".".join(str(part) for part in content))
        case "$ref":
            return _harmless(f"{content[0]}[{content[1]}]")
        case "$bytes" | "$bytearray" | "$unreadable":
            size = len(base64.b64decode(content))
            return f"<{size:,} {'unreadable ' if tag == '$unreadable' else ''}bytes>"
        case "$dict" | "$ordereddict" | "$counter":
            return _pairs_text(content)
        case "$defaultdict":
            return _pairs_text(content[1])
        case "$deque":
            return f"[{_listed(content[1])}]"
        case "$float" | "$int" | "$decimal" | "$date" | "$time" | "$datetime" | "$timedelta":
            return _harmless(str(content))
        case _:
            return text_of(content)


def _pairs_text(pairs: list[list[Any]]) -> str:
    return "{" + ", ".join(f"{text_of(key)}: {text_of(item)}" for key, item in pairs) + "}"


def _named(fields: dict[str, Any]) -> str:
    return ", ".join(f"{_harmless(name)}={text_of(value)}" for name, value in fields.items())


def arguments_text(packed: bytes, encoding: int = Encoding.MSGPACK) -> str:
    """Return the arguments of a call as they are written in one: `"a", n=1`."""
    value = json_of(packed, encoding)
    if value is None:
        return ""
    if encoding == Encoding.JSON:
        return _named(value) if type(value) is dict else _listed(value)
    match value:
        case [list() as positional, dict() as named]:
            return ", ".join([*map(text_of, positional), *([_named(named)] if named else [])])
    return text_of(value)


def arguments_as_json(packed: bytes, encoding: int = Encoding.MSGPACK) -> dict[str, Any]:
    """Return the arguments of a call: those by position, and those by name."""
    match json_of(packed, encoding):
        case [list() as positional, dict() as named] if encoding == Encoding.MSGPACK:
            return {"positional": positional, "named": named}
        case list() as positional:
            return {"positional": positional, "named": {}}
        case dict() as named:
            return {"positional": [], "named": named}
    return {"positional": [], "named": {}}


def shortened(text: str, width: int) -> str:
    """Return a text of `width` characters at most; if it is longer, with a count of the rest."""
    if len(text) <= width:
        return text
    # How many are left out may have a digit and a comma more than how many are too many.
    kept = max(0, width - len(f"...(+{len(text) - width:,})") - 2)
    return f"{text[:kept]}...(+{len(text) - kept:,})"


def error_as_json(code: int, payload: bytes) -> dict[str, Any]:
    """Return an error as its class, its message and, if there is one, its traceback."""
    if code == Code.RAISED:
        try:
            name, message = raised.describe_exception(payload)
        except BadPayload:
            return {"class": "unreadable", "message": text_of(json_of(payload))}
        traceback = json_of(payload).get("traceback")
        return {"class": name, "message": message, "traceback": traceback}
    error = error_of(Answer(code, Reply(payload, None, None)))
    return {"class": type(error).__name__, "message": str(error), "traceback": None}


def error_text(code: int, payload: bytes) -> str:
    """Return an error in one line."""
    error = error_as_json(code, payload)
    message = " ".join(error["message"].split())
    return f"{error['class']}: {message}" if message else error["class"]
