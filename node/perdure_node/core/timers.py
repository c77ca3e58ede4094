"""The timers of a partition, in the order in which they are due.

Invariants:
  * A look-up sees every change made so far: first what is in memory, then the store.
  * `_queued` holds the due keys of all timers that have not been handed out and are either in
    memory, because a record above `applied` touched them, or in the store up to `_horizon`.
    What the store has beyond the horizon is later than all of its rows up to there, and is read
    when it is their turn: a million timers take no memory until they are due.
  * A timer is handed out once. It comes again when it is set again or put back.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core import timer_rows as rows
from perdure_node.core.damage import DamageFound
from perdure_node.core.firing import PARKED_MS, TimerChange, is_same
from perdure_node.core.limits import Limits

if TYPE_CHECKING:
    from perdure_node.core.store_reader import StoreReader

__all__ = ["Timers"]

_PAGE: Final = 1_000
_COUNTS_MAX: Final = 10_000
_END: Final = b"e"
"""Sorts after every due key."""

Rows = list[tuple[bytes, bytes]]


class _Entry:
    """A timer that a record above `applied` has set or removed."""

    __slots__ = ("record", "stored_due_ms", "timer")

    def __init__(self, timer: TimerSetting | None, stored_due_ms: int | None) -> None:
        self.timer = timer
        self.record = 0
        """The last record that has changed it."""
        self.stored_due_ms = stored_due_ms
        """What the store says, or will when the batch on its way there is written."""


class _Change(NamedTuple):
    record: int
    key: ObjectKey
    name: str
    timer: TimerSetting | None


class _HandedOut(NamedTuple):
    number: int
    """Tells each handing out from every other."""
    timer: TimerSetting


class Timers:
    """The timers of one partition. All times are milliseconds of the wall clock."""

    def __init__(self, store: StoreReader, limits: Limits) -> None:
        """Begin with what the store has. Nothing is read before it is needed."""
        self._store = store
        self._window_max = limits.timers_window_max
        self._page = max(1, min(_PAGE, limits.timers_window_max // 4))
        self._recent: dict[ObjectKey, dict[str, _Entry]] = {}
        self._recent_number = 0
        self._changes: deque[_Change] = deque()
        """Those that no batch has, in order."""
        self._taken: list[_Change] = []
        """Those that the batches on their way to the store have, in each one for each name."""
        self._queue: list[bytes] = []
        """A heap of `_queued`, and of keys that have left it."""
        self._queued: set[bytes] = set()
        self._horizon = b""
        self._handed: dict[tuple[ObjectKey, str], _HandedOut] = {}
        self._handed_number = 0
        self._put_off: list[tuple[int, int, ObjectKey, TimerSetting]] = []
        """A heap by time of what was put back for later, each of it handed out until then; with
        the number of its handing out."""
        self._counts: dict[ObjectKey, int] = {}
        self._generation = 0

    def use_store(self, store: StoreReader) -> None:
        """Read from this store from now on. It holds what the one before it held."""
        self._store = store

    # Look-ups.

    def get(self, key: ObjectKey, name: str) -> TimerSetting | None:
        """Return a timer."""
        entry = self._recent.get(key, {}).get(name)
        return entry.timer if entry is not None else self._stored(key, name)

    def record_of(self, key: ObjectKey, name: str) -> int:
        """Return the last record that has changed a timer; 0: the store has it as it is."""
        entry = self._recent.get(key, {}).get(name)
        return 0 if entry is None else entry.record

    def of(self, key: ObjectKey) -> list[TimerSetting]:
        """Return the timers of an object by name, parked ones too."""
        prefix = rows.timers_prefix(key)
        timers: dict[str, TimerSetting] = {}
        after = b""
        while page := self._store.scan(prefix, after, _PAGE):
            timers |= {(timer := rows.unpack_timer(row)).name: timer for _, row in page}
            after = page[-1][0]
            if len(page) < _PAGE:
                break
        for name, entry in self._recent.get(key, {}).items():
            if entry.timer is not None:
                timers[name] = entry.timer
            else:
                timers.pop(name, None)
        return [timers[name] for name in sorted(timers)]

    def count_of(self, key: ObjectKey) -> int:
        """Return how many timers an object has. They are counted once, then it is kept."""
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= _COUNTS_MAX:
                self._counts.clear()
            count = self._counts[key] = len(self.of(key))
        return count

    def parked(self, type: str, after: bytes, limit: int) -> list[tuple[ObjectKey, TimerSetting]]:
        """Return parked timers, ordered by type, id and name.

        Args:
            type: Of their objects; empty: all.
            after: Those behind this `timer_rows.parked_key`. Empty: from the start.
            limit: At most so many.
        """
        found: dict[bytes, tuple[ObjectKey, TimerSetting]] = {}
        prefix = rows.parked_prefix(type)
        for key, entries in self._recent.items():
            for name, entry in entries.items():
                row_key = rows.parked_key(key, name)
                timer = entry.timer
                parked = timer is not None and timer.due_ms == PARKED_MS
                if timer is not None and parked and row_key > after and row_key.startswith(prefix):
                    found[row_key] = key, timer
        # A row of which memory knows better may be left out.
        wanted = limit + self._recent_number
        for row_key, _ in self._store.scan(prefix, after, wanted):
            key, name = rows.timer_of_parked_key(row_key)
            if name not in self._recent.get(key, {}):
                timer = self._stored(key, name)
                if timer is not None:
                    found[row_key] = key, timer
        return [found[row_key] for row_key in sorted(found)[:limit]]

    @property
    def held(self) -> int:
        """How many timers are in memory, in whatever way."""
        return max(len(self._queue), len(self._queued)) + self._recent_number + len(self._handed)

    # Changes.

    def new_generation(self, record: int) -> int:
        """Return a generation for a timer that is set, greater than all before it.

        It comes from the number of the record that will hold it, so that it stays greater than
        those of timers long gone, of which nothing is kept. Re-arming keeps the generation: its
        due time tells the firings apart.
        """
        self._generation = max(self._generation + 1, record << 24)
        return self._generation

    def set(self, key: ObjectKey, timer: TimerSetting, record: int) -> None:
        """Set a timer, in place of one of the same name.

        Args:
            key: The object.
            timer: With a generation that `new_generation` gave.
            record: The record that will hold the change. Never less than the one before.
        """
        self._generation = max(self._generation, timer.generation)
        self._change(_Change(record, key, timer.name, timer))

    def remove(self, key: ObjectKey, name: str, record: int) -> TimerSetting | None:
        """Remove a timer; returns it, None if there is none of that name."""
        timer = self.get(key, name)
        if timer is not None:
            self._change(_Change(record, key, name, None))
        return timer

    def remove_all(self, key: ObjectKey, record: int) -> list[TimerSetting]:
        """Remove all timers of an object, which is deleted; returns them."""
        timers = self.of(key)
        for timer in timers:
            self._change(_Change(record, key, timer.name, None))
        return timers

    def apply(self, key: ObjectKey, change: TimerChange, record: int) -> None:
        """Make a change that a commit of this object carries."""
        if change.timer is not None:
            self.set(key, change.timer, record)
        else:
            self.remove(key, change.name, record)

    def _change(self, change: _Change) -> None:
        record, key, name, timer = change
        entries = self._recent.setdefault(key, {})
        entry = entries.get(name)
        if entry is None:
            stored = self._stored(key, name)
            entry = entries[name] = _Entry(stored, None if stored is None else stored.due_ms)
            self._recent_number += 1
        before = entry.timer
        if before is not None:
            self._queued.discard(rows.due_key(before.due_ms, key, name))
        self._handed.pop((key, name), None)
        entry.timer, entry.record = timer, record
        if timer is not None and timer.due_ms != PARKED_MS:
            self._enqueue(rows.due_key(timer.due_ms, key, name))
        if key in self._counts:
            self._counts[key] += (timer is not None) - (before is not None)
        self._changes.append(change)
        # A timer that is set again with every call leaves one key each time.
        if len(self._queue) > 2 * len(self._queued) + _PAGE:
            self._queue = sorted(self._queued)

    def _stored(self, key: ObjectKey, name: str) -> TimerSetting | None:
        row = self._store.get(rows.timer_key(key, name))
        return None if row is None else rows.unpack_timer(row)

    # What is due.

    def due(self, now_ms: int, limit: int) -> list[tuple[ObjectKey, TimerSetting]]:
        """Hand out timers that are due, the earliest first.

        Args:
            now_ms: Wall clock. What is due at this very millisecond is due.
            limit: At most so many.
        """
        self._bring_back(now_ms)
        found: list[tuple[ObjectKey, TimerSetting]] = []
        while len(found) < limit and (head := self._head()) is not None:
            if rows.due_of_key(head) > now_ms:
                break
            key, name = rows.timer_of_due_key(head)
            timer = self.get(key, name)
            if timer is None or timer.due_ms != rows.due_of_key(head):
                raise DamageFound(f"the timer {name!r} of {key} is not in the store")
            heapq.heappop(self._queue)
            self._hand_out(key, timer)
            found.append((key, timer))
        return found

    def due_of(self, key: ObjectKey, prefix: str, now_ms: int) -> list[TimerSetting]:
        """Hand out those timers of one object that are due, before others that are due earlier.

        Args:
            key: The object.
            prefix: What their names begin with.
            now_ms: Wall clock.

        Returns:
            Them, in the order of their due times, then of their settings.
        """
        found = [
            timer
            for timer in self.of(key)
            if timer.due_ms <= now_ms
            and timer.name.startswith(prefix)
            and (key, timer.name) not in self._handed
        ]
        found.sort(key=lambda timer: (timer.due_ms, timer.generation))
        for timer in found:
            self._hand_out(key, timer)
        return found

    def _hand_out(self, key: ObjectKey, timer: TimerSetting) -> None:
        self._queued.discard(rows.due_key(timer.due_ms, key, timer.name))
        self._handed_number += 1
        self._handed[key, timer.name] = _HandedOut(self._handed_number, timer)

    @property
    def next_due_ms(self) -> int | None:
        """When `due` has something next; None: nothing that could become due."""
        head = self._head()
        due_ms = None if head is None else rows.due_of_key(head)
        if self._put_off and (due_ms is None or self._put_off[0][0] < due_ms):
            return self._put_off[0][0]
        return due_ms

    def put_back(self, key: ObjectKey, timer: TimerSetting, until_ms: int = 0) -> None:
        """Let a timer that was handed out be due again. Nothing happens if it was set since.

        Args:
            key: The object.
            timer: What `due` has returned.
            until_ms: Not before this time. Others are handed out meanwhile.
        """
        handed = self._handed.get((key, timer.name))
        if handed is not None and is_same(timer, handed.timer):
            heapq.heappush(self._put_off, (until_ms, handed.number, key, timer))
            self._bring_back(0)

    def _bring_back(self, now_ms: int) -> None:
        while self._put_off and self._put_off[0][0] <= now_ms:
            _, number, key, timer = heapq.heappop(self._put_off)
            name = timer.name
            handed = self._handed.get((key, name))
            if handed is not None and handed.number == number:
                del self._handed[key, name]
                due_key = rows.due_key(timer.due_ms, key, name)
                # Beyond the horizon it is read when its turn comes.
                if due_key <= self._horizon or name in self._recent.get(key, {}):
                    self._enqueue(due_key)

    def _enqueue(self, due_key: bytes) -> None:
        if due_key not in self._queued:
            self._queued.add(due_key)
            heapq.heappush(self._queue, due_key)

    def _head(self) -> bytes | None:
        """Return the earliest due key of all."""
        while True:
            while self._queue and self._queue[0] not in self._queued:
                heapq.heappop(self._queue)
            if self._queue and self._queue[0] <= self._horizon:
                return self._queue[0]
            if self._horizon == _END:
                return None
            self._read_page()

    def _read_page(self) -> None:
        page = self._store.scan(rows.DUE_PREFIX, self._horizon, self._page)
        for due_key, _ in page:
            key, name = rows.timer_of_due_key(due_key)
            if name not in self._recent.get(key, {}) and (key, name) not in self._handed:
                self._enqueue(due_key)
        self._horizon = page[-1][0] if len(page) == self._page else _END

    # To the store.

    def rows_for(self, applied: int) -> tuple[Rows, list[bytes]]:
        """Return the rows to write and to delete for all records up to `applied`.

        The caller writes them with the batch and then says `written`.
        """
        last: dict[tuple[ObjectKey, str], _Change] = {}
        while self._changes and self._changes[0].record <= applied:
            change = self._changes.popleft()
            last[change.key, change.name] = change
        puts: Rows = []
        deletes: list[bytes] = []
        for (key, name), change in last.items():
            entry = self._recent[key][name]
            stored_due_ms, timer = entry.stored_due_ms, change.timer
            due_ms = None if timer is None else timer.due_ms
            if stored_due_ms is not None and stored_due_ms not in (due_ms, PARKED_MS):
                deletes.append(rows.due_key(stored_due_ms, key, name))
            if (stored_due_ms == PARKED_MS) != (due_ms == PARKED_MS):
                parked_key = rows.parked_key(key, name)
                if due_ms == PARKED_MS:
                    puts.append((parked_key, b""))
                else:
                    deletes.append(parked_key)
            if timer is not None:
                puts.append((rows.timer_key(key, name), rows.pack_timer(timer)))
                if due_ms not in (stored_due_ms, PARKED_MS):
                    puts.append((rows.due_key(timer.due_ms, key, name), b""))
            elif stored_due_ms is not None:
                deletes.append(rows.timer_key(key, name))
            entry.stored_due_ms = due_ms
        self._taken += last.values()
        return puts, deletes

    def written(self, applied: int) -> None:
        """Let go of what the store has now.

        Args:
            applied: What `rows_for` was told.
        """
        for _, key, name, _ in self._taken:
            entries = self._recent.get(key, {})
            entry = entries.get(name)
            if entry is None or entry.record > applied:
                continue
            del entries[name]
            self._recent_number -= 1
            if not entries:
                del self._recent[key]
            if entry.timer is not None:
                due_key = rows.due_key(entry.timer.due_ms, key, name)
                if due_key > self._horizon:
                    self._queued.discard(due_key)
        self._taken = [change for change in self._taken if change.record > applied]
        if len(self._queued) > self._window_max + self._recent_number:
            self._forget_later_ones()
        if len(self._queue) > 2 * len(self._queued) + _PAGE:
            self._queue = sorted(self._queued)

    def _forget_later_ones(self) -> None:
        """Move the horizon back, so that half a window is left of what the store has."""
        stored = sorted(due_key for due_key in self._queued if not self._is_recent(due_key))
        self._horizon = stored[self._window_max // 2]
        self._queued.difference_update(k for k in stored if k > self._horizon)

    def _is_recent(self, due_key: bytes) -> bool:
        key, name = rows.timer_of_due_key(due_key)
        return name in self._recent.get(key, {})
