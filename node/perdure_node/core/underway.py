"""What a partition has under way: calls in progress with their journals, and calls that leave it.

Invariants:
  * An object has one call in progress at most: it holds its object.
  * A sequence to another partition is given once. It is durable before the call leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from perdure.ids import ObjectKey
from perdure_node.core import rows
from perdure_node.core.commits import Outcome, Progress, new_progress
from perdure_node.core.events import (
    CALL,
    Effect,
    Ended,
    Event,
    OutboxEntry,
    OutboxGone,
    Scheduled,
)
from perdure_node.core.left import Leaves
from perdure_node.core.run_rows import WORKFLOW

__all__ = ["Underway"]


Scan = Callable[[bytes], Iterable[tuple[bytes, bytes]]]
"""Returns all rows of a store whose keys begin with something, in order."""


class Underway:
    """What was committed of it."""

    def __init__(self, scan: Scan) -> None:
        """Read what the store has."""
        self.progress: dict[ObjectKey, Progress] = {}
        """Calls that a crash has interrupted, or would."""
        self.times: dict[ObjectKey, list[int]] = {}
        """When the events of these calls were recorded."""
        for row_key, row in scan(rows.progress_prefix()):
            key = rows.key_of_progress(row_key)
            moments = [rows.unpack_moment(e) for _, e in scan(rows.event_prefix(key))]
            self.progress[key] = rows.unpack_progress(row, [event for _, event in moments])
            self.times[key] = [time_ms for time_ms, _ in moments]
        self.outbox: dict[tuple[int, int], OutboxEntry] = {}
        for _, row in scan(rows.outbox_prefix()):
            entry = rows.unpack_outbox(row)
            self.outbox[entry.partition, entry.sequence] = entry
        self.sequences: dict[int, int] = {
            int.from_bytes(row_key[1:], "big"): rows.unpack_row(row)[0]
            for row_key, row in scan(rows.sequence_prefix())
        }
        """The highest sequence given, by target partition."""
        self._dirty: set[int] = set()

    def next_sequence(self, partition: int) -> int:
        """Return a new sequence for a call from here to a partition."""
        self.sequences[partition] = sequence = self.sequences.get(partition, 0) + 1
        self._dirty.add(partition)
        return sequence

    def take(
        self,
        key: ObjectKey | None,
        begun: Progress | None,
        outcomes: Sequence[Outcome],
        events: Sequence[Event],
        effects: Sequence[Effect],
    ) -> Leaves | None:
        """Take over a commit, whose fields these are; `begun` is its `progress`.

        Returns:
            What it leaves in the store beside images; None: nothing.
        """
        leaves = None
        if effects:
            self._take_outbox(effects)
            leaves = Leaves(0, ended=False)
        if key is None:
            return leaves
        if begun is not None:
            replaced = self.progress.get(key)
            request, image, version, _ = begun
            self.progress[key] = new_progress((request, image, version, [*events]))
            self._note(events)
            return Leaves(0, ended=False, dropped=len(replaced.events) if replaced else 0)
        progress = self.progress.get(key)
        if progress is None:
            return leaves
        before = len(progress.events)
        if (outcomes or len(events) == 1) and _end(progress, outcomes, events):
            del self.progress[key]
            journal = progress.events if key.type == WORKFLOW else ()
            return Leaves(before, ended=True, journal=journal)
        if events:
            progress.events.extend(events)
            self._note(events)
            return Leaves(before, ended=False)
        return leaves

    def extend(self, key: ObjectKey, events: Sequence[Event], effects: Sequence[Effect]) -> int:
        """Take over what is added to a call that goes on. Returns how many events it had."""
        if effects:
            self._take_outbox(effects)
        journal = self.progress[key].events
        before = len(journal)
        journal.extend(events)
        self._note(events)
        return before

    def _take_outbox(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, OutboxEntry):
                self.outbox[effect.partition, effect.sequence] = effect
                self._given(effect.partition, effect.sequence)
            elif isinstance(effect, OutboxGone):
                self.outbox.pop((effect.partition, effect.sequence), None)

    def take_rows(self) -> list[tuple[bytes, bytes]]:
        """Return the rows of sequences given since the last time.

        One that was given and never became durable may be among them: it is never used.
        """
        dirty, self._dirty = self._dirty, set()
        return [(rows.sequence_key(p), rows.pack_row([self.sequences[p]])) for p in dirty]

    def open_sequences(self) -> dict[int, set[int]]:
        """Return the sequences of calls from here that may not be over, by target partition."""
        found: dict[int, set[int]] = {}
        for partition, sequence in self.outbox:
            found.setdefault(partition, set()).add(sequence)
        for progress in self.progress.values():
            for event in progress.events:
                if isinstance(event, Scheduled) and event.kind == CALL:
                    found.setdefault(event.data[0], set()).add(event.data[1])
        return found

    def _note(self, events: Iterable[Event]) -> None:
        for event in events:
            if type(event) is Scheduled and event.kind == CALL:
                self._given(event.data[0], event.data[1])

    def _given(self, partition: int, sequence: int) -> None:
        if sequence > self.sequences.get(partition, 0):
            self.sequences[partition] = sequence
        self._dirty.add(partition)


def _end(progress: Progress, outcomes: Sequence[Outcome], events: Sequence[Event]) -> bool:
    """Tell whether a commit with these is the end of the call in progress of its object."""
    if len(events) == 1 and type(events[0]) is Ended:
        return True
    for outcome in outcomes:
        request = progress.request
        if outcome.sequence == request[2] and outcome.session == request[1]:
            return True
    return False
