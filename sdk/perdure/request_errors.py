"""Errors of what is asked for: there is no such thing, or it cannot be."""

from __future__ import annotations

from perdure.error_families import PerdureError

__all__ = [
    "BadArguments",
    "BadKey",
    "BadObjectId",
    "BadPayload",
    "TextError",
    "TooLarge",
    "UnknownMethod",
    "UnknownType",
]


class UnknownType(PerdureError, LookupError):
    """No such type of object is registered."""

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(name, hint)
        self.type_name = name
        self.hint = hint

    def __str__(self) -> str:
        return f"there is no type {self.type_name!r}{self.hint}"


class UnknownMethod(PerdureError, AttributeError):
    """No such method can be called."""

    def __init__(self, type: str, method: str, hint: str = "") -> None:
        super().__init__(type, method, hint)
        self.type_name = type
        self.method = method
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.type_name} has no method {self.method!r}{self.hint}"


class TextError(PerdureError):
    """An error that is one text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text


class BadArguments(TextError, TypeError):
    """The arguments do not fit the method, which was not entered."""


class BadObjectId(TextError, ValueError):
    """Not a possible object id."""


class BadKey(TextError, ValueError):
    """Not a possible idempotency key."""


class BadPayload(TextError, ValueError):
    """Bytes that are no message, no value, or nothing that is allowed here."""


class TooLarge(TextError, ValueError):
    """One message over the limit."""
