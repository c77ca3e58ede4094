"""What MessagePack does not have, as extensions of it.

docs/values.md describes them for other languages.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["DEPTH_MAX", "FACTORIES", "Extension"]

DEPTH_MAX: Final = 64
"""Containers inside one another, the outermost included."""

FACTORIES: Final[dict[str, type]] = {f.__name__: f for f in (list, dict, set, int, float, str)}
"""What a defaultdict can be over."""


class Extension(enum.IntEnum):
    """The codes of extensions. They are on disk: add to them, never change or reuse one.

    "An array" and "a map" are MessagePack, "text" is UTF-8 without a header.
    """

    INT = 1
    """An int beyond 64 bits: two's complement, big-endian, as few bytes as hold it."""
    TUPLE = 2
    """An array."""
    SET = 3
    """An array, its items ordered by their bytes."""
    FROZENSET = 4
    """As SET."""
    DICT = 5
    """A dict with a key that is no scalar of MessagePack. An array: key, value, key, value..."""
    BYTEARRAY = 6
    """The bytes."""
    ORDERED_DICT = 7
    """As DICT."""
    COUNTER = 8
    """As DICT."""
    DEFAULTDICT = 9
    """An array: the factory's name or nil, key, value, key, value..."""
    DEQUE = 10
    """An array: maxlen or nil, items..."""
    DATETIME = 11
    """Text, see `temporal`."""
    DATE = 12
    """Text: ISO 8601."""
    TIME = 13
    """Text, see `temporal`."""
    TIMEDELTA = 14
    """An array of ints: days, seconds, microseconds. Only days can be negative."""
    ZONE = 15
    """A time zone by itself. Text, see `temporal`."""
    DECIMAL = 16
    """Text: scientific notation."""
    UUID = 17
    """16 bytes, and one more if it is known how safely it was made: 0 safe, 255 unsafe."""
    ENUM = 18
    """An array: class, and the member's name or, for a Flag, its int."""
    INSTANCE = 19
    """A dataclass instance or a model. An array: class, map of fields. For some models also: names
    of the fields that were set, map of extra fields, map of private attributes."""
    REFERENCE = 20
    """A handle. An array: type, id."""
