"""What a handle knows of its object's state.

Invariants:
  * The values are those of one committed state as a whole, the one of `version`.
  * The version never goes down, in whatever order answers arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.frames import Changes

if TYPE_CHECKING:
    from perdure.client import Answer

__all__ = ["Snapshot"]

_NOTHING = (0, 0)


class Snapshot:
    """Encoded attributes of one committed state, and which one it is."""

    __slots__ = ("left_out", "loaded", "values", "version")

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.left_out: set[str] = set()
        """Attributes that the object has and that were too large to come along."""
        self.version = _NOTHING
        """`(epoch, number)`."""
        self.loaded = False
        """False until a whole state has come."""

    def have(self) -> tuple[int, int]:
        """Return the version to send with a call, so that its answer brings what is missing."""
        return self.version if self.loaded else _NOTHING

    def take(self, answer: Answer) -> None:
        """Take in what an answer brings of the state, if anything."""
        reply = answer.reply
        if reply.changes is not None and reply.version is not None:
            epoch, number = reply.version
            self.apply((epoch, number), reply.changes)

    def apply(self, version: tuple[int, int], changes: Changes) -> bool:
        """Take in what an answer says of the state.

        Args:
            version: The version that the object has with these changes.
            changes: All that has changed since a version which this snapshot has reached, or
                the whole state.

        Returns:
            Whether this snapshot is of that version now; False when it has a later one.
        """
        if version < self.version:
            return False
        if changes.full:
            self._replace(version, changes)
            return True
        if not self.loaded or version[0] != self.version[0]:
            # Changes without their base: another answer has brought, or will bring, the whole.
            return False
        for name in changes.deleted:
            self.values.pop(name, None)
            self.left_out.discard(name)
        # What a refresh has loaded of the same state stays loaded.
        for name in changes.left_out if version > self.version else ():
            self.values.pop(name, None)
            self.left_out.add(name)
        self.values.update(changes.values)
        self.left_out.difference_update(changes.values)
        self.version = version
        return True

    def forget(self) -> None:
        """Drop all values: the object is gone. Answers from before stay outdated."""
        self.values = {}
        self.left_out = set()
        self.loaded = False

    def copy(self) -> Snapshot:
        """Return a snapshot of the same state that goes its own way."""
        other = Snapshot()
        other.values = dict(self.values)
        other.left_out = set(self.left_out)
        other.version = self.version
        other.loaded = self.loaded
        return other

    def _replace(self, version: tuple[int, int], changes: Changes) -> None:
        if self.loaded and version == self.version:
            # The same state once more: what a refresh has loaded stays loaded.
            self.values.update(changes.values)
            self.left_out.difference_update(changes.values)
            return
        self.values = dict(changes.values)
        self.left_out = set(changes.left_out)
        self.version = version
        self.loaded = True
