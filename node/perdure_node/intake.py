"""What a call has to be before a partition sees it."""

from __future__ import annotations

from typing import Final

from perdure.bodies import Request
from perdure.errors import BadKey, BadObjectId, BadPayload, TooLarge
from perdure.frames import Kind
from perdure.ids import ObjectKey, check_object_id, partition_of
from perdure.transport import CALL_BYTES_MAX

__all__ = ["Intake"]

# Members of an enum cost ten times as much to look up.
_KINDS: Final = frozenset(map(int, Kind))

_WITHOUT_OBJECT: Final = frozenset((int(Kind.CONFIRM), int(Kind.LIST)))

_ASK: Final = int(Kind.ASK)

_KNOWN_OBJECTS: Final = 16_384
"""Objects that are remembered: 8 MB, and a busy object's partition is never looked for again."""

_KNOWN_CHARACTERS: Final = 1_024
"""Of the names of an object and its type. Longer ones are looked at each time: who sends them
cannot fill the memory with them."""

_ENVELOPE_BYTES: Final = 65_536
"""What a call's body may hold beside its arguments: names, keys, what it confirms."""


class Intake:
    """Looks at the calls that come to one node."""

    def __init__(self, partition_count: int, key_bytes_max: int) -> None:
        """Begin.

        Args:
            partition_count: Of the cluster.
            key_bytes_max: The longest idempotency key.
        """
        self.partition_count: Final = partition_count
        self._key_bytes_max = key_bytes_max
        self._known: dict[str, dict[str, _Known]] = {}
        """Objects by type and id: a busy one is looked at once."""
        self.remembered = 0
        """How many objects these are."""

    def check(self, request: Request, partition: int, size: int) -> None:
        """Refuse what cannot be a call.

        Args:
            request: The call.
            partition: Where it was sent.
            size: Of its body, in bytes.

        Raises:
            PerdureError: Why.
        """
        kind = request.kind
        if kind not in _KINDS:
            raise BadPayload(f"there is no kind of call {kind}")
        if kind in _WITHOUT_OBJECT or (kind == _ASK and request.method == "list"):
            return
        of_type = self._known.get(request.type)
        known = None if of_type is None else of_type.get(request.id)
        if known is None:
            known = self._look_at(request.type, request.id)
        if known.partition != partition:
            raise BadPayload(
                f"{request.type}[{request.id}] is in partition {known.partition} of "
                f"{self.partition_count}, not in {partition}"
            )
        # Found faster, because it is the very key that others have been given.
        request.object_key = known.key
        if request.key is not None:
            _check_key(request.key, self._key_bytes_max)
        if size > CALL_BYTES_MAX + _ENVELOPE_BYTES:
            raise TooLarge(f"a call has at most {CALL_BYTES_MAX} bytes, this has {size}")

    def _look_at(self, type: str, id: str) -> _Known:
        """Take an object in.

        Raises:
            BadObjectId: There can be no such object.
        """
        check_object_id(id)
        if "\0" in type or not type:
            raise BadObjectId("a type's name is not empty and holds no NUL character")
        key = ObjectKey(type, id)
        known = _Known(key, partition_of(key, self.partition_count))
        if len(type) + len(id) > _KNOWN_CHARACTERS:
            return known
        if self.remembered >= _KNOWN_OBJECTS:
            # All at once: who is busy is back at once, and nobody pays for an order of use.
            self._known.clear()
            self.remembered = 0
        self._known.setdefault(type, {})[id] = known
        self.remembered += 1
        return known


class _Known:
    """An object that has been called."""

    __slots__ = ("key", "partition")

    def __init__(self, key: ObjectKey, partition: int) -> None:
        self.key: Final = key
        self.partition: Final = partition


def _check_key(key: str, limit: int) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise BadKey("an idempotency key is valid Unicode text") from None
    if not 0 < size <= limit:
        raise BadKey(f"an idempotency key has 1 to {limit} bytes of UTF-8, this has {size}")
