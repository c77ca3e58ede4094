"""What a step was given, as people read it in an error."""

from __future__ import annotations

import reprlib
from typing import Final

from perdure import codec
from perdure.errors import BadPayload, UnknownType

__all__ = ["shown_arguments"]

_CHARACTERS_MAX: Final = 200

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60
_repr.maxlevel = 3


def shown_arguments(packed: bytes | None) -> str:
    """Return arguments in brackets, shortened; or the one payload that they are."""
    if not packed:
        return "()"
    try:
        value = codec.decode(packed)
    except (BadPayload, UnknownType):
        return f"({len(packed)} bytes)"
    match value:
        case [list() as args, dict() as kwargs]:
            parts = [*map(_repr.repr, args), *(f"{n}={_repr.repr(v)}" for n, v in kwargs.items())]
        case _:
            parts = [_repr.repr(value)]
    text = ", ".join(parts)
    return f"({text[:_CHARACTERS_MAX]}{'...' if len(text) > _CHARACTERS_MAX else ''})"
