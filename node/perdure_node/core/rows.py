"""The rows of a partition's store.

| key | row |
| --- | --- |
| `o` type NUL id | an object: `[state version, {attribute: bytes, or None: in a row of its own}]` |
| `a` type NUL id NUL attribute | one large attribute |
| `s` session | a session window, see `SessionWindow.row` |
| `k` hour, type NUL id NUL method NUL key | `[digest of the arguments, code, payload]` |
| `p` type NUL id | a call in progress: `Progress` without its events |
| `e` type NUL id NUL number | an event of a call in progress or of a run: `[time, event]` |
| `x` partition, sequence | a call in the outbox: `OutboxEntry` |
| `c` partition | the highest sequence of the calls from here to that partition |
| `t` | the partition's time in milliseconds |

Types, ids and methods hold no NUL, so that no key is a prefix of another object's.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from msgspec.msgpack import Decoder, Encoder

from perdure.ids import ObjectKey
from perdure_node.core.commits import Progress
from perdure_node.core.events import Effect, Event, OutboxEntry, unpack_event

__all__ = [
    "HOUR_MS",
    "TIME_KEY",
    "attribute_key",
    "id_of",
    "keyed_key",
    "object_key",
    "object_prefix",
    "progress_key",
    "progress_prefix",
    "session_key",
]

HOUR_MS: Final = 3_600_000
LARGE_ATTRIBUTE_BYTES: Final = 4 << 10
"""An attribute over this has a row of its own, so that a change of another one does not write
it again."""

TIME_KEY: Final = b"t"

event_suffix: Final = Struct(">I").pack
"""Returns what the key of an event has after `event_prefix`: its number, so that they sort."""

_encode: Final = Encoder().encode
_decode: Final = Decoder().decode


def object_key(key: ObjectKey) -> bytes:
    """Return the key of an object's row."""
    return b"o%b\0%b" % (key[0].encode(), key[1].encode())


def object_prefix(type: str, prefix: str) -> bytes:
    """Return what the keys of all objects of a type whose ids begin with `prefix` begin with."""
    return b"o%b\0%b" % (type.encode(), prefix.encode())


def id_of(type: str, key: bytes) -> str:
    """Return the object id in the key of an object's row."""
    return key[len(type.encode()) + 2 :].decode()


def attribute_key(key: ObjectKey, attribute: str) -> bytes:
    """Return the key of a large attribute's row."""
    return b"a%b\0%b\0%b" % (key[0].encode(), key[1].encode(), attribute.encode())


def session_key(session: bytes) -> bytes:
    """Return the key of a session window's row. Sorted by the birth of the session."""
    return b"s" + session


def keyed_key(bucket_ms: int, key: ObjectKey, method: str, idempotency_key: str) -> bytes:
    """Return the key of an outcome under an idempotency key, in the hour of its commit."""
    return b"k%b%b\0%b\0%b\0%b" % (
        (bucket_ms // HOUR_MS).to_bytes(4, "big"),
        key[0].encode(),
        key[1].encode(),
        method.encode(),
        idempotency_key.encode(),
    )


def progress_key(key: ObjectKey) -> bytes:
    """Return the key of the call in progress of an object: an object has one at most."""
    return b"p%b\0%b" % (key[0].encode(), key[1].encode())


def progress_prefix() -> bytes:
    """Return what the keys of all calls in progress begin with."""
    return b"p"


def key_of_progress(key: bytes) -> ObjectKey:
    """Return the object whose call in progress has this key."""
    type, id = key[1:].split(b"\0", 1)
    return ObjectKey(type.decode(), id.decode())


def pack_object(state_version: int, image: dict[str, bytes]) -> bytes:
    """Pack an object's row, without its large attributes."""
    small = {
        name: value if len(value) <= LARGE_ATTRIBUTE_BYTES else None
        for name, value in image.items()
    }
    return _encode((state_version, small))


def unpack_object(row: bytes) -> tuple[int, dict[str, bytes | None]]:
    """Return the state version and the attributes of an object's row."""
    state_version, image = _decode(row)
    return state_version, image


def pack_row(row: list[Any] | tuple[Any, ...]) -> bytes:
    """Pack any other row."""
    return _encode(row)


def unpack_row(row: bytes) -> list[Any]:
    """Unpack any other row."""
    fields: list[Any] = _decode(row)
    return fields


def event_key(key: ObjectKey, number: int) -> bytes:
    """Return the key of an event of an object's call in progress."""
    return event_prefix(key) + event_suffix(number)


def event_prefix(key: ObjectKey) -> bytes:
    """Return what the keys of all events of an object's call in progress begin with."""
    return b"e%b\0%b\0" % (key[0].encode(), key[1].encode())


def outbox_key(partition: int, sequence: int) -> bytes:
    """Return the key of a call in the outbox."""
    return b"x" + partition.to_bytes(2, "big") + sequence.to_bytes(8, "big")


def outbox_prefix() -> bytes:
    """Return what the keys of all calls in the outbox begin with."""
    return b"x"


def sequence_key(partition: int) -> bytes:
    """Return the key of the highest sequence to a partition."""
    return b"c" + partition.to_bytes(2, "big")


def sequence_prefix() -> bytes:
    """Return what the keys of all highest sequences begin with."""
    return b"c"


def pack_progress(progress: Progress) -> bytes:
    """Pack a call in progress, without its events."""
    return _encode((progress.request, progress.start_image, progress.start_version))


def unpack_progress(row: bytes, events: list[Event]) -> Progress:
    """Unpack a call in progress."""
    request, start_image, start_version = _decode(row)
    return Progress(request, start_image, start_version, events)


def pack_effect(effect: Effect) -> bytes:
    """Pack an entry of the outbox."""
    return _encode(effect)


def pack_moment(time_ms: int, event: Event) -> bytes:
    """Pack an event and the time of its record."""
    return _encode((time_ms, event))


def unpack_outbox(row: bytes) -> OutboxEntry:
    """Unpack an entry of the outbox."""
    return OutboxEntry(*_decode(row))


def unpack_moment(row: bytes) -> tuple[int, Event]:
    """Return the time of an event's record, and the event."""
    time_ms, event = _decode(row)
    return time_ms, unpack_event(event)
