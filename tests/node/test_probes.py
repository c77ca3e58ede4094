"""What a partition tells others that ask what a call waits for."""

from __future__ import annotations

from typing import Any

import pytest
from harness.core import HERE
from harness.waits import Waits, crossed

from perdure.codec import decode, encode
from perdure.errors import Code
from perdure.frames import Encoding, Kind
from perdure.ids import CallId, partition_session_id

TWO = [0, 1]


def told(world: Waits, id: CallId, target: int, **options: Any) -> object:
    core = world.cores[world.places[target]]
    arguments = options.pop("arguments", encode(str(id)))
    number = core.call(
        0, "", kind=Kind.PROBE, target=world.keys[target], arguments=arguments, **options
    )
    [(answered, code, payload)] = core.answers()
    assert answered == number
    return decode(payload) if code == 0 else Code(code)


def test_a_partition_tells_what_a_call_waits_for_and_who_holds_its_object() -> None:
    world, calls = crossed(TWO)
    start_by_ms = world.sent[calls[0]].start_by_ms

    assert told(world, calls[0], 1) == [
        start_by_ms,
        ["Knot[1].m0", "Knot[1].hold"],
        [[0, calls[1].sequence, "Knot", "0"]],
    ]


def test_a_partition_tells_what_a_call_waits_for_that_has_started() -> None:
    world = Waits([0, 1])
    world.begin(0)
    id = world.call(0, 1)
    assert id is not None
    world.deliver_all()

    assert told(world, id, 1) == [None, ["Knot[1].m0"], []]


def test_a_call_that_is_parked_waits_for_nothing() -> None:
    world, calls = crossed([0, 1])
    holder = world.running(1)
    assert holder is not None
    holder.parked = "its code is gone"

    assert told(world, calls[0], 1) == [
        world.sent[calls[0]].start_by_ms,
        ["Knot[1].m0", "Knot[1].hold"],
        [],
    ]


def test_a_partition_tells_nothing_of_calls_that_are_not_there() -> None:
    world, calls = crossed(TWO)

    assert told(world, calls[0]._replace(sequence=77), 1) is None
    assert told(world, CallId(partition_session_id("other", 0), 1, 1), 1) is None


@pytest.mark.parametrize(
    "options",
    [
        {"arguments": b""},
        {"arguments": encode(7)},
        {"arguments": encode("no id")},
        {"arguments": encode(f"{HERE.hex()}:5:1")},
        {"encoding": int(Encoding.JSON)},
    ],
    ids=str,
)
def test_a_question_that_names_no_call_of_the_partition_is_malformed(
    options: dict[str, Any],
) -> None:
    world, calls = crossed(TWO)

    assert told(world, calls[0], 1, **options) == Code.MALFORMED
