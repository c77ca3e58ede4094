"""What a node remembers of the objects that are called: their partitions, within bounds."""

from __future__ import annotations

import pytest

from perdure.bodies import Request
from perdure.errors import BadObjectId, BadPayload
from perdure.frames import Kind
from perdure.ids import ObjectKey, partition_of
from perdure_node.intake import Intake

PARTITIONS = 16


def request(type: str, id: str) -> Request:
    return Request(Kind.CALL, bytes(16), 1, 0, [0], type, id, "add", 0, b"", None, None, [], 0)


def check(intake: Intake, type: str, id: str) -> Request:
    asked = request(type, id)
    intake.check(asked, partition_of(ObjectKey(type, id), PARTITIONS), 100)
    return asked


def test_an_object_that_is_called_again_has_the_very_same_key() -> None:
    intake = Intake(PARTITIONS, 100)

    first, second = check(intake, "Cart", "a"), check(intake, "Cart", "a")

    assert first.object_key == ObjectKey("Cart", "a")
    assert second.object_key is first.object_key
    assert check(intake, "Basket", "a").object_key == ObjectKey("Basket", "a")
    assert intake.remembered == 2


def test_another_partition_is_refused_however_often_the_object_was_called() -> None:
    intake = Intake(PARTITIONS, 100)
    for _ in range(2):
        wrong = (partition_of(ObjectKey("Cart", "a"), PARTITIONS) + 1) % PARTITIONS
        with pytest.raises(BadPayload, match=r"Cart\[a\] is in partition"):
            intake.check(request("Cart", "a"), wrong, 100)
        check(intake, "Cart", "a")


def test_long_names_are_looked_at_each_time_and_fill_no_memory() -> None:
    intake = Intake(PARTITIONS, 100)

    long = check(intake, "T" * 100_000, "a")

    assert long.object_key.type == "T" * 100_000
    assert intake.remembered == 0


def test_objects_are_forgotten_before_they_are_too_many() -> None:
    intake = Intake(PARTITIONS, 100)
    for number in range(20_000):
        check(intake, "Cart", f"cart-{number}")
        assert intake.remembered <= 16_384
    assert check(intake, "Cart", "cart-0").object_key == ObjectKey("Cart", "cart-0")


def test_what_can_be_no_object_is_refused_and_not_remembered() -> None:
    intake = Intake(PARTITIONS, 100)
    for type, id in (("", "a"), ("Ca\0rt", "a"), ("Cart", "")):
        with pytest.raises(BadObjectId):
            intake.check(request(type, id), 0, 100)
    assert intake.remembered == 0
