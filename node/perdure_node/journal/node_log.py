"""One partition's part of the node journal."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from crc32c import crc32c

from perdure_node.journal.batch import Waiting
from perdure_node.journal.extents import BodyReader
from perdure_node.journal.format import (
    BODY,
    CLAIM,
    RECORD_OVERHEAD,
    pack_chain,
    pack_prefix,
    record_at,
)
from perdure_node.log import LogDamaged, LogRecord

if TYPE_CHECKING:
    from perdure_node.journal.node_journal import NodeJournal

__all__ = ["NodeLog"]

_crc32c: Final = crc32c
"""Each record needs it, and so it needs no look-up where modules are compiled."""


def _ignore(durable: int) -> None:
    """Nobody has asked to be told."""


class NodeLog:
    """A `PartitionLog` whose records go into the node's journal."""

    def __init__(
        self,
        journal: NodeJournal,
        partition: int,
        *,
        first: int,
        last: int,
        chain: int,
        epoch: int,
        places: array[int],
        kept: list[bytes | None],
    ) -> None:
        self._journal = journal
        self._waiting: Waiting = journal.waiting
        self._chain = chain
        self._places = places
        """Positions of the records `first` to `last` among all bodies of the journal."""
        self._kept = first, kept
        """What the records from that one on hold, until `bodies` was asked for them."""
        self.partition = partition
        self.first = first
        self.last = last
        self.durable = last
        self.epoch = epoch
        self.on_durable: Callable[[int], None] = _ignore

    def append(self, body: bytes) -> int:
        """See `PartitionLog.append`."""
        return self._add(BODY, body)

    def claim(self, epoch: int, owner: str) -> int:
        """See `PartitionLog.claim`."""
        if epoch <= self.epoch:
            raise ValueError(f"epoch {epoch} is not above {self.epoch}")
        self.epoch = epoch
        return self._add(CLAIM, owner.encode())

    def _add(self, kind: int, body: bytes) -> int:
        self.last = sequence = self.last + 1
        chain = self._chain
        prefix = pack_prefix(len(body), self.partition, self.epoch, sequence, kind, chain)
        self._chain = chain = _crc32c(body, _crc32c(prefix, chain))

        position = self._waiting.add(self.partition, sequence, prefix, pack_chain(chain), body)
        self._places.append(position)
        return sequence

    def barrier(self) -> bool:
        """See `PartitionLog.barrier`: nobody else can write to this node's disk."""
        return True

    def read(self, after: int) -> Iterator[LogRecord]:
        """See `PartitionLog.read`."""
        self._check(after)
        end = self.durable
        base = self.first
        positions = self._places[after + 1 - base : end + 1 - base]
        return self._read(after + 1, positions)

    def bodies(self, after: int) -> Iterator[bytes | None]:
        """See `PartitionLog.bodies`."""
        self._check(after)
        first, kept = self._kept
        self._kept = first, []
        kept = kept[after + 1 - first :]
        rest = (None if r.is_claim else r.body for r in self.read(after + len(kept)))
        return itertools.chain(kept, rest)

    def _check(self, after: int) -> None:
        if after + 1 < self.first:
            text = f"records {after + 1} to {self.first - 1} are not there"
            raise LogDamaged(self.partition, text)

    def _read(self, sequence: int, positions: array[int]) -> Iterator[LogRecord]:
        with BodyReader(self._journal.directory, self._journal.extents) as bodies:
            for position in positions:
                try:
                    body, offset = bodies.at(position)
                except OSError as error:
                    raise LogDamaged(self.partition, f"record {sequence}: {error}") from error
                found = record_at(body, offset)
                if found is None or not found[1] or found[0].sequence != sequence:
                    raise LogDamaged(self.partition, f"record {sequence} cannot be read any more")
                record = found[0]
                begin = offset + RECORD_OVERHEAD
                payload = body[begin : begin + record.length]
                yield LogRecord(sequence, record.epoch, record.kind == CLAIM, payload)
                sequence += 1

    def trim(self, up_to: int) -> None:
        """See `PartitionLog.trim`."""
        up_to = min(up_to, self.durable)
        if up_to < self.first:
            return
        del self._places[: up_to + 1 - self.first]
        self.first = up_to + 1
        self._journal.trimmed()
