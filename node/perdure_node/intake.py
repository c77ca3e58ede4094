"""What a call has to be before a partition sees it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from perdure.bodies import Request
from perdure.errors import BadKey, BadObjectId, BadPayload, TooLarge
from perdure.frames import Kind
from perdure.ids import ObjectKey, check_object_id, partition_of
from perdure.transport import CALL_BYTES_MAX

__all__ = ["check_request"]

# Members of an enum cost ten times as much to look up.
_KINDS: Final = frozenset(map(int, Kind))

_WITHOUT_OBJECT: Final = frozenset((int(Kind.CONFIRM), int(Kind.LIST)))

_ASK: Final = int(Kind.ASK)

_KNOWN_OBJECTS: Final = 16_384
"""Objects that are remembered: 8 MB, and a busy object's partition is never looked for again."""

_ENVELOPE_BYTES: Final = 65_536
"""What a call's body may hold beside its arguments: names, keys, what it confirms."""


def check_request(
    request: Request, partition: int, size: int, partition_count: int, key_bytes_max: int
) -> None:
    """Refuse what cannot be a call.

    Args:
        request: The call.
        partition: Where it was sent.
        size: Of its body, in bytes.
        partition_count: Of the cluster.
        key_bytes_max: The longest idempotency key.

    Raises:
        PerdureError: Why.
    """
    kind = request.kind
    if kind not in _KINDS:
        raise BadPayload(f"there is no kind of call {kind}")
    if kind in _WITHOUT_OBJECT or (kind == _ASK and request.method == "list"):
        return
    actual, key = _known(request.type, request.id, partition_count)
    if actual != partition:
        raise BadPayload(
            f"{request.type}[{request.id}] is in partition {actual} of "
            f"{partition_count}, not in {partition}"
        )
    # Found faster, because it is the very key that others have been given.
    request.object_key = key
    if request.key is not None:
        _check_key(request.key, key_bytes_max)
    if size > CALL_BYTES_MAX + _ENVELOPE_BYTES:
        raise TooLarge(f"a call has at most {CALL_BYTES_MAX} bytes, this has {size}")


@lru_cache(maxsize=_KNOWN_OBJECTS)
def _known(type: str, id: str, partition_count: int) -> tuple[int, ObjectKey]:
    """Return the partition of an object, and its key, always the same.

    Raises:
        BadObjectId: There can be no such object.
    """
    check_object_id(id)
    if "\0" in type or not type:
        raise BadObjectId("a type's name is not empty and holds no NUL character")
    key = ObjectKey(type, id)
    return partition_of(key, partition_count), key


def _check_key(key: str, limit: int) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise BadKey("an idempotency key is valid Unicode text") from None
    if not 0 < size <= limit:
        raise BadKey(f"an idempotency key has 1 to {limit} bytes of UTF-8, this has {size}")
