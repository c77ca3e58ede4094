"""From durable records to rows of the store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from perdure import codec
from perdure.ids import ObjectKey
from perdure_node.core import rows
from perdure_node.core.commits import Commit, Progress
from perdure_node.core.events import Chunk, Effect, Event, OutboxEntry, OutboxGone, RunGone
from perdure_node.core.expiry_rows import row_of_end
from perdure_node.core.left import Images, Leaves
from perdure_node.core.run_rows import WORKFLOW
from perdure_node.core.stream_rows import chunk_key, chunk_prefix, pack_chunk, summary_key

__all__ = ["Batch", "BatchBuilder"]

_ROWS_MAX: Final = 500
"""More rows under one prefix are cleared together. Whatever is read next then takes longer, until
the store flushes: thousands of such prefixes are noticed."""


class Batch(NamedTuple):
    """Rows for the store, to be written at once, together with `applied`."""

    puts: list[tuple[bytes, bytes]]
    deletes: list[bytes]
    """None of them is in `puts`."""
    applied: int
    cleared: list[bytes]
    """Whatever the store has under these prefixes goes, before anything is put."""


class BatchBuilder:
    """Gathers what commits leave in the store. Of each row only the last value is written."""

    def __init__(
        self,
        images: Images,
        large_rows_of: Callable[[ObjectKey], Iterable[bytes]],
        progress_rows: set[ObjectKey],
    ) -> None:
        """Begin a batch.

        Args:
            images: What each object is after the last commit that has changed it. May grow
                until the batch is built.
            large_rows_of: Returns the keys of an object's large attributes in the store. Called
                when the batch is built.
            progress_rows: Objects with a call in progress in the store; kept up to date when
                the batch is built.
        """
        self._large_rows_of = large_rows_of
        self._progress_rows = progress_rows
        self._images = images
        self._large: dict[bytes, bytes] = {}
        self._keyed: dict[bytes, bytes] = {}
        self._others: dict[bytes, bytes] = {}
        """Calls in the outbox, and what is left of runs."""
        self._events: dict[ObjectKey, list[tuple[int, int, Event]]] = {}
        """Of calls in progress: number, time and event."""
        self._of_runs: dict[str, list[bytes]] = {}
        """The keys in `_others` that go with a run."""
        self._cleared: list[bytes] = []
        self._progress: dict[ObjectKey, Progress | None] = {}
        self._deletes: list[bytes] = []
        self._gone: dict[ObjectKey, None] = {}
        """Objects whose rows go, other than those of runs."""

    def add(self, commit: Commit, leaves: Leaves, time_ms: int) -> None:
        """Add the rows of a commit that leaves more than an image.

        Args:
            commit: In the order of commits.
            leaves: What became of its object's call in progress.
            time_ms: Of its record.
        """
        for effect in commit.effects:
            self._add_effect(effect, commit.key)
        key = commit.key
        if key is None:
            return
        for outcome in commit.outcomes:
            if outcome.key is not None:
                name = rows.keyed_key(time_ms, key, outcome.method, outcome.key)
                row = (outcome.digest, outcome.code, outcome.payload, time_ms)
                self._keyed[name] = rows.pack_row(row)
        self._add_progress(commit, key, leaves, time_ms)
        if commit.gone:
            prefix = rows.attribute_key(key, "")
            self._large = {k: v for k, v in self._large.items() if not k.startswith(prefix)}
            if key.type != WORKFLOW:  # `RunGone` says what those have.
                self._gone[key] = None
        for attribute, value in commit.values.items():
            if len(value) > rows.LARGE_ATTRIBUTE_BYTES:
                self._large[rows.attribute_key(key, attribute)] = value

    def _add_progress(self, commit: Commit, key: ObjectKey, leaves: Leaves, time_ms: int) -> None:
        if commit.progress is not None:
            self._progress[key] = commit.progress
            self._drop_events(key, leaves.dropped)
        elif leaves.ended:
            self._progress[key] = None
            if key.type != WORKFLOW:
                self._events.pop(key, None)
                if key in self._progress_rows:
                    # Else the store has never heard of the call.
                    self._deletes += (rows.event_key(key, n) for n in range(leaves.events))
                return
            ended_ms = codec.decode(commit.values["ended_ms"])
            expires = commit.values.get("expires_ms")
            found = row_of_end(key.id, ended_ms, 0 if expires is None else codec.decode(expires))
            if found is not None:
                self._put_of_run(key, found, rows.pack_row([leaves.events + len(commit.events)]))
        if key.type == WORKFLOW:
            self._put_events(key, commit.events, leaves.events, time_ms)
            return
        for number, event in enumerate(commit.events, leaves.events):
            self._events.setdefault(key, []).append((number, time_ms, event))

    def _put_events(
        self, key: ObjectKey, events: Sequence[Event], first: int, time_ms: int
    ) -> None:
        """Put rows for events of a run, of which there are several in most commits."""
        others, pack, suffix = self._others, rows.pack_moment, rows.event_suffix
        of_run = self._of_runs.setdefault(key.id, [])
        prefix = rows.event_prefix(key)
        for number, event in enumerate(events, first):
            row_key = prefix + suffix(number)
            others[row_key] = pack(time_ms, event)
            of_run.append(row_key)

    def _put_of_run(self, key: ObjectKey, row_key: bytes, row: bytes) -> None:
        self._others[row_key] = row
        self._of_runs.setdefault(key.id, []).append(row_key)

    def _forget_run(self, key: ObjectKey, gone: RunGone) -> None:
        """Let go of what commits before this one have left of a run, here and in the store."""
        for row_key in self._of_runs.pop(key.id, ()):
            self._others.pop(row_key, None)
        self._deletes.append(gone.row)
        self._deletes += (rows.attribute_key(key, name) for name in gone.large)
        self._clear(rows.event_prefix(key), lambda n: rows.event_key(key, n), gone.events)
        for stream, length in gone.streams:
            self._deletes.append(summary_key(key.id, stream))
            chunk = functools.partial(chunk_key, key.id, stream)
            self._clear(chunk_prefix(key.id, stream), chunk, length)

    def _clear(self, prefix: bytes, row_key: Callable[[int], bytes], count: int) -> None:
        """Let go of so many rows in the store, which are all under a prefix."""
        if count > _ROWS_MAX:
            self._cleared.append(prefix)
        else:
            self._deletes += map(row_key, range(count))

    def _drop_events(self, key: ObjectKey, count: int) -> None:
        for number in range(count):
            row_key = rows.event_key(key, number)
            self._others.pop(row_key, None)
            self._deletes.append(row_key)

    def _add_effect(self, effect: Effect, key: ObjectKey | None) -> None:
        # `Timers` and the windows of sessions write the rows of the others.
        if isinstance(effect, OutboxEntry):
            row_key = rows.outbox_key(effect.partition, effect.sequence)
            self._others[row_key] = rows.pack_effect(effect)
        elif isinstance(effect, Chunk):
            assert key is not None
            self._put_of_run(key, chunk_key(key.id, effect.stream, effect.at), pack_chunk(effect))
        elif isinstance(effect, RunGone):
            assert key is not None
            self._forget_run(key, effect)
        elif isinstance(effect, OutboxGone):
            row_key = rows.outbox_key(effect.partition, effect.sequence)
            self._others.pop(row_key, None)
            self._deletes.append(row_key)

    def build(
        self,
        others: Iterable[tuple[bytes, bytes]],
        applied: int,
        more_deletes: Iterable[bytes] = (),
    ) -> Batch:
        """Return the batch: the images, what was added, `others` and `more_deletes`."""
        puts = [*others, *self._large.items(), *self._keyed.items(), *self._others.items()]
        deletes = [*self._deletes, *more_deletes]
        for key in self._gone:
            deletes += self._large_rows_of(key)
        for key, (state_version, image) in self._images.items():
            if image is None:
                deletes.append(rows.object_key(key))
            else:
                puts.append((rows.object_key(key), rows.pack_object(state_version, image)))
        for key, moments in self._events.items():
            for number, time_ms, event in moments:
                puts.append((rows.event_key(key, number), rows.pack_moment(time_ms, event)))
        for key, progress in self._progress.items():
            if progress is None:
                if key in self._progress_rows:
                    deletes.append(rows.progress_key(key))
                    self._progress_rows.discard(key)
            else:
                puts.append((rows.progress_key(key), rows.pack_progress(progress)))
                self._progress_rows.add(key)
        if deletes:
            written = {key for key, _ in puts}
            deletes = [key for key in deletes if key not in written]
        return Batch(puts, deletes, applied, self._cleared)
