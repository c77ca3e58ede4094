"""What records have left that the store does not have yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from perdure_node.core.batch import BatchBuilder
from perdure_node.core.left import Images, LeftByCommit

__all__ = ["Due", "Unapplied"]


class _Record:
    """What one record has left that is not durable yet."""

    __slots__ = ("bytes", "images", "number", "others", "time_ms")

    def __init__(
        self, number: int, images: Images, others: Sequence[LeftByCommit], bytes: int, time_ms: int
    ) -> None:
        self.number: Final = number
        self.images: Final = images
        self.others: Final = others
        """Few commits leave more than an image, so the rest of them need not be kept."""
        self.bytes: Final = bytes
        self.time_ms: Final = time_ms


class Due:
    """What durable records have left: the next batch for the store."""

    __slots__ = ("builder", "bytes", "images", "record")

    def __init__(self, record: int, builder_of: Callable[[Images], BatchBuilder]) -> None:
        """Begin with nothing.

        Args:
            record: What the store has, or is about to have.
            builder_of: Begins a batch with images that are still to come.
        """
        self.record = record
        """The last one that counts here."""
        self.images: Images = {}
        """What each object is after the last commit that has changed it."""
        self.builder: Final = builder_of(self.images)
        """Has these, and what commits leave that is more than an image."""
        self.bytes = 0


class Unapplied:
    """The records that the store of one partition does not have.

    Invariant: of durable records only that is kept which they leave together: of an object the last
    image, of a call that has ended no event. What was before it is let go of as soon as it is
    durable, and not when the store gets the rest: the next calls find its memory in the caches of
    the processor, as this finds what the commits hold.
    """

    def __init__(self, applied: int, builder_of: Callable[[Images], BatchBuilder]) -> None:
        """Begin with none.

        Args:
            applied: The last record that the store has.
            builder_of: Begins a batch with images that are still to come.
        """
        self._made: deque[_Record] = deque()
        self._builder_of: Final = builder_of
        self._due = Due(applied, builder_of)
        self._taken = applied
        self.bytes = 0
        """Of all these records, as `add` was told."""

    def __bool__(self) -> bool:
        """Tell whether there is something for the store, durable or not yet."""
        return bool(self._made) or self.is_due

    @property
    def is_due(self) -> bool:
        """Tell whether `take` has something."""
        return self._due.record > self._taken

    def add(
        self, record: int, images: Images, others: Sequence[LeftByCommit], bytes: int, time_ms: int
    ) -> None:
        """Add what a new record leaves.

        Args:
            record: Its number.
            images: The objects that it changes.
            others: Its commits that leave more than an image.
            bytes: What it counts.
            time_ms: Its time.
        """
        self._made.append(_Record(record, images, others, bytes, time_ms))
        self.bytes += bytes

    def durable(self, record: int) -> None:
        """Take word that all records up to this one are durable."""
        made, due = self._made, self._due
        while made and made[0].number <= record:
            one = made.popleft()
            due.record = one.number
            due.bytes += one.bytes
            due.images.update(one.images)
            for left in one.others:
                due.builder.add(left.commit, left.leaves, one.time_ms)

    def take(self) -> Due:
        """Take what durable records have left."""
        due = self._due
        self._taken = due.record
        self._due = Due(due.record, self._builder_of)
        self.bytes -= due.bytes
        return due
