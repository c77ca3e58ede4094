"""The rows of timers in a partition's store.

| key | row |
| --- | --- |
| `d` due NUL type NUL id NUL name | nothing: timers in the order of their due times |
| `n` type NUL id NUL name | `TimerSetting`, by object |
| `h` type NUL id NUL name | nothing: parked timers, which have no `d` row |

A due time has eight bytes, so that its bytes sort as it does.
"""

from __future__ import annotations

from typing import Final

from msgspec.msgpack import Decoder, Encoder

from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting

__all__ = [
    "DUE_PREFIX",
    "due_key",
    "due_of_key",
    "pack_timer",
    "parked_key",
    "parked_prefix",
    "timer_key",
    "timer_of_due_key",
    "timer_of_parked_key",
    "timers_prefix",
    "unpack_timer",
]

DUE_PREFIX: Final = b"d"

_encode: Final = Encoder().encode
_decode: Final = Decoder(TimerSetting).decode


def due_key(due_ms: int, key: ObjectKey, name: str) -> bytes:
    """Return the key of the row that has a timer in the order of due times."""
    return b"d%b\0%b\0%b\0%b" % (
        due_ms.to_bytes(8, "big"),
        key[0].encode(),
        key[1].encode(),
        name.encode(),
    )


def due_of_key(key: bytes) -> int:
    """Return the due time in such a key."""
    return int.from_bytes(key[1:9], "big")


def timer_of_due_key(key: bytes) -> tuple[ObjectKey, str]:
    """Return the object and the name in such a key."""
    type, id, name = key[10:].split(b"\0", 2)
    return ObjectKey(type.decode(), id.decode()), name.decode()


def parked_prefix(type: str = "") -> bytes:
    """Return what the keys of all parked timers begin with; or of those of one type."""
    return b"h%b\0" % type.encode() if type else b"h"


def parked_key(key: ObjectKey, name: str) -> bytes:
    """Return the key of the row by which a parked timer is found."""
    return b"h%b\0%b\0%b" % (key[0].encode(), key[1].encode(), name.encode())


def timer_of_parked_key(key: bytes) -> tuple[ObjectKey, str]:
    """Return the object and the name in such a key."""
    type, id, name = key[1:].split(b"\0", 2)
    return ObjectKey(type.decode(), id.decode()), name.decode()


def timers_prefix(key: ObjectKey) -> bytes:
    """Return what the keys of all timers of an object begin with."""
    return b"n%b\0%b\0" % (key[0].encode(), key[1].encode())


def timer_key(key: ObjectKey, name: str) -> bytes:
    """Return the key of a timer's row."""
    return timers_prefix(key) + name.encode()


def pack_timer(timer: TimerSetting) -> bytes:
    """Pack a timer."""
    return _encode(timer)


def unpack_timer(row: bytes) -> TimerSetting:
    """Unpack a timer."""
    return _decode(row)
