"""What a partition knows: its store, and over it everything that the store does not have yet.

Invariants:
  * A look-up sees every commit made so far: first what is in memory, then the store.
  * An object, outcome or call in progress that a record above `applied` touched stays in memory
    until the store has it. Passivation drops the activation, never the committed image.
  * A batch for the store holds everything of all records up to its `applied`, and nothing of a
    later one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from msgspec.structs import astuple, force_setattr

from perdure.ids import ObjectKey, session_birth_ms
from perdure_node.core import rows
from perdure_node.core.batch import Batch, BatchBuilder
from perdure_node.core.commits import Commit, Outcome
from perdure_node.core.damage import DamageFound
from perdure_node.core.ended import Keyed
from perdure_node.core.events import Blame, Chunk, Effect, Event
from perdure_node.core.firing import TimerChange
from perdure_node.core.histories import Histories
from perdure_node.core.left import (
    NO_OUTCOMES,
    NO_VALUES,
    Images,
    Leaves,
    LeftByCommit,
)
from perdure_node.core.limits import Limits
from perdure_node.core.residents import Residents
from perdure_node.core.run_rows import WORKFLOW
from perdure_node.core.state import ObjectState
from perdure_node.core.store_reader import StoreReader, all_rows
from perdure_node.core.streams import Streams
from perdure_node.core.timers import Timers
from perdure_node.core.unapplied import Unapplied
from perdure_node.core.underway import Underway
from perdure_node.core.window import SessionWindow

__all__ = ["USED_AGAIN_MS", "Memory"]


USED_AGAIN_MS: Final = 500
"""An object that was used so recently keeps its place in the order of use."""

_fields: Final = astuple
"""Each call needs it, and so it needs no look-up where modules are compiled."""

_NOTHING: Final = Leaves(0, ended=False)


class Memory:
    """The committed state of one partition."""

    def __init__(
        self, store: StoreReader, residents: Residents, limits: Limits, applied: int
    ) -> None:
        self._store = store
        self._residents = residents
        self.limits = limits
        self._states: dict[ObjectKey, ObjectState] = {}
        self._pinned: dict[ObjectKey, ObjectState] = {}
        self.windows: dict[bytes, SessionWindow[Any]] = {}
        """Those in memory. `window` looks further."""
        self._keyed: dict[tuple[ObjectKey, str, str], Keyed] = {}
        self.timers = Timers(store, limits)
        self.streams = Streams(store)
        self.timers_due_ms = self.timers.next_due_ms
        """When the earliest of them is due, or a little earlier: wall clock. None: never."""
        self.underway = Underway(lambda prefix: all_rows(store, prefix))
        self.progress = self.underway.progress
        self.histories = Histories(store, self.underway.times)
        self.dirty_windows: set[bytes] = set()
        """Sessions whose windows say more than their rows in the store."""
        self._progress_rows = set(self.progress)
        self.making: list[Commit] = []
        """Commits that wait for a record."""
        self.open_runs: dict[ObjectKey, Commit] = {}
        """Of each run the commit of `making` that can be added to."""
        self._images: Images = {}
        self._others: list[LeftByCommit] = []
        self._unapplied = Unapplied(applied, self._builder_of)
        self.now_ms = 0
        """Monotonic time, for the order of use."""
        self.number = 0
        """Counts commits of this epoch."""
        row = store.get(rows.TIME_KEY)
        self.time_ms: int = 0 if row is None else rows.unpack_row(row)[0]
        """The partition's time: the wall clock, but it never goes back."""
        self.applied = applied
        self.durable = applied

    # Look-ups.

    def state(self, key: ObjectKey) -> ObjectState | None:
        """Return an object's state; None, or one whose `image` is None: there is no object."""
        state = self._states.get(key)
        if state is not None:
            if state.resident:
                self._residents.counters.hits += 1
            else:
                # It had left; only its image was still here, for the store.
                self._residents.counters.loads += 1
                state.resident = True
                self._residents.add(state, self)
            if self.now_ms - state.used_ms >= USED_AGAIN_MS:
                self._residents.touch(state, self.now_ms)
            return state
        row = self._store.get(rows.object_key(key))
        if row is None:
            return None
        state_version, stored = rows.unpack_object(row)
        image = {
            name: value if value is not None else self._attribute(key, name)
            for name, value in stored.items()
        }
        self._residents.counters.loads += 1
        return self._adopt(ObjectState(key, image, state_version, self.number))

    def use(self, state: ObjectState) -> None:
        """Note that a call of this object has ended or saved: it was in use until now."""
        self._residents.touch(state, self.now_ms)

    def exists(self, key: ObjectKey) -> bool:
        """Tell whether there is such an object, without bringing it into memory."""
        state = self._states.get(key)
        if state is not None:
            return state.image is not None
        return self._store.get(rows.object_key(key)) is not None

    def peek(self, key: ObjectKey, names: Sequence[str]) -> list[bytes] | None:
        """Return some attributes of an object without bringing it into memory.

        None: there is no such object. An attribute that is not there is empty.
        """
        state = self._states.get(key)
        if state is not None:
            image = state.image
            return None if image is None else [image.get(name, b"") for name in names]
        row = self._store.get(rows.object_key(key))
        if row is None:
            return None
        stored = rows.unpack_object(row)[1]
        found = [(name, stored.get(name, b"")) for name in names]
        return [self._attribute(key, n) if value is None else value for n, value in found]

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return rows of the store, which may be behind what was committed."""
        return self._store.scan(prefix, after, limit)

    def is_resident(self, key: ObjectKey) -> bool:
        """Tell whether an object is in memory. That is no use of it."""
        state = self._states.get(key)
        return state is not None and state.resident and state.image is not None

    def last_record_of(self, key: ObjectKey) -> int:
        """Return the record that an answer which tells of this object has to wait for."""
        state = self._states.get(key)
        return 0 if state is None else state.last_record

    def window(self, session: bytes) -> SessionWindow[Any] | None:
        """Return what is remembered of a session; None: nothing at all."""
        window = self.windows.get(session)
        if window is None:
            row = self._store.get(rows.session_key(session))
            if row is None:
                return None
            window = SessionWindow.from_row(session_birth_ms(session), rows.unpack_row(row))
            self.windows[session] = window
        return window

    def open_window(self, session: bytes) -> SessionWindow[Any]:
        """Return what is remembered of a session; begin to remember it if need be."""
        window = self.window(session)
        if window is None:
            window = self.windows[session] = SessionWindow(session_birth_ms(session))
        return window

    def keyed(self, key: ObjectKey, method: str, idempotency_key: str) -> Keyed | None:
        """Return the outcome under an idempotency key, unless its time is over."""
        recent = self._keyed.get((key, method, idempotency_key))
        if recent is not None:
            return recent
        oldest = self.time_ms - self.limits.key_retention_ms
        bucket = self.time_ms
        while bucket > oldest - rows.HOUR_MS and bucket >= 0:
            row = self._store.get(rows.keyed_key(bucket, key, method, idempotency_key))
            if row is not None:
                digest, code, payload, time_ms = rows.unpack_row(row)
                return Keyed(digest, code, payload, 0) if time_ms > oldest else None
            bucket -= rows.HOUR_MS
        return None

    def list_ids(self, type: str, prefix: str, after: str, limit: int) -> tuple[list[str], bool]:
        """Return ids in the order of their UTF-8 bytes, and whether there may be more."""
        recent = {
            key.id: state.image is not None
            for key, state in self._pinned.items()
            if key.type == type and key.id.startswith(prefix)
        }
        start = rows.object_key(ObjectKey(type, after)) if after else b""
        # As many rows may turn out to be deleted since, so ask for that many more.
        wanted = limit + 1 + sum(not there for there in recent.values())
        found = self._store.scan(rows.object_prefix(type, prefix), start, wanted)
        ids = {rows.id_of(type, key) for key, _ in found}
        ids |= {id for id, there in recent.items() if there}
        ids -= {id for id, there in recent.items() if not there}
        # Code points sort as their UTF-8 bytes do.
        ordered = sorted(id for id in ids if id > after)
        return ordered[:limit], len(ordered) > limit

    # Commits.

    def commit(self, commit: Commit, record: int) -> ObjectState | None:
        """Take over one commit, which will be in `record`. Returns the object's state."""
        # All at once: one by one they cost as much as all that is done with them.
        key, created, gone, version, values, outcomes, progress, events, effects = _fields(commit)
        state = None
        if key is not None:
            state = self._change(key, values, version, record, created=created, gone=gone)
        keyed = self._end_calls(outcomes, key, record)
        leaves = None
        if events or effects or progress is not None or self.progress:
            leaves = self.underway.take(key, progress, outcomes, events, effects)
            if effects and key is not None:
                self._take_effects(effects, key, record)
            elif effects:
                self._blame(effects)
        large = state is not None and state.size > rows.LARGE_ATTRIBUTE_BYTES
        if leaves is not None or keyed or gone or (large and _has_large(values)):
            self._others.append(LeftByCommit(commit, leaves or _NOTHING))
        self.making.append(commit)
        return state

    def add_to_run(
        self,
        key: ObjectKey,
        events: Sequence[Event],
        outcomes: Sequence[Outcome],
        effects: Sequence[Effect],
        record: int,
    ) -> None:
        """Take over what is added to a run that goes on: in one record that is one commit.

        Most of it has no effects, and half of it no outcomes: not lists that nobody fills.
        """
        self._end_calls(outcomes, key, record)
        before = self.underway.extend(key, events, effects)
        commit = self.open_runs.get(key)
        if commit is None:
            commit = Commit(key, False, False, 1, NO_VALUES, NO_OUTCOMES, None, [])
            self.open_runs[key] = commit
            self.making.append(commit)
            self._others.append(LeftByCommit(commit, Leaves(before, ended=False)))
        if outcomes:
            force_setattr(commit, "outcomes", [*commit.outcomes, *outcomes])
        cast("list[Event]", commit.events).extend(events)
        if effects:
            force_setattr(commit, "effects", [*commit.effects, *effects])
            self._take_effects(effects, key, record)

    def _end_calls(self, outcomes: Sequence[Outcome], key: ObjectKey | None, record: int) -> bool:
        """Take over the outcomes of a commit. Returns whether one has an idempotency key."""
        keyed = False
        for outcome in outcomes:
            session, sequence, confirmed, code, payload, idempotency_key, _, _ = _fields(outcome)
            window = self.windows.get(session) or self.open_window(session)
            if confirmed is not window.settled:
                window.confirm(confirmed)
            window.end(sequence, code, payload, record)
            self.dirty_windows.add(session)
            if idempotency_key is not None and key is not None:
                self.note_key(outcome, key, record)
                keyed = True
        return keyed

    def _change(
        self,
        key: ObjectKey,
        values: dict[str, bytes],
        version: int,
        record: int,
        *,
        created: bool,
        gone: bool,
    ) -> ObjectState | None:
        state = self._states.get(key)
        if not (values or created or gone):
            return state
        state = state or self.state(key)
        if state is None:
            state = self._adopt(ObjectState(key, None, version, self.number))
        self.number = number = self.number + 1
        size = state.size
        if gone:
            state.delete(number)
            self.timers.remove_all(key, record)
            if key.type == WORKFLOW:
                self.streams.forget(key.id, record)
                self.histories.forget(key)
        elif created:
            state.create(values, version, number)
        else:
            state.state_version = version
            state.commit(values, number)
        if state.resident:
            self._residents.bytes += state.size - size
        state.last_record = record
        self._pinned[key] = state
        self._images[key] = state.state_version, state.image
        return state

    def _take_effects(self, effects: Iterable[Effect], key: ObjectKey, record: int) -> None:
        for effect in effects:
            if isinstance(effect, TimerChange):
                self.timers.apply(key, effect, record)
                timer = effect.timer
                if timer is not None and (
                    self.timers_due_ms is None or timer.due_ms < self.timers_due_ms
                ):
                    self.timers_due_ms = timer.due_ms
            elif isinstance(effect, Chunk):
                self.streams.add(key, effect, record)

    def _blame(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Blame):
                window = self.open_window(effect.session)
                window.blamed[effect.sequence] = effect.deaths, effect.epoch
                self.dirty_windows.add(effect.session)

    def note_key(self, outcome: Outcome, key: ObjectKey, record: int) -> None:
        """Note the outcome of a call of this object under its idempotency key, if it has one."""
        if outcome.key is not None:
            self._keyed[key, outcome.method, outcome.key] = Keyed(
                outcome.digest, outcome.code, outcome.payload, record
            )

    def change_unrecorded(self, state: ObjectState, values: dict[str, bytes]) -> None:
        """Change an object in memory only: it persists on save."""
        self.number += 1
        size = state.size
        state.commit(values, self.number)
        if state.resident:
            self._residents.resized(state.size - size)

    def take_record(self, now_ms: int) -> tuple[int, list[Commit]] | None:
        """Return the time and the commits made since the last call, as one record.

        Args:
            now_ms: Wall clock.
        """
        if not self.making:
            return None
        self.time_ms = max(self.time_ms, now_ms)
        return self.time_ms, self.making

    def record_made(self, record: int, bytes: int) -> None:
        """Note that what `take_record` returned is record number `record` now."""
        self._made(record, self.time_ms, bytes)

    def _made(self, record: int, time_ms: int, bytes: int) -> None:
        others = self._others
        if others:
            self.histories.recorded(others, record, time_ms)
            self._others = []
            for commit in self.open_runs.values():
                # The record has them, and nobody will ask again.
                force_setattr(commit, "outcomes", NO_OUTCOMES)
        self._unapplied.add(record, self._images, others or (), bytes, time_ms)
        self.making = []
        if self._images:
            self._images = {}
        self.open_runs.clear()

    def replay(self, record: int, time_ms: int, commits: list[Commit], bytes: int) -> None:
        """Take over a durable record of the journal that the store does not have."""
        for commit in commits:
            self.commit(commit, record)
        self.time_ms = max(self.time_ms, time_ms)
        # The store may say a later time: it was written when there were more records.
        self._made(record, time_ms, bytes)
        self.became_durable(record)

    def became_durable(self, record: int) -> None:
        """Take word that all records up to this one are durable."""
        self.durable = record
        self._unapplied.durable(record)

    def use_store(self, store: StoreReader) -> None:
        """Read from this store from now on. It holds what the one before it held."""
        self._store = store
        self.timers.use_store(store)
        self.streams.use_store(store)
        self.histories.use_store(store)

    # To the store.

    @property
    def has_unapplied(self) -> bool:
        """Tell whether there is something for the store, durable or not yet."""
        return bool(self._unapplied) or len(self.dirty_windows) >= self.limits.dirty_windows_max

    @property
    def unapplied_bytes(self) -> int:
        """What the records count that the store does not have."""
        return self._unapplied.bytes

    def take_batch(self) -> Batch | None:
        """Return the rows of all durable records that the store does not have; None: none.

        The caller writes them and then says `batch_written`.
        """
        if not self._unapplied.is_due and len(self.dirty_windows) < self.limits.dirty_windows_max:
            return None
        due = self._unapplied.take()
        applied = due.record
        others = [(rows.TIME_KEY, rows.pack_row([self.time_ms])), *self.underway.take_rows()]
        waiting: set[bytes] = set()
        for session in self.dirty_windows:
            window = self.windows[session]
            others.append((rows.session_key(session), rows.pack_row(window.row(applied))))
            if any(ended.record > applied for ended in window.ended.values()):
                waiting.add(session)
        self.dirty_windows = waiting
        puts, deletes = self.timers.rows_for(applied)
        others += self.streams.summaries(applied)
        return due.builder.build([*others, *puts], applied, deletes)

    def batch_written(self, batch: Batch) -> None:
        """Let go of what the store has now."""
        self.applied = batch.applied
        self.timers.written(batch.applied)
        self.streams.written(batch.applied)
        self.histories.written(batch.applied)
        for key, state in list(self._pinned.items()):
            if state.last_record <= batch.applied:
                del self._pinned[key]
                if state.users == 0 and (state.image is None or not state.resident):
                    self._drop(state)
        for name in [n for n, k in self._keyed.items() if k.record <= batch.applied]:
            del self._keyed[name]
        if len(self.windows) > self.limits.windows_idle_max:
            self._drop_windows()

    # Passivation.

    def passivate(self, state: ObjectState) -> None:
        """Take an object out of memory that nobody uses. Nothing of it is lost."""
        assert state.users == 0, state.key
        assert state.deferred is None, state.key
        self._residents.counters.passivations += 1
        state.forget_instance()
        if state.last_record <= self.applied:
            self._drop(state)
        else:
            # The image stays, because the store is behind; it is no longer counted.
            self._residents.remove(state)
            state.resident = False

    def _adopt(self, state: ObjectState) -> ObjectState:
        self._states[state.key] = state
        state.used_ms = self.now_ms
        self._residents.add(state, self)
        return state

    def _drop(self, state: ObjectState) -> None:
        self._states.pop(state.key, None)
        self._residents.remove(state)

    def _drop_windows(self) -> None:
        """Forget idle windows that the store has. They come back when they are asked for."""
        for session, window in list(self.windows.items()):
            if len(self.windows) <= self.limits.windows_idle_max // 2:
                break
            if window.is_idle and session not in self.dirty_windows:
                del self.windows[session]

    def _attribute(self, key: ObjectKey, name: str) -> bytes:
        value = self._store.get(rows.attribute_key(key, name))
        if value is None:
            raise DamageFound(f"the attribute {name!r} of {key} is not in the store")
        return value

    def _builder_of(self, images: Images) -> BatchBuilder:
        return BatchBuilder(images, self._large_rows, self._progress_rows)

    def _large_rows(self, key: ObjectKey) -> list[bytes]:
        return [row_key for row_key, _ in all_rows(self._store, rows.attribute_key(key, ""))]


def _has_large(values: dict[str, bytes]) -> bool:
    return any(len(value) > rows.LARGE_ATTRIBUTE_BYTES for value in values.values())
