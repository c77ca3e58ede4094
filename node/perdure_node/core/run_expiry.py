"""Runs that have ended go when their time is over, with their events, streams and tokens.

A run goes by a record, like all that changes: from then on there is none, and a START of its id
begins another one. What it has left in the store goes in the batch that has this record.

Invariants:
  * Only runs go whose end the store has: it is there that they are found.
  * A run goes after its tokens have heard that it lets go of them. So no word of it can be taken
    for word of a later run of the same id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from perdure import codec
from perdure.frames import Encoding, Kind
from perdure.ids import ObjectKey, partition_of
from perdure_node.core import expiry_rows as rows
from perdure_node.core.events import Effect, OutboxEntry, RunGone
from perdure_node.core.limits import Limits
from perdure_node.core.mailboxes import Mailboxes
from perdure_node.core.memory import Memory
from perdure_node.core.recorder import Recorder
from perdure_node.core.rows import LARGE_ATTRIBUTE_BYTES, unpack_row
from perdure_node.core.run_rows import TOKEN, WORKFLOW, RunRow

__all__ = ["RunExpiry"]

_TOKENS_MAX: Final = 1_000
"""A piece ends with a run that brings it to so many tokens."""

_OUTBOX_MAX: Final = 10_000
"""No run goes while so many calls are on their way: the nodes that they are for may be down."""


class RunExpiry:
    """Lets the runs of one partition go, piece by piece."""

    def __init__(
        self, memory: Memory, recorder: Recorder, mailboxes: Mailboxes, limits: Limits
    ) -> None:
        self._memory = memory
        self._recorder = recorder
        self._mailboxes = mailboxes
        self._limits = limits
        self._behind = {rows.BY_LIMIT: b"", rows.BY_WORKFLOW: b""}
        """Of each kind the row after which to go on. Those before have been looked at."""

    def sweep(self, limit: int, partition_count: int) -> tuple[bool, list[OutboxEntry]]:
        """Let some runs go whose time is over, those first that ended first.

        Args:
            limit: As many of them at most.
            partition_count: Of the cluster.

        Returns:
            Whether there may be more of them; and what is to be sent, once it is durable.
        """
        entries: list[OutboxEntry] = []
        outbox = self._memory.underway.outbox
        if len(outbox) >= _OUTBOX_MAX:
            return False, []
        told = {entry.id for entry in outbox.values() if entry.type == TOKEN}
        for row, events in self._due(limit):
            entries += self._let_go(row, events, told, partition_count)
            limit -= 1
            if len(entries) >= _TOKENS_MAX:
                limit = 0
            if not limit:
                return True, entries
        # From the start again the next time: the store gets rows late, and some had to wait.
        self._behind = dict.fromkeys(self._behind, b"")
        return False, entries

    def _due(self, limit: int) -> Iterator[tuple[bytes, int]]:
        """Give the rows of runs whose time is over, and how many events they have."""
        now_ms = self._memory.time_ms
        since = {rows.BY_WORKFLOW: now_ms}
        if self._limits.run_retention_ms >= 0:
            since[rows.BY_LIMIT] = now_ms - self._limits.run_retention_ms
        for prefix, last_ms in since.items():
            for row, packed in self._memory.scan(prefix, self._behind[prefix], limit):
                if rows.time_of(row) > last_ms:
                    break
                self._behind[prefix] = row
                yield row, unpack_row(packed)[0]

    def _let_go(
        self, row: bytes, events: int, told: set[str], partition_count: int
    ) -> list[OutboxEntry]:
        """Commit that a run goes. Returns what its tokens are told.

        Args:
            row: By which it was found.
            events: How many it has.
            told: Tokens that word is on its way to.
            partition_count: Of the cluster.
        """
        key = ObjectKey(WORKFLOW, rows.id_of(row))
        state = self._memory.state(key)
        if state is None or state.image is None:
            return []  # It has gone, and the store does not know yet.
        found = RunRow.of(state.image)
        tokens = found.tokens
        if rows.row_of_end(key.id, found.ended_ms, found.expires_ms) != row:
            return []  # Another one of its id: the store does not know yet.
        if self._mailboxes.get(key) is not None:
            return []  # Somebody calls it.
        if not told.isdisjoint(tokens):
            return []
        entries = [self._forget(key.id, token, partition_count) for token in tokens]
        streams = self._memory.streams
        lengths = [[name, streams.length(key.id, name)] for name in streams.names(key.id)]
        large = [n for n, value in state.image.items() if len(value) > LARGE_ATTRIBUTE_BYTES]
        effects: list[Effect] = [RunGone(row, events, lengths, large), *entries]
        self._recorder.commit_run_gone(key, effects)
        return entries

    def _forget(self, run: str, token: str, partition_count: int) -> OutboxEntry:
        """Return the call that deletes a token, unless somebody has claimed it since."""
        target = ObjectKey(TOKEN, token)
        partition = partition_of(target, partition_count)
        sequence = self._memory.underway.next_sequence(partition)
        if_so = codec.encode({"run": codec.encode(run), "closed": codec.encode(True)})
        return OutboxEntry(
            partition, sequence, *target, int(Kind.DELETE), "", int(Encoding.MSGPACK), if_so,
            None, None, [], 0,
        )  # fmt: skip
