"""An object's committed state in memory, with what callers and the store need to know of it."""

from __future__ import annotations

from typing import Any, Final

from perdure.frames import ChangesFields
from perdure.ids import ObjectKey
from perdure_node.core.limits import Limits

__all__ = ["DELETED", "ObjectState"]

DELETED: Final = b""
"""The value of an attribute that the object has deleted. It is kept, because `__init__` may set
the attribute again at the next activation, and deleted has to stay deleted."""


class ObjectState:
    """The last committed state of one object.

    "Committed" is ordered, not yet durable: whoever lets something out that was read here waits
    for the record `last_record`.
    """

    __slots__ = (
        "changed_at",
        "deferred",
        "image",
        "instance",
        "key",
        "last_record",
        "loaded_at",
        "number",
        "resident",
        "size",
        "state_version",
        "used_ms",
        "users",
    )

    def __init__(
        self, key: ObjectKey, image: dict[str, bytes] | None, state_version: int, number: int
    ) -> None:
        self.key = key
        self.image = image
        """Attribute to encoded value. None: there is no such object. Never changed in place:
        a commit makes a new dict, so that records and readers may keep the old one."""
        self.state_version = state_version
        self.number = number
        """Of the last commit, counted per partition and epoch."""
        self.loaded_at = number
        """The number at which this came into memory. What changed earlier is not known."""
        self.changed_at: dict[str, int] = {}
        self.last_record = 0
        self.size = sum(map(len, image.values())) if image else 0
        self.instance: Any = None
        """The activation, when there is one. What it is made of is the shell's business."""
        self.deferred: list[Any] | None = None
        """Outcomes of calls since the last `save()`, of an object that persists on save only."""
        self.used_ms = 0
        self.resident = True
        """Counted as in memory. False: passivated, and only kept until the store has it."""
        self.users = 0
        """Calls that run on it now. While there are any it stays in memory."""

    def commit(self, values: dict[str, bytes], number: int) -> None:
        """Take over changed attributes."""
        if values:
            image = self.image or {}
            self.image = {**image, **values}
            changed_at = self.changed_at
            for name, value in values.items():
                changed_at[name] = number
                self.size += len(value) - len(image.get(name, DELETED))
        self.number = number

    def create(self, values: dict[str, bytes], state_version: int, number: int) -> None:
        """Begin anew with these attributes."""
        self.image = values
        self.state_version = state_version
        self.size = sum(map(len, values.values()))
        self.number = self.loaded_at = number
        self.changed_at = {}

    def delete(self, number: int) -> None:
        """Become a deleted object."""
        self.image = None
        self.size = 0
        self.number = self.loaded_at = number
        self.changed_at = {}
        self.forget_instance()

    def forget_instance(self) -> None:
        """Drop the activation. The next call makes a new one from the image."""
        self.instance = None

    def changes_since(
        self, epoch: int, have: list[int] | tuple[int, int], limits: Limits | None
    ) -> ChangesFields | None:
        """Return what a copy of version `have` lacks, as `frames.Changes` says it; None: nothing.

        Args:
            epoch: Of the partition.
            have: The version `(epoch, number)` of the caller's copy; (0, 0): it has none.
            limits: None: leave nothing out.
        """
        image = self.image
        if image is None:
            return None
        since = have[1]
        if have[0] == epoch and since >= self.loaded_at:
            if since >= self.number:
                return None
            full = False
            names = [name for name, number in self.changed_at.items() if number > since]
        else:
            full = True
            names = list(image)
        values: dict[str, bytes] = {}
        deleted: list[str] = []
        left_out: list[str] = []
        room = limits.snapshot_bytes_max if limits is not None else 0
        for name in names:
            value = image[name]
            if value == DELETED:
                if not full:
                    deleted.append(name)
            elif limits is None:
                values[name] = value
            elif len(value) <= limits.snapshot_attribute_bytes_max and len(value) <= room:
                values[name] = value
                room -= len(value)
            else:
                left_out.append(name)
        return full, values, deleted, left_out
