"""What a partition promises of objects: their life, and what handles and lists see of them."""

from __future__ import annotations

from harness.core import CART, THERE, Core

from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.limits import Limits

OTHER = ObjectKey("Cart", "u2")
HOUR_MS = 3_600_000


def methods(core: Core) -> list[tuple[str, int]]:
    return [(call.request.method, call.request.sequence) for call in core.running]


def test_only_get_or_create_creates() -> None:
    core = Core()

    number = core.call(1)

    assert core.answers() == [(number, Code.OBJECT_NOT_FOUND, list(CART))]
    assert core.image() is None


def test_get_or_create_of_an_existing_object_waits_for_no_method() -> None:
    core = Core()
    core.create()
    core.call(2, "slow")

    number = core.call(1, "", kind=Kind.GET_OR_CREATE, session=THERE, have=[0, 0])

    [(answered, code, reply)] = core.sink.answers
    assert (answered, code) == (number, 0)
    assert reply.changes is not None
    assert reply.changes.values == {"n": b"0"}


def test_delete_takes_its_turn_and_calls_behind_it_find_nothing() -> None:
    core = Core()
    core.create()
    first = core.call(2)
    gone = core.call(3, "", kind=Kind.DELETE)
    behind = core.call(4)

    core.returned({"n": b"1"})
    core.sync()

    assert [(n, c) for n, c, _ in core.answers()] == [
        (first, 0),
        (gone, 0),
        (behind, Code.OBJECT_NOT_FOUND),
    ]
    core.apply()
    assert [key for key in core.rows.rows if key[:1] in (b"o", b"a")] == []


def test_an_object_made_again_after_delete_begins_anew() -> None:
    core = Core()
    core.create(1, CART, n=b"0", extra=b"x")
    core.call(2, "", kind=Kind.DELETE)
    core.create(3, CART, n=b"0")
    core.apply()
    core.trim()
    core.crash()

    assert core.image() == {"n": b"0"}


def test_a_handle_gets_what_changed_since_its_version_by_whomever() -> None:
    core = Core()
    core.create(1, CART, a=b"0", b=b"0")
    core.call(2, have=[core.epoch, 1])
    core.returned({"a": b"1"})
    core.call(1, session=THERE, have=None)
    core.returned({"b": b"1"})
    core.call(3, have=[core.epoch, 2])
    core.returned({"a": b"2"})
    core.sync()

    first, second, third = core.replies()

    assert first.changes is not None
    assert first.changes.values == {"a": b"1"}
    assert second.changes is None
    assert third.changes is not None
    assert third.changes.values == {"a": b"2", "b": b"1"}


def test_a_handle_from_another_epoch_gets_the_whole_state() -> None:
    core = Core()
    core.create(1, CART, a=b"0", b=b"0")
    core.crash()

    core.call(2, have=[core.epoch - 1, 9])
    core.returned({"a": b"1"})
    core.sync()

    [reply] = core.replies()
    assert reply.version is not None
    assert reply.version[0] == core.epoch
    assert reply.changes is not None
    assert reply.changes.full
    assert reply.changes.values == {"a": b"1", "b": b"0"}


def test_a_deleted_attribute_travels_as_deleted() -> None:
    core = Core()
    core.create(1, CART, a=b"0", b=b"0")
    core.call(2, have=[core.epoch, 1])
    core.returned({"b": b""})
    core.sync()

    [reply] = core.replies()

    assert reply.changes is not None
    assert reply.changes.deleted == ["b"]


def test_attributes_that_are_too_large_are_left_out_and_named() -> None:
    core = Core()
    large, medium = b"x" * 20_000, b"y" * 15_000
    core.create(1, CART, large=large, **{f"m{i}": medium for i in range(5)})

    core.call(0, "", kind=Kind.GET, have=[0, 0])
    core.call(0, "*", kind=Kind.GET, have=[0, 0])

    some, everything = core.replies()
    assert some.changes is not None
    assert everything.changes is not None
    assert sorted(some.changes.values) == ["m0", "m1", "m2", "m3"]
    assert some.changes.left_out == ["large", "m4"]
    assert len(everything.changes.values) == 6


def test_passivation_keeps_what_the_store_does_not_have() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"})
    core.sync()
    state = core.memory.state(CART)
    assert state is not None
    core.memory.passivate(state)

    assert len(core.residents) == 0
    assert core.image() == {"n": b"1"}
    core.apply()
    state = core.memory.state(CART)
    assert state is not None
    core.memory.passivate(state)
    assert core.image() == {"n": b"1"}


def test_list_shows_what_is_in_the_store_and_what_is_not_yet() -> None:
    core = Core()
    for sequence, id in enumerate(("a", "b", "c"), 1):
        core.create(sequence, ObjectKey("Cart", id))
    core.apply()
    core.create(4, ObjectKey("Cart", "bb"))
    core.call(5, "", kind=Kind.DELETE, target=ObjectKey("Cart", "a"))

    assert core.memory.list_ids("Cart", "", "", 10) == (["b", "bb", "c"], False)
    assert core.memory.list_ids("Cart", "", "b", 1) == (["bb"], True)
    assert core.memory.list_ids("Cart", "b", "", 10) == (["b", "bb"], False)


def test_a_large_attribute_is_stored_apart_and_goes_with_its_object() -> None:
    core = Core()
    large = b"x" * 5_000
    core.create(1, CART, n=b"0", large=large)
    core.sync()
    core.apply()
    core.trim()
    core.crash()
    assert core.image() == {"n": b"0", "large": large}

    core.call(2)
    core.returned({"n": b"1"})
    core.sync()
    batch = core.memory.take_batch()
    assert batch is not None
    assert all(len(row) < 5_000 for _, row in batch.puts)
    core.rows.write(*batch)
    core.memory.batch_written(batch)
    core.call(3, "", kind=Kind.DELETE)
    core.sync()
    core.apply()

    assert [key for key in core.rows.rows if key[:1] in (b"o", b"a")] == []


def test_a_state_that_is_too_large_as_json_is_refused_with_its_size() -> None:
    core = Core(Limits(result_bytes_max=50))
    core.create(1, CART, n=b"0")
    core.create(2, ObjectKey("Cart", "big"), n=b"x" * 100)

    fits = core.call(0, "", kind=Kind.GET, encoding=1)
    not_fits = core.call(0, "", kind=Kind.GET, encoding=1, target=ObjectKey("Cart", "big"))

    assert [(n, c) for n, c, _ in core.answers()] == [
        (fits, 0),
        (not_fits, Code.RESULT_TOO_LARGE),
    ]
