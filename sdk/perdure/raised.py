"""Exceptions that leave a method, as bytes, and again as exceptions where the caller is.

The caller gets the class itself when its process knows it: a builtin one, or one that `values`
finds by its name. Else it gets a `RemoteError` that says which it was. Nothing is imported, and
no constructor of the user's runs: an exception comes back with the `args`, attributes and notes
that it had, and with the traceback of the other side as one note more.
"""

from __future__ import annotations

import builtins
import dataclasses
import os
import sys
import traceback
from typing import Any, Final

from perdure import codec, values
from perdure.errors import BadPayload, PerdureError, RemoteError, UnknownType

__all__ = ["describe_exception", "pack_exception", "unpack_exception"]

_MESSAGE_CHARACTERS_MAX: Final = 16_384
_TRACEBACK_CHARACTERS_MAX: Final = 16_384
"""Its first and its last half are kept: where it began, and what was raised."""

_GROUP_LEVELS_MAX: Final = 8
"""Exception groups inside one another. Below that an exception is a `RemoteError`."""

_HEADING: Final = "Traceback on the side of "
"""Begins the note that `unpack_exception` adds."""

# Neither can leave a coroutine as itself: Python makes a RuntimeError of them.
_BUILTINS: Final[dict[str, type[Exception]]] = {
    name: cls
    for name, cls in vars(builtins).items()
    if isinstance(cls, type)
    and issubclass(cls, Exception)
    and not issubclass(cls, StopIteration | StopAsyncIteration)
}


def pack_exception(error: BaseException, *, object: str, method: str, call_id: str) -> bytes:
    """Return the bytes of what left a method. Never fails.

    Args:
        error: What left it.
        object: `Type[id]`.
        method: The method's name.
        call_id: For people, to find the call in logs.
    """
    fields = _fields(error, 0)
    if not isinstance(error, RemoteError):
        fields |= {"object": object, "method": method, "call_id": call_id}
    fields["traceback"] = _traceback(error)
    return codec.encode(fields)


def unpack_exception(payload: bytes) -> Exception:
    """Return the exception of `pack_exception`, a new one each time.

    Raises:
        BadPayload: The bytes are no exception.
    """
    fields = _decode(payload)
    origin = f"{fields.get('object')}.{fields.get('method')}"
    error = _rebuild(fields, fields, 0)
    if text := fields.get("traceback"):
        _add_notes(error, [f"{_HEADING}{origin}, call {fields.get('call_id')}:\n{text}"])
    return error


def describe_exception(payload: bytes) -> tuple[str, str]:
    """Return the name of the exception's class and its message, for callers that are no Python.

    Raises:
        BadPayload: The bytes are no exception.
    """
    fields = _decode(payload)
    return fields["class"], fields["message"]


def _fields(error: BaseException, level: int) -> dict[str, Any]:
    if isinstance(error, RemoteError):
        # It was raised elsewhere: what was said about it there is still what counts.
        return {
            "class": error.code,
            "message": error.message,
            "object": error.object,
            "method": error.method,
            "call_id": error.call_id,
        }
    cls = type(error)
    fields: dict[str, Any] = {
        "class": _clean(cls.__qualname__.rpartition("<locals>.")[2]),
        "message": _message(error),
        "notes": _notes(error),
    }
    if _BUILTINS.get(cls.__name__) is cls:
        fields["known"] = "builtin"
    elif (name := _registered_name(cls)) is not None:
        fields |= {"known": "registered", "class": name}
    else:
        return fields
    try:
        args, attributes = _content(error)
        if isinstance(error, ExceptionGroup):
            if level >= _GROUP_LEVELS_MAX:
                raise codec.NotEncodable("", "too many groups inside one another")
            args = args[:1]
            fields["parts"] = [_fields(part, level + 1) for part in error.exceptions]
        fields["args"] = codec.encode(args)
    except codec.NotEncodable:
        del fields["known"]
        return fields
    kept: dict[str, bytes] = {}
    for attribute, value in attributes.items():
        try:
            kept[_clean(attribute)] = codec.encode(value)
        except codec.NotEncodable as refused:
            # The class is what `except` looks at, so it is kept; and the loss is said.
            fields["notes"].append(f"the attribute {attribute!r} stayed there: {refused}")
    fields["attributes"] = kept
    return fields


def _registered_name(cls: type[BaseException]) -> str | None:
    # Our own errors say what happened to a call, and that was another call than this one.
    if issubclass(cls, PerdureError) and cls.__module__.partition(".")[0] == "perdure":
        return None
    try:
        return values.name_of(cls)
    except TypeError:
        return None


def _builtin_base(cls: type[BaseException]) -> Any:
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _content(error: BaseException) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments and attributes that the builtin part of an exception has."""
    base = _builtin_base(type(error))
    # Not of `type(error)`: how the user's class wants to be pickled is of no matter here.
    reduced = base.__reduce__(error)
    attributes = dict(reduced[2]) if len(reduced) > 2 and reduced[2] else {}
    if dataclasses.is_dataclass(error):
        # With slots its fields are no part of its `__dict__`.
        names = [field.name for field in dataclasses.fields(error)]
        attributes |= {name: getattr(error, name) for name in names if hasattr(error, name)}
    return list(reduced[1]), {k: v for k, v in attributes.items() if not k.startswith("__")}


def _decode(payload: bytes) -> dict[str, Any]:
    fields = codec.decode(payload)
    _check(fields)
    return fields  # type: ignore[no-any-return]  # _check has looked


def _check(fields: object) -> None:
    if type(fields) is not dict or any(
        type(fields.get(name)) is not str for name in ("class", "message")
    ):
        raise BadPayload("an exception is a map with a class and a message")
    kinds = {"args": bytes, "attributes": dict, "parts": list, "notes": list, "traceback": str}
    for name, kind in kinds.items():
        if name in fields and type(fields[name]) is not kind:
            raise BadPayload(f"the field {name!r} of an exception is a {kind.__name__}")


def _rebuild(fields: dict[str, Any], origin: dict[str, Any], level: int) -> Exception:
    """Return the exception of some fields; `origin` are those that name the call."""
    error = _own_class(fields, origin, level)
    if error is None:
        names = (str(origin.get(name, "")) for name in ("object", "method", "call_id"))
        error = RemoteError(fields["class"], fields["message"], *names)
    _add_notes(error, [str(note) for note in fields.get("notes", ())])
    return error


def _own_class(fields: dict[str, Any], origin: dict[str, Any], level: int) -> Exception | None:
    """Return the exception as an instance of its own class, if that is possible here."""
    name = fields["class"]
    known = fields.get("known")
    try:
        cls = values.find(name, "error") if known == "registered" else _BUILTINS.get(name)
        if known is None or cls is None or "args" not in fields:
            return None
        args = codec.decode(fields["args"])
        attributes = {
            attribute: codec.decode(value)
            for attribute, value in fields.get("attributes", {}).items()
            if type(attribute) is str and not attribute.startswith("__")
        }
    except UnknownType:
        return None
    if "parts" in fields:
        if level >= _GROUP_LEVELS_MAX:
            return None
        for part in fields["parts"]:
            _check(part)
        args = [*args, [_rebuild(part, origin, level + 1) for part in fields["parts"]]]
    base = _builtin_base(cls)
    try:
        error = base.__new__(cls, *args)
        base.__init__(error, *args)
        for attribute, value in attributes.items():
            # Past any `__setattr__` of the class: a frozen dataclass has one that refuses.
            object.__setattr__(error, attribute, value)
    except Exception:
        # The class is another one here, or its attributes are not to be set.
        return None
    return error if isinstance(error, cls) and isinstance(error, Exception) else None


def _add_notes(error: Exception, notes: list[str]) -> None:
    # `add_note` fails where a class refuses that its attributes are set.
    if notes:
        object.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), *notes])


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as failed:
        text = f"(its text cannot be had: {type(failed).__name__})"
    return _clean(text)[:_MESSAGE_CHARACTERS_MAX]


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    if not isinstance(notes, list):
        return []
    # A traceback from farther away is part of this side's traceback.
    return [_clean(n) for n in notes if type(n) is str and not n.startswith(_HEADING)]


def _traceback(error: BaseException) -> str:
    """Return the traceback without the frames of the runtime that called the method."""
    inner = error.__traceback__
    packages = ("perdure", "perdure_node")
    own = (
        # Compiled modules name their files so, wherever they are.
        *(f"{name}/" for name in packages),
        *(
            os.path.dirname(os.path.abspath(file)) + os.sep
            for name in packages
            if (file := getattr(sys.modules.get(name), "__file__", None)) is not None
        ),
    )
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(own):
        inner = inner.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, inner)).rstrip("\n")
    except Exception as failed:
        text = f"(the traceback cannot be had: {type(failed).__name__})"
    if len(text) > _TRACEBACK_CHARACTERS_MAX:
        half = _TRACEBACK_CHARACTERS_MAX // 2
        text = f"{text[:half]}\n[...]\n{text[-half:]}"
    return _clean(text)


def _clean(text: str) -> str:
    """Return text that can be written: what is no Unicode becomes an escape."""
    return text.encode(errors="backslashreplace").decode()
