"""What has happened in runs, and when: also in those that have ended.

Invariants:
  * An event is told of from its record on, with the time of that record.
  * What records above `applied` say of a run that has ended is in memory; the store has the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from perdure.ids import ObjectKey
from perdure_node.core import rows
from perdure_node.core.commits import Progress
from perdure_node.core.events import Event
from perdure_node.core.left import LeftByCommit
from perdure_node.core.run_rows import WORKFLOW

if TYPE_CHECKING:
    from perdure_node.core.store_reader import StoreReader

__all__ = ["Histories", "Moment"]

Moment = tuple[int, Event]
"""An event, and the time of its record: wall clock in milliseconds."""


class _Ended(NamedTuple):
    """The journal of a run whose end the store may not have."""

    record: int
    moments: list[Moment]


class Histories:
    """What has happened in the runs of one partition."""

    def __init__(self, store: StoreReader, times: Mapping[ObjectKey, list[int]]) -> None:
        """Begin with what the store has.

        Args:
            store: That of the partition.
            times: Of the events of all calls in progress, in their order.
        """
        self._store = store
        self._times = {key: [*of_key] for key, of_key in times.items() if key.type == WORKFLOW}
        """Of the events of runs that go on, as far as records hold them."""
        self._ended: dict[ObjectKey, _Ended] = {}

    def use_store(self, store: StoreReader) -> None:
        """Read from this store from now on. It holds what the one before it held."""
        self._store = store

    def recorded(self, commits: Iterable[LeftByCommit], record: int, time_ms: int) -> None:
        """Take over what a record says.

        Args:
            commits: Those of its commits that leave more than an image, in their order.
            record: Its number.
            time_ms: Its time.
        """
        for left in commits:
            commit, leaves = left.commit, left.leaves
            key = commit.key
            if key is None or key.type != WORKFLOW:
                continue
            added = [time_ms] * len(commit.events)
            if commit.progress is not None:
                self._times[key] = added
            elif leaves.ended:
                times = [*self._times.pop(key, ()), *added]
                events = (*leaves.journal, *commit.events)
                self._ended[key] = _Ended(record, list(zip(times, events, strict=True)))
            elif added:
                self._times[key] += added

    def read(
        self, key: ObjectKey, progress: Progress | None, start: int, limit: int
    ) -> Sequence[Moment]:
        """Return events of a run, since it was continued as new.

        Args:
            key: The run.
            progress: Its call in progress; None: it has ended.
            start: The first event, counted from 0.
            limit: As many of them at most.
        """
        behind = start + limit
        if progress is not None:
            times = self._times.get(key, [])[start:behind]
            # What no record holds yet has no time, and may never come to be.
            return list(zip(times, progress.events[start:behind], strict=False))
        ended = self._ended.get(key)
        if ended is not None:
            return ended.moments[start:behind]
        after = rows.event_key(key, start - 1) if start else b""
        page = self._store.scan(rows.event_prefix(key), after, limit)
        return [rows.unpack_moment(row) for _, row in page]

    def forget(self, key: ObjectKey) -> None:
        """Take over that a run has gone: another one of its id may begin."""
        self._ended.pop(key, None)

    def written(self, applied: int) -> None:
        """Let go of what the store has now."""
        for key in [key for key, ended in self._ended.items() if ended.record <= applied]:
            del self._ended[key]
