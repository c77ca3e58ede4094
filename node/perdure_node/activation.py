"""Between an object in memory and its committed image: loading, and finding what changed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from perdure.codec import NotEncodable, decode, encode
from perdure.errors import StateNotStorable, StateTooLarge
from perdure.ids import ObjectKey
from perdure.objects import RESERVED, RESERVED_FOR_CLASSES, DurableObject, ObjectType
from perdure_node.core.state import DELETED

__all__ = ["Activation", "activate", "changed_attributes"]

_IMMUTABLE: Final = frozenset((int, str, bool, float, bytes, type(None)))
_ABSENT: Final = object()


class Activation:
    """One object in memory."""

    __slots__ = ("instance", "pending", "seen", "type", "uncommitted", "waking")

    def __init__(self, object_type: ObjectType, instance: DurableObject) -> None:
        self.type = object_type
        self.instance = instance
        self.seen: dict[str, object] = {}
        """Immutable values whose encoding is the committed one."""
        self.uncommitted: dict[str, bytes] | None = None
        """What differed from the image after an activation by a shared call: defaults of new
        attributes, what `on_activate` set. The next call that may commit takes it along."""
        self.pending = True
        """`on_activate` has not run yet."""
        self.waking: asyncio.Future[None] | None = None
        """`on_activate` runs, or has run."""


def activate(
    object_type: ObjectType, key: ObjectKey, state_version: int, image: dict[str, bytes]
) -> Activation:
    """Make an activation from an image that was stored under some state version.

    Raises:
        StateNotStorable: The state was written by a later version of the class.
        UnknownType: A stored value's class is not known here any more.
        Exception: Whatever the class's own `__init__` or `migrate` raises.
    """
    instance = object_type.new(key.id)
    attributes = vars(instance)
    activation = Activation(object_type, instance)
    if state_version != object_type.state_version:
        _migrate(object_type, key, state_version, image, attributes)
        return activation
    for name, value in image.items():
        if value == DELETED:
            attributes.pop(name, None)
        else:
            attributes[name] = decoded = decode(value)
            if type(decoded) in _IMMUTABLE:
                activation.seen[name] = decoded
    return activation


def _migrate(
    object_type: ObjectType,
    key: ObjectKey,
    state_version: int,
    image: dict[str, bytes],
    attributes: dict[str, Any],
) -> None:
    stored = {name: decode(value) for name, value in image.items() if value != DELETED}
    try:
        migrated = object_type.migrate(dict(stored), state_version)
    except ValueError as error:
        if state_version > object_type.state_version:
            raise StateNotStorable(str(key), str(error)) from None
        raise
    for name in image:
        if name not in migrated:
            attributes.pop(name, None)
    attributes.update(migrated)


def changed_attributes(
    activation: Activation, key: ObjectKey, base: dict[str, bytes], base_bytes: int
) -> dict[str, bytes]:
    """Return the attributes that differ from `base`, encoded; deleted ones as `DELETED`.

    Attributes are compared by their bytes, so that a change anywhere inside a container is
    found. Immutable values that are still the same object are not encoded again.

    Raises:
        StateNotStorable: An attribute cannot be stored; names the path and the type.
        StateTooLarge: The state would be over the type's limit.
    """
    attributes = activation.instance.__dict__
    seen = activation.seen
    changed: dict[str, bytes] = {}
    known = 0
    name = ""
    try:
        for name, value in attributes.items():
            if seen.get(name, _ABSENT) is value:
                known += 1
                continue
            if name[:1] == "_":
                continue
            data = encode(value)
            before = base.get(name)
            if before is not None:
                known += 1
            if before != data:
                if not before:
                    # It is new, or was deleted.
                    _check_name(activation.type, name, key)
                changed[name] = data
            if type(value) in _IMMUTABLE:
                seen[name] = value
            elif name in seen:
                del seen[name]
        if known < len(base):
            for name, before in base.items():
                if name not in attributes and before != DELETED:
                    changed[name] = DELETED
                    seen.pop(name, None)
        if changed:
            _check_size(activation, key, base, base_bytes, changed)
    except Exception as error:
        # The method may go on after a failed `save()`; nothing counts as committed then.
        seen.clear()
        if isinstance(error, NotEncodable):
            raise StateNotStorable(f"{key}.{name}{error.path}", error.problem) from None
        raise
    return changed


def _check_size(
    activation: Activation,
    key: ObjectKey,
    base: dict[str, bytes],
    base_bytes: int,
    changed: dict[str, bytes],
) -> None:
    grown = 0
    for name, data in changed.items():
        grown += len(data) - len(base.get(name, DELETED))
    if grown > 0 and base_bytes + grown > activation.type.max_state_bytes:
        limit = activation.type.max_state_bytes
        raise StateTooLarge(str(key), base_bytes + grown, limit)


def _check_name(object_type: ObjectType, name: str, key: ObjectKey) -> None:
    if name in object_type.methods:
        raise StateNotStorable(f"{key}.{name}", f"{object_type.name}.{name} is a method")
    if name in RESERVED or name in RESERVED_FOR_CLASSES:
        raise StateNotStorable(f"{key}.{name}", "a reserved name: choose another one")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise StateNotStorable(str(key), f"the attribute name {name!r} is no text") from None
