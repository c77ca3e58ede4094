"""Calls that wait for one another in a circle: who is asked, and which call is refused."""

from __future__ import annotations

import pytest
from harness.waits import Waits, crossed, held

from perdure.codec import encode
from perdure.errors import Code
from perdure.frames import Kind
from perdure_node.core.limits import Limits

ONE_PARTITION, TWO, THREE = [0, 0], [0, 1], [0, 1, 2]
FIRST_MS = Limits().probe_after_ms


def until_told(world: Waits) -> None:
    """Deliver messages until an answer to a question is the next one."""
    while world.messages[0].kind != "told":
        world.deliver()


def until_asked_again(world: Waits) -> None:
    """Let the first questions be answered, so that somebody asks once more to be sure."""
    world.time_passes(FIRST_MS)
    for _ in range(sum(message.kind == "probe" for message in world.messages)):
        world.deliver()
    while {message.kind for message in world.messages} == {"told"}:
        world.deliver()
    world.messages = [message for message in world.messages if message.kind == "probe"]
    assert len(world.messages) == 1


def kill(world: Waits, object: int) -> None:
    """End the method that holds an object, whatever it waits for."""
    holder, core = world.running(object), world.cores[world.places[object]]
    assert holder is not None
    core.running.remove(holder)
    core.partition.method_returned(holder, int(Code.CANCELLED), b"\x90", {})
    core._work()
    core.sync()


@pytest.mark.parametrize("places", [ONE_PARTITION, TWO, THREE, [0, 1, 0, 2, 1]], ids=str)
def test_of_a_circle_the_youngest_call_is_refused_and_no_other(places: list[int]) -> None:
    world, calls = crossed(places)

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert list(world.refused) == [calls[-1]]
    assert not world.circles()


def test_the_refusal_names_the_circle_from_the_caller_round_to_the_caller() -> None:
    world, calls = crossed(THREE)

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert world.refused[calls[2]] == [
        "Knot[2].hold", "Knot[0].m2",
        "Knot[0].hold", "Knot[1].m0",
        "Knot[1].hold", "Knot[2].m1",
        "Knot[2].hold",
    ]  # fmt: skip


def test_a_method_in_the_middle_that_has_been_called_is_named_too() -> None:
    world = Waits(THREE)
    world.begin(0)
    world.begin(1)
    world.call(0, 2)
    world.deliver_all()
    assert world.running(2) is not None
    world.call(2, 1)
    refused = world.call(1, 0, skew_ms=1)
    world.deliver_all()

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert refused is not None
    assert world.refused == {
        refused: [
            "Knot[1].hold", "Knot[0].m1",
            "Knot[0].hold", "Knot[2].m0", "Knot[1].m2",
            "Knot[1].hold",
        ]
    }  # fmt: skip


def test_which_is_the_youngest_is_told_by_the_callers_and_not_by_who_came_last() -> None:
    world = held(TWO)
    young = world.call(0, 1, skew_ms=100)
    world.call(1, 0, skew_ms=0)
    world.deliver_all()

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert list(world.refused) == [young]


def test_of_two_equally_old_calls_the_ids_decide() -> None:
    world = held(TWO)
    calls = [world.call(0, 1), world.call(1, 0)]
    world.deliver_all()

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert list(world.refused) == [max(id for id in calls if id is not None)]


def test_the_refusal_is_the_result_of_the_callers_step_and_everything_goes_on() -> None:
    world, calls = crossed(TWO)
    world.time_passes(FIRST_MS)
    world.deliver_all()

    world.end(1)
    world.deliver_all()
    assert world.running(1) is not None
    world.end(1)
    world.deliver_all()
    world.end(0)

    assert (world.running(0), world.running(1)) == (None, None)
    assert calls[0] not in world.refused


def test_a_copy_of_a_refused_call_gets_the_same_answer_also_after_a_crash() -> None:
    world, calls = crossed(TWO)
    world.time_passes(FIRST_MS)
    refused = calls[1]
    while refused not in world.refused:
        world.deliver()
    named = world.refused.pop(refused)
    world.messages.clear()

    world.crash(0)
    world.deliver_all()

    assert world.refused == {refused: named}


def test_nothing_is_asked_before_a_call_has_waited_for_a_while_and_then_less_and_less() -> None:
    world = held(TWO)
    world.call(0, 1)
    world.deliver_all()
    world.call(1, 0)  # It never arrives.
    asked = []
    for now_ms in range(10, 4_000, 10):
        before = world.probes
        world.time_passes(10)
        world.messages.sort(key=lambda message: message.kind == "call")
        while world.messages[0].kind != "call":
            world.deliver()
        if world.probes > before:
            asked.append(now_ms)

    assert asked == [50, 100, 200, 400, 800, 1_600, 2_600, 3_600]


def test_a_call_that_comes_later_is_looked_after_as_soon_as_the_first_one() -> None:
    world = held([0, 1, 2])
    world.call(2, 0)
    world.call(0, 1)
    world.deliver_all()
    for _ in range(5):
        world.time_passes(1_000)
        world.deliver_all()

    closing = world.call(1, 0)
    world.deliver_all()
    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert list(world.refused) == [closing]


def test_nobody_is_asked_for_calls_of_clients_and_none_while_the_holder_waits_for_nothing() -> None:
    world = held(TWO)
    world.begin(1)
    assert world.cores[1].partition.next_time_ms is None

    world.call(0, 1)
    world.deliver_all()
    for _ in range(5):
        world.time_passes(1_000)

    assert world.messages == []


def test_no_time_is_waited_for_once_nothing_waits() -> None:
    world = held(TWO)
    world.call(0, 1)
    world.deliver_all()
    world.end(1)
    world.deliver_all()
    assert world.running(1) is not None

    world.time_passes(FIRST_MS)

    due_ms = world.cores[1].partition.next_time_ms
    assert due_ms is not None
    assert due_ms > world.cores[1].now_ms + 50_000, "what is left is the time to have started"


def test_a_call_that_has_started_meanwhile_is_not_refused() -> None:
    world, calls = crossed(TWO)
    world.time_passes(FIRST_MS)
    until_told(world)
    kill(world, 0)
    started = world.running(0)
    assert started is not None
    assert started.request.sequence == calls[1].sequence

    world.deliver_all()

    assert world.refused == {}


def test_a_call_that_waits_for_another_one_meanwhile_is_not_refused() -> None:
    world = held(TWO)
    world.begin(0)
    world.call(0, 1)
    world.call(1, 0, skew_ms=1)
    world.deliver_all()
    world.time_passes(FIRST_MS)
    until_told(world)
    kill(world, 0)
    assert world.running(0) is not None

    world.deliver_all()

    assert world.refused == {}


@pytest.mark.parametrize("places", [TWO, [0, 0, 1]], ids=str)
def test_a_circle_of_which_a_part_has_gone_when_it_is_looked_at_again_is_none(
    places: list[int],
) -> None:
    world, _ = crossed(places)
    until_asked_again(world)

    kill(world, 1)  # So that the call starts which has waited for it.
    world.deliver_all()

    assert world.refused == {}


def test_a_circle_whose_first_method_goes_on_when_it_is_looked_at_again_is_none() -> None:
    world, _ = crossed(TWO)
    until_asked_again(world)

    world.nap(0)
    world.deliver_all()

    assert world.refused == {}


def test_a_call_that_was_cancelled_meanwhile_is_not_refused() -> None:
    world, calls = crossed(TWO)
    until_asked_again(world)
    core, arguments = world.cores[0], encode(str(calls[1]))
    core.call(0, "cancel", kind=Kind.CANCEL, target=world.keys[0], arguments=arguments)

    world.deliver_all()

    assert world.refused == {}
    [ended] = core.memory.windows[calls[1].session].ended.values()
    assert ended.code == Code.CANCELLED


@pytest.mark.parametrize("kind", ["nap", "ignored"])
def test_a_method_that_does_not_wait_for_its_call_alone_ends_the_way(kind: str) -> None:
    world = held(TWO)
    world.call(0, 1, awaited=kind != "ignored")
    if kind == "nap":
        world.nap(0)
    world.call(1, 0)
    world.deliver_all()
    for _ in range(5):
        world.time_passes(500)
        world.deliver_all()
    assert world.refused == {}

    if kind == "nap":
        world.wake(0)
        world.time_passes(1_000)
        world.deliver_all()
        assert len(world.refused) == 1


def test_shared_calls_make_no_calls_so_nobody_asks_what_they_wait_for() -> None:
    world = Waits([0, 1])
    world.begin(0, "shared")
    world.begin(0, "shared_too")
    world.begin(1)
    world.call(1, 0)
    world.deliver_all()
    world.time_passes(1_000)

    assert world.messages == []


def test_a_younger_call_that_waits_at_the_same_object_makes_no_other_one_the_youngest() -> None:
    world = held([0, 1, 2, 3])
    young = world.call(0, 1, skew_ms=5)
    world.call(1, 2, skew_ms=0)
    world.call(2, 0, skew_ms=1)
    world.call(3, 0, skew_ms=9)  # It waits, and nobody waits for it.
    world.deliver_all()

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert list(world.refused) == [young]


def test_no_call_is_asked_about_twice_at_one_time() -> None:
    world = held([0, 1, 2, 3, 4, 5])
    for object, target in [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)]:
        world.call(object, target)
    world.deliver_all()
    world.time_passes(10_000)
    world.messages.clear()
    world.call(5, 0, skew_ms=10)
    world.deliver_all()

    world.cores[0].time_passes(FIRST_MS)
    world._settle(0)
    world.deliver_all()

    assert world.probes == 5


def test_of_a_method_that_makes_several_calls_at_once_each_circle_is_broken() -> None:
    world = held([0, 1, 2])
    for other in (1, 2):
        world.call(0, other)
        world.call(other, 0, skew_ms=other)
    world.deliver_all()

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert len(world.refused) == 2
    assert {names[0] for names in world.refused.values()} == {"Knot[1].hold", "Knot[2].hold"}


def test_a_question_that_is_lost_is_asked_again() -> None:
    world, calls = crossed(TWO)
    world.time_passes(FIRST_MS)
    assert {message.kind for message in world.messages} == {"probe"}
    world.messages.clear()

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert list(world.refused) == [calls[1]]


def test_an_answer_that_comes_after_the_next_question_counts_too() -> None:
    world, calls = crossed(TWO)
    world.time_passes(FIRST_MS)
    while any(message.kind == "probe" for message in world.messages):
        world.deliver()
    late = world.messages.copy()
    world.messages.clear()
    world.time_passes(FIRST_MS)
    later = world.messages.copy()
    world.messages = late
    world.deliver_all()
    assert list(world.refused) == [calls[1]]

    world.messages = later
    world.deliver_all()
    assert list(world.refused) == [calls[1]]


def test_a_partition_stops_asking_where_a_younger_call_waits() -> None:
    world, _ = crossed(THREE)

    world.time_passes(FIRST_MS)
    world.deliver_all()

    # For the youngest call two, and again to be sure; for each of the others one.
    assert world.probes == 2 * 2 + 1 + 1


def test_circles_are_found_anew_after_all_nodes_have_crashed() -> None:
    world, calls = crossed(THREE)
    for partition in range(3):
        world.crash(partition)
    world.deliver_all()
    assert world.circles()

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert list(world.refused) == [calls[2]]


def test_a_circle_that_is_longer_than_what_may_be_asked_ends_by_the_time_to_have_started() -> None:
    world, _ = crossed([0, 1, 2], Limits(probe_calls_max=1))
    for _ in range(5):
        world.time_passes(1_000)
        world.deliver_all()
    assert world.refused == {}

    world.time_passes(Limits().nested_start_ms)
    world.deliver_all()
    assert not world.circles()


def test_the_next_call_with_the_same_key_takes_the_place_of_one_that_is_refused() -> None:
    world = held(TWO)
    world.call(0, 1)
    refused = world.call(1, 0, skew_ms=1, key="k")
    world.deliver_all()
    core = world.cores[0]
    twin = core.call(world._next(0), "m1", target=world.keys[0], key="k")
    assert core.answers() == []

    world.time_passes(FIRST_MS)
    world.deliver_all()
    assert list(world.refused) == [refused]
    world.end(1)
    world.deliver_all()
    world.end(1)
    world.deliver_all()
    world.end(0)

    holder = world.running(0)
    assert holder is not None, "the twin runs"
    assert [copy.number for copy in holder.copies] == [twin]


def test_a_call_with_the_key_of_a_younger_one_that_waits_hides_no_circle() -> None:
    world = held(TWO)
    world.cores[1].call(world._next(1), "m0", target=world.keys[1], key="k")
    world.call(0, 1, skew_ms=100, key="k")  # It waits for the client's call to end.
    refused = world.call(1, 0)
    world.deliver_all()

    world.time_passes(FIRST_MS)
    world.deliver_all()

    assert list(world.refused) == [refused]


def test_what_takes_the_place_of_a_late_call_may_be_late_itself() -> None:
    world = held([0, 1, 1])
    calls = [
        world.call(object, 0, skew_ms=object * 1_000, key="k", method="same") for object in (1, 2)
    ]
    world.deliver_all()
    waiting = world.cores[0].partition.mailboxes.get(world.keys[0])
    assert waiting is not None
    assert len(waiting.waiting) == 1

    world.time_passes(Limits().nested_start_ms + 1_500)
    assert [call.request.sequence for call in waiting.waiting] == [calls[1].sequence]
    world.time_passes(1_000)

    assert not waiting.waiting
