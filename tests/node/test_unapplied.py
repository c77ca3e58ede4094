"""What waits for the store: all that durable records have left, and of each object the last."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from perdure.ids import ObjectKey
from perdure_node.core import rows
from perdure_node.core.batch import BatchBuilder
from perdure_node.core.commits import Commit
from perdure_node.core.events import Done, OutboxGone
from perdure_node.core.left import Images, Leaves, LeftByCommit
from perdure_node.core.unapplied import Unapplied

KEYS = [ObjectKey("T", id) for id in "abc"]


def nothing(applied: int) -> Unapplied:
    return Unapplied(applied, lambda images: BatchBuilder(images, lambda _: [], set()))


def gone(number: int) -> LeftByCommit:
    commit = Commit(None, False, False, 0, {}, [], None, (), [OutboxGone(0, number)])
    return LeftByCommit(commit, Leaves(0, False))


def image(number: int) -> tuple[int, dict[str, bytes]]:
    return 1, {"n": b"%d" % number}


def test_what_is_not_durable_is_not_taken() -> None:
    unapplied = nothing(4)
    unapplied.add(5, {KEYS[0]: image(5)}, (), 10, 1_000)
    unapplied.add(6, {KEYS[0]: image(6)}, (), 20, 1_001)
    assert unapplied
    assert not unapplied.is_due
    unapplied.durable(5)
    due = unapplied.take()
    assert (due.record, due.images) == (5, {KEYS[0]: image(5)})
    assert unapplied.bytes == 20
    assert unapplied
    assert not unapplied.is_due


def test_a_record_that_leaves_nothing_is_due_too() -> None:
    """The store says which records it has: the journal is kept from there on."""
    unapplied = nothing(0)
    unapplied.add(1, {}, (), 0, 1_000)
    unapplied.durable(1)
    assert unapplied.is_due
    assert unapplied.take().record == 1
    assert not unapplied


def test_earlier_images_are_let_go_of_when_they_are_durable() -> None:
    class Image(dict[str, bytes]):
        alive = 0

        def __init__(self, **values: bytes) -> None:
            super().__init__(**values)
            Image.alive += 1

        def __del__(self) -> None:
            Image.alive -= 1

    unapplied = nothing(0)
    for record in range(1, 9):
        unapplied.add(record, {KEYS[0]: (1, Image(n=b"1"))}, (), 1, 1_000)
    assert Image.alive == 8
    unapplied.durable(6)
    assert Image.alive == 3
    unapplied.durable(8)
    assert Image.alive == 1
    assert unapplied.bytes == 8


def test_of_a_call_that_has_ended_nothing_is_kept() -> None:
    class Payload(bytes):
        alive = 0

        def __init__(self, *_: object) -> None:
            Payload.alive += 1

        def __del__(self) -> None:
            Payload.alive -= 1

    def commit(*events: Done) -> Commit:
        return Commit(KEYS[0], False, False, 1, {}, [], None, events)

    unapplied = nothing(0)
    steps = [LeftByCommit(commit(Done(1, 0, Payload(b"a"))), Leaves(1, False))]
    unapplied.add(1, {}, steps, 1, 1_000)
    del steps
    unapplied.durable(1)
    assert Payload.alive == 1
    unapplied.add(2, {}, [LeftByCommit(commit(), Leaves(2, True))], 1, 1_000)
    unapplied.durable(2)
    assert Payload.alive == 0
    batch = unapplied.take().builder.build([], 2)
    assert (batch.puts, batch.deletes) == ([], [])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.lists(st.integers(0, 2)), st.integers(0, 9)),
            st.integers(0, 3),
            st.just("take"),
        )
    )
)
def test_batches_leave_what_records_would_leave_one_by_one(events: list[Any]) -> None:
    unapplied = nothing(0)
    made: list[tuple[Images, int]] = []
    durable = 0
    store: Images = {}
    deleted: list[bytes] = []
    for event in events:
        if isinstance(event, int):
            # So many of those that are made are on their way to the disk.
            durable = max(durable, len(made) - event)
            unapplied.durable(durable)
        elif event == "take":
            was_due = unapplied.is_due
            due = unapplied.take()
            assert was_due == bool(due.bytes)
            store.update(due.images)
            deleted += due.builder.build([], due.record).deletes
            assert due.record == durable
        else:
            changed, other = event
            number = len(made) + 1
            images: Images = {KEYS[n]: image(number) for n in changed}
            left = [gone(number)] if other else ()
            made.append((images, other))
            unapplied.add(number, images, left, 1, number)
        taken = len(made) - unapplied.bytes
        wanted: Images = {}
        for images, _ in made[:taken]:
            wanted.update(images)
        assert store == wanted
        assert deleted == [
            rows.outbox_key(0, n) for n, (_, other) in enumerate(made[:taken], 1) if other
        ]
        assert bool(unapplied) == (taken < len(made))
