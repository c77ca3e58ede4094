"""What a handle knows: one committed state as a whole, never an older one."""

from __future__ import annotations

from perdure.frames import Changes
from perdure.snapshot import Snapshot


def whole(left_out=(), **values: bytes) -> Changes:
    return Changes(True, values, [], list(left_out))


def since(deleted=(), left_out=(), **values: bytes) -> Changes:
    return Changes(False, values, list(deleted), list(left_out))


def loaded(number: int = 5, **values: bytes) -> Snapshot:
    snapshot = Snapshot()
    snapshot.apply((1, number), whole(**values))
    return snapshot


def test_a_new_snapshot_has_nothing_and_asks_for_all() -> None:
    snapshot = Snapshot()

    assert snapshot.have() == (0, 0)
    assert not snapshot.loaded


def test_a_whole_state_is_taken_and_its_version_is_what_it_has() -> None:
    snapshot = loaded(5, a=b"1")

    assert snapshot.values == {"a": b"1"}
    assert snapshot.have() == (1, 5)


def test_changes_are_laid_over_what_was_there() -> None:
    snapshot = loaded(5, a=b"1", b=b"2", c=b"3")

    assert snapshot.apply((1, 7), since(b=b"9", d=b"4", deleted=["c"]))

    assert snapshot.values == {"a": b"1", "b": b"9", "d": b"4"}
    assert snapshot.have() == (1, 7)


def test_an_older_answer_takes_nothing_back() -> None:
    snapshot = loaded(7, a=b"new")

    assert not snapshot.apply((1, 6), since(a=b"old"))
    assert not snapshot.apply((1, 6), whole(a=b"old"))

    assert snapshot.values == {"a": b"new"}
    assert snapshot.have() == (1, 7)


def test_two_answers_in_either_order_end_in_the_same_state() -> None:
    sixth = since(a=b"6", b=b"6", deleted=["c"])
    seventh = since(a=b"7", b=b"6", deleted=["c"])
    one, other = loaded(5, a=b"5", b=b"5", c=b"5"), loaded(5, a=b"5", b=b"5", c=b"5")

    one.apply((1, 6), sixth)
    one.apply((1, 7), seventh)
    other.apply((1, 7), seventh)
    other.apply((1, 6), sixth)

    assert one.values == other.values == {"a": b"7", "b": b"6"}
    assert one.have() == other.have() == (1, 7)


def test_another_epoch_brings_the_whole_state() -> None:
    snapshot = loaded(100, a=b"1", gone=b"1")

    snapshot.apply((2, 3), whole(a=b"2"))

    assert snapshot.values == {"a": b"2"}
    assert snapshot.have() == (2, 3)


def test_an_answer_of_an_earlier_epoch_is_outdated_whatever_its_number() -> None:
    snapshot = Snapshot()
    snapshot.apply((2, 3), whole(a=b"2"))

    assert not snapshot.apply((1, 100), whole(a=b"1"))

    assert snapshot.values == {"a": b"2"}


def test_changes_without_their_base_are_not_taken() -> None:
    empty, other_epoch = Snapshot(), loaded(5, a=b"1")

    assert not empty.apply((1, 6), since(a=b"2"))
    assert not other_epoch.apply((2, 1), since(a=b"2"))

    assert not empty.loaded
    assert other_epoch.values == {"a": b"1"}


def test_an_attribute_that_grew_too_large_is_not_shown_as_it_was() -> None:
    snapshot = loaded(5, a=b"1", big=b"small")

    snapshot.apply((1, 6), since(left_out=["big"]))

    assert snapshot.values == {"a": b"1"}
    assert snapshot.left_out == {"big"}


def test_an_attribute_that_shrank_or_went_is_not_left_out_any_more() -> None:
    snapshot = Snapshot()
    snapshot.apply((1, 5), whole(left_out=["x", "y"]))

    snapshot.apply((1, 6), since(x=b"small", deleted=["y"]))

    assert snapshot.values == {"x": b"small"}
    assert snapshot.left_out == set()


def test_a_refresh_of_the_same_state_loads_what_was_left_out() -> None:
    snapshot = Snapshot()
    snapshot.apply((1, 5), whole(left_out=["big"], a=b"1"))

    assert snapshot.apply((1, 5), whole(a=b"1", big=b"big"))

    assert snapshot.values == {"a": b"1", "big": b"big"}
    assert snapshot.left_out == set()


def test_what_a_refresh_has_loaded_stays_loaded_while_the_state_is_the_same() -> None:
    snapshot = loaded(5, a=b"1", big=b"big")

    snapshot.apply((1, 5), whole(left_out=["big"], a=b"1"))

    assert snapshot.values == {"a": b"1", "big": b"big"}
    assert snapshot.left_out == set()


def test_a_late_answer_about_the_same_state_leaves_loaded_what_a_refresh_has_loaded() -> None:
    snapshot = loaded(5, a=b"1")
    snapshot.apply((1, 6), whole(a=b"1", big=b"big"))

    assert snapshot.apply((1, 6), since(left_out=["big"]))

    assert snapshot.values == {"a": b"1", "big": b"big"}
    assert snapshot.left_out == set()


def test_after_a_deletion_nothing_is_known_and_nothing_older_comes_back() -> None:
    snapshot = loaded(5, a=b"1")

    snapshot.forget()
    snapshot.apply((1, 4), whole(a=b"0"))

    assert snapshot.values == {}
    assert snapshot.have() == (0, 0)


def test_a_copy_goes_its_own_way() -> None:
    snapshot = loaded(5, a=b"1")
    copy = snapshot.copy()

    snapshot.apply((1, 6), since(a=b"2"))

    assert copy.values == {"a": b"1"}
    assert copy.have() == (1, 5)
