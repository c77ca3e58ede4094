"""The one interface to durability: a partition's log.

A record is durable when `durable` has reached its sequence; `on_durable` tells so, on the event
loop, in order. Nothing that depends on a record may leave before that.

Invariants that every implementation keeps:
  * Sequences of a partition are dense: 1, 2, 3, ... over restarts and owners.
  * Records become durable in their order. If one cannot become durable, no later one does.
  * What was durable once is read again after every restart, or opening the log fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

__all__ = ["LogDamaged", "LogRecord", "PartitionLog"]


class LogDamaged(Exception):
    """Records of one partition that were durable cannot be read. No other partition is touched."""

    def __init__(self, partition: int, text: str) -> None:
        super().__init__(partition, text)
        self.partition = partition
        self.text = text

    def __str__(self) -> str:
        return f"the log of partition {self.partition} is damaged: {self.text}"


class LogRecord(NamedTuple):
    """One record, as it is read again."""

    sequence: int
    epoch: int
    is_claim: bool
    """Written by `claim`: the body is the owner's name in UTF-8."""
    body: bytes


class PartitionLog(Protocol):
    """The log of one partition. Everything is called on the event loop."""

    partition: int

    first: int
    """The first sequence that can be read. `last + 1` when there is none."""

    last: int
    """The last sequence given to a record."""

    durable: int
    """The last sequence that survives a power cut."""

    epoch: int
    """The epoch that records carry, 0 before the first claim."""

    on_durable: Callable[[int], None]
    """Called with `durable` each time it rises. Set by the owner of the log."""

    def append(self, body: bytes) -> int:
        """Add a record and return its sequence at once. It is durable later."""
        ...

    def claim(self, epoch: int, owner: str) -> int:
        """Add the record that begins an epoch, and give all later records this epoch.

        Raises:
            ValueError: The epoch is not above the log's own.
        """
        ...

    def barrier(self) -> bool:
        """Tell whether ownership is proven at this moment."""
        ...

    def read(self, after: int) -> Iterator[LogRecord]:
        """Read the durable records above `after`, in order, without gaps.

        Raises:
            LogDamaged: A record is not there any more or cannot be read.
        """
        ...

    def bodies(self, after: int) -> Iterator[bytes | None]:
        """Read the same, but only what the records hold; None: a claim.

        For recovery, once: what is kept in memory for it is let go then.

        Raises:
            LogDamaged: As `read`.
        """
        ...

    def trim(self, up_to: int) -> None:
        """Say that no record up to and including `up_to` is needed any more."""
        ...
