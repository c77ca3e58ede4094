"""Records that are folded after a start leave what they leave one after the other."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from harness.core import HERE, THERE, WALL_MS, Rows
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import codec
from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core import rows
from perdure_node.core.commits import MARK, Commit, Outcome, Progress, pack_record, unpack_record
from perdure_node.core.events import (
    Blame,
    Chunk,
    Effect,
    Ended,
    Event,
    OutboxEntry,
    OutboxGone,
    RunGone,
    Saved,
    Scheduled,
)
from perdure_node.core.expiry_rows import BY_LIMIT, expiry_key
from perdure_node.core.firing import TimerChange
from perdure_node.core.folding import pieces, replay_all
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.residents import Residents
from perdure_node.core.rows import LARGE_ATTRIBUTE_BYTES
from perdure_node.core.run_rows import WORKFLOW
from perdure_node.core.window import merge_settled

CARTS = [ObjectKey("Cart", id) for id in ("a", "b", "c")]
RUNS = [ObjectKey(WORKFLOW, id) for id in ("r", "s")]
SESSIONS = [HERE, THERE]
KEYS = ["k1", "k2"]
VALUES = [b"", b"\x01", b"\x02", b"long" * LARGE_ATTRIBUTE_BYTES, b"longer" * LARGE_ATTRIBUTE_BYTES]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["change"] * 7
            + ["outcome", "create", "delete", "keyed", "mark"]
            + ["begin", "event", "end", "timer", "send", "sent", "blame", "chunk", "forget"]
            + ["write", "write", "write", "claim"]
        ),
        st.integers(0, 2),
        st.integers(0, 99),
        st.integers(0, 99),
    ),
    min_size=30,
    max_size=90,
)


@dataclass
class Partition:
    """Makes commits that a partition could make, and the records that hold them."""

    bodies: list[bytes | None] = field(default_factory=list)
    _commits: list[Commit] = field(default_factory=list)
    _time_ms: int = WALL_MS
    _there: set[ObjectKey] = field(default_factory=set)
    _underway: dict[ObjectKey, list[Any]] = field(default_factory=dict)
    _used: dict[bytes, list[int]] = field(default_factory=lambda: {s: [] for s in SESSIONS})
    _outbox: list[OutboxEntry] = field(default_factory=list)
    _given: int = 0
    _chunks: dict[str, int] = field(default_factory=dict)

    def step(self, what: str, at: int, number: int, other: int) -> None:
        getattr(self, f"_{what}")(CARTS[at], number, other)

    def outcome(self, number: int, other: int, **fields: Any) -> Outcome:
        """Return the end of a call that has not ended, which tells of some that have."""
        session = SESSIONS[number % 2]
        used = self._used[session]
        sequence = max(used, default=0) + 1 + other % 3
        if other % 5 == 0:  # One that was overtaken.
            sequence = next(n for n in range(1, 999) if n not in used)
        settled = [n for n in used if (n * 7 + number) % 3] if other % 4 else used[: number % 9]
        used.append(sequence)
        # The one of a session that makes one call at a time, or that of any other.
        watermark = sequence - 1 if number % 3 == 1 else number // 8 if number % 7 == 0 else 0
        spans = [n for one in settled for n in (one, one)]
        confirmed = merge_settled([watermark], [0, *spans])
        return Outcome(session, sequence, confirmed, number % 3, b"p" * (other % 4), **fields)

    def values(self, number: int, other: int) -> dict[str, bytes]:
        values = {"n": VALUES[number % 3], "m": VALUES[other % 3]}
        if number % 5 == 0:
            values["large"] = VALUES[other % len(VALUES)]
        if other % 2:
            del values["m"]
        return values

    def _change(self, key: ObjectKey, number: int, other: int) -> None:
        if key in self._there and key not in self._underway:
            values = self.values(number, other) if number % 9 else {}
            outcomes = [self.outcome(number, other)] if other % 10 else []
            self._add(key, values, outcomes, version=1 + number % 2)

    def _create(self, key: ObjectKey, number: int, other: int) -> None:
        if (key not in self._there or number % 5 == 0) and key not in self._underway:
            self._there.add(key)
            values = self.values(number, other) if other % 6 else {}
            self._add(key, values, [self.outcome(number, other)], created=True)

    def _delete(self, key: ObjectKey, number: int, other: int) -> None:
        if key in self._there and key not in self._underway:
            self._there.discard(key)
            self._add(key, {}, [self.outcome(number, other)], gone=True)

    def _outcome(self, key: ObjectKey, number: int, other: int) -> None:
        self._add(None, {}, [self.outcome(number, other), self.outcome(other, number)])

    def _mark(self, key: ObjectKey, number: int, other: int) -> None:
        session, sequence, confirmed, *_ = _fields(self.outcome(number, other))
        self._add(None, {}, [Outcome(session, sequence, confirmed, MARK, b"")])

    def _keyed(self, key: ObjectKey, number: int, other: int) -> None:
        if key in self._there and key not in self._underway:
            outcome = self.outcome(
                number, other, key=KEYS[number % 2], method="add", digest=b"%d" % other
            )
            self._add(key, self.values(number, other), [outcome])

    def _begin(self, key: ObjectKey, number: int, other: int) -> None:
        key = RUNS[number % 2] if other % 2 else key
        if key in self._there and key not in self._underway and key not in RUNS:
            self._go_on(key, number, other, created=False)
        elif key in RUNS and key not in self._there:
            self._there.add(key)
            self._go_on(key, number, other, created=True)

    def _go_on(self, key: ObjectKey, number: int, other: int, *, created: bool) -> None:
        session, sequence, confirmed, *_ = _fields(self.outcome(number, other))
        request = [0, session, sequence, 0, confirmed, *key, "run", 0, b"", None, None, [], 0]
        self._underway[key] = request
        values = self.values(number, other) if created or number % 2 else {}
        progress = Progress(request, {"n": b"0"}, 1, [])
        self._add(key, values, [], created=created, progress=progress, events=[Saved()])

    def _event(self, key: ObjectKey, number: int, other: int) -> None:
        key = RUNS[number % 2] if other % 2 else key
        if key in self._underway:
            step = Scheduled(number, "call", "x", [number % 3, other, 0])
            self._add(key, {}, [], events=[step if number % 2 else Saved()])

    def _end(self, key: ObjectKey, number: int, other: int) -> None:
        key = RUNS[number % 2] if other % 2 else key
        request = self._underway.pop(key, None)
        if request is not None and key in RUNS:
            ended = {"ended_ms": codec.encode(WALL_MS + number)}
            self._add(key, ended, [], events=[Ended()])
        elif request is not None:
            outcome = Outcome(request[1], request[2], [0], 0, b"ended")
            # A call in progress may end by a commit that looks like any other.
            self._add(key, self.values(number, other), [outcome])

    def _timer(self, key: ObjectKey, number: int, other: int) -> None:
        if key in self._there:
            timer = TimerSetting("t", WALL_MS + number, "ring", b"", "", other)
            self._add(key, {}, [], effects=[TimerChange("t", timer if number % 3 else None)])

    def _send(self, key: ObjectKey, number: int, other: int) -> None:
        self._given += 1
        entry = OutboxEntry(number % 3, self._given, *key, 0, "add", 0, b"", None, None, [], 0)
        self._outbox.append(entry)
        self._add(key if other % 2 else None, {}, [], effects=[entry])

    def _sent(self, key: ObjectKey, number: int, other: int) -> None:
        if self._outbox:
            entry = self._outbox.pop(number % len(self._outbox))
            self._add(None, {}, [], effects=[OutboxGone(entry.partition, entry.sequence)])

    def _blame(self, key: ObjectKey, number: int, other: int) -> None:
        session = SESSIONS[number % 2]
        sequence = max(self._used[session], default=0) + 1
        self._add(None, {}, [], effects=[Blame(session, sequence, 1 + other % 2, other)])

    def _chunk(self, key: ObjectKey, number: int, other: int) -> None:
        key = RUNS[number % 2]
        if key in self._underway:
            at = self._chunks.get(key.id, 0)
            self._chunks[key.id] = at + 1
            rewound = at - 1 if at and other % 3 == 0 else -1
            self._add(key, {}, [], effects=[Chunk("out", at, b"%d" % other, rewound)])

    def _forget(self, key: ObjectKey, number: int, other: int) -> None:
        key = RUNS[number % 2]
        if key in self._there and key not in self._underway:
            self._there.discard(key)
            self._chunks.pop(key.id, None)
            self._add(key, {}, [], gone=True, effects=[RunGone(expiry_key(BY_LIMIT, 1, key.id))])

    def _add(
        self,
        key: ObjectKey | None,
        values: dict[str, bytes],
        outcomes: list[Outcome],
        *,
        created: bool = False,
        gone: bool = False,
        version: int = 1,
        progress: Progress | None = None,
        events: list[Event] | None = None,
        effects: list[Effect] | None = None,
    ) -> None:
        self._commits.append(
            Commit(
                key, created, gone, version, values, outcomes, progress, events or [], effects or []
            )
        )

    def _write(self, *_: object) -> None:
        """End a tick."""
        if self._commits:
            self._time_ms += len(self._commits)
            self.bodies.append(pack_record((self._time_ms, self._commits)))
            self._commits = []

    def _claim(self, *_: object) -> None:
        self._write()
        self.bodies.append(None)


def _fields(outcome: Outcome) -> list[Any]:
    return [getattr(outcome, name) for name in Outcome.__struct_fields__]


def opened(store: Rows) -> Memory:
    limits = Limits()
    return Memory(store, Residents(limits), limits, store.applied)


def replay_one_by_one(memory: Memory, first: int, bodies: list[bytes | None]) -> None:
    for record, body in enumerate(bodies, first):
        time_ms, commits = (0, []) if body is None else unpack_record(body)
        memory.replay(record, time_ms, commits, len(body or b""))


def apply(memory: Memory, store: Rows) -> None:
    while (batch := memory.take_batch()) is not None:
        store.write(*batch)
        memory.batch_written(batch)


def used(store: Rows) -> dict[bytes, bytes]:
    """The rows of a store, without large values that have become small ones since: they stay,
    until their object is deleted, but only if the store was told of them."""
    found = dict(store.rows)
    for key in CARTS:
        row = found.get(rows.object_key(key))
        stored = {} if row is None else rows.unpack_object(row)[1]
        large = {rows.attribute_key(key, name) for name, value in stored.items() if value is None}
        prefix = rows.attribute_key(key, "")
        found = {k: v for k, v in found.items() if k in large or not k.startswith(prefix)}
    return found


def seen(memory: Memory) -> dict[str, Any]:
    """What can be seen of a partition, without the numbers of records and commits."""
    found: dict[str, Any] = {
        "time": memory.time_ms,
        "durable": memory.durable,
        "unapplied": memory.unapplied_bytes,
        "timers due": memory.timers_due_ms,
        "progress": memory.progress,
        "times": memory.underway.times,
        "outbox": memory.underway.outbox,
        "sequences": memory.underway.sequences,
        "dirty": memory.dirty_windows,
    }
    for key in [*CARTS, *RUNS]:
        state = memory.state(key)
        found[f"{key}"] = state and (state.image, list(state.image or ()), state.size)
        found[f"version of {key}"] = state and state.image is not None and state.state_version
        found[f"timers of {key}"] = memory.timers.of(key)
        found[f"keys of {key}"] = [(k := memory.keyed(key, "add", name)) and k[:3] for name in KEYS]
    for key in RUNS:
        found[f"streams of {key}"] = {
            name: memory.streams.read(key.id, name, 0, 999) for name in memory.streams.names(key.id)
        }
        found[f"history of {key}"] = memory.histories.read(key, memory.progress.get(key), 0, 999)
    for session in SESSIONS:
        window = memory.window(session)
        found[f"window {session!r}"] = window and (
            window.settled,
            [(n, ended.code, ended.payload) for n, ended in window.ended.items()],
            window.bytes,
            {n: blamed for n, blamed in window.blamed.items() if not window.is_settled(n)},
        )
    found["ids"] = memory.list_ids("Cart", "", "", 9)
    found["resident bytes"] = memory._residents.bytes
    return found


@settings(max_examples=400, deadline=None)
@given(STEPS, st.integers(0, 20), st.integers(1, 30))
def test_folded_records_leave_what_they_leave_one_by_one(
    steps: list[tuple[str, int, int, int]], applied: int, length: int
) -> None:
    partition = Partition()
    for at in range(2):
        partition.step("create", at, 1, 1)
    for step in steps:
        partition.step(*step)
    partition._write()
    applied = min(applied, len(partition.bodies) // 2)
    slow_rows = Rows()
    before = opened(slow_rows)
    replay_one_by_one(before, 1, partition.bodies[:applied])
    apply(before, slow_rows)
    fast_rows = copy.deepcopy(slow_rows)
    assert slow_rows.applied == applied
    bodies = partition.bodies[applied:]

    slow = opened(slow_rows)
    replay_one_by_one(slow, applied + 1, bodies)
    fast = opened(fast_rows)
    for at in range(0, len(bodies), length):
        replay_all(fast, applied + 1 + at, bodies[at : at + length])

    assert seen(fast) == seen(slow)
    apply(slow, slow_rows)
    apply(fast, fast_rows)
    assert used(fast_rows) == used(slow_rows)
    assert fast_rows.applied == slow_rows.applied
    assert seen(fast) == seen(slow)


def test_the_pieces_of_many_records_are_all_of_them_in_their_order() -> None:
    bodies: list[bytes | None] = [bytes([n]) * (n << 12) if n % 7 else None for n in range(200)]

    found = list(pieces(5, bodies))

    assert [body for _, piece in found for body in piece] == bodies
    assert [first for first, _ in found] == [
        5 + sum(len(piece) for _, piece in found[:at]) for at in range(len(found))
    ]
    assert len(found) > 5
    assert all(sum(len(b or b"") for b in piece[:-1]) < 1 << 20 for _, piece in found)


def test_no_records_are_no_piece() -> None:
    assert list(pieces(1, [])) == []
