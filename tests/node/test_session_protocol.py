"""The client's and the node's halves of exactly once against each other, both real."""

from __future__ import annotations

import random

from harness.partition_node import REFUSALS, PartitionNode
from harness.session_world import OBJECTS, World
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.errors import Code


def world() -> World:
    return World(PartitionNode(), REFUSALS)


def check(played: World) -> None:
    played.check()
    # What the objects hold after one more restart is what was answered, in that order.
    log = played.node.durable_log()
    stored = played.node.stored_log()
    for key in OBJECTS:
        of_key = [token for token in log if played.made[token].target == key]
        assert [token for token in stored if played.made[token].target == key] == of_key


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 200), max_size=120))
def test_client_and_partition_keep_exactly_once_over_any_network(choices) -> None:
    played = world()
    played.walk(choices)

    check(played)


def test_client_and_partition_keep_exactly_once_over_long_random_walks() -> None:
    for seed in range(1_500):
        chance = random.Random(seed)
        played = world()

        played.walk(chance.randrange(1 << 16) for _ in range(chance.choice((20, 60, 200))))

        check(played)


def test_an_old_copy_that_names_a_call_given_up_does_not_overtake_an_earlier_call() -> None:
    """The node forgets all three calls; the third's old copy comes before the first's new one."""
    played = world()
    for time_ms in (None, 100, None):
        played.play(lambda time_ms=time_ms: played.call(0, time_ms))
    old = played.flying[2]
    for copy in played.flying[:2]:
        played.play(lambda copy=copy: played.deliver(copy))
    played.play(played.break_stream)
    played.play(played.restart)
    played.play(lambda: played.wait(200))
    played.play(played.open)

    played.play(lambda: played.call(1, None))
    played.play(lambda: played.deliver(played.flying[-1]))
    played.play(lambda: played.deliver(old))
    while played.node.run(0):
        played.settle()

    assert played.ends == {2: Code.DEADLINE_EXCEEDED}
    played.heal()
    check(played)
    assert played.node.durable_log() == [4, 1, 3]


def test_a_call_behind_a_refused_one_does_not_wait_for_it() -> None:
    """The client tells at once that the first call is over; the second then needs no time-out."""
    played = world()
    played.node.refusing = Code.UNKNOWN_METHOD
    played.play(lambda: played.call(0, None))
    played.play(lambda: played.call(0, None))
    first, second = played.flying
    played.play(lambda: played.deliver(first))
    played.node.refusing = None
    played.play(lambda: played.deliver(second))

    started_ms = played.now_ms
    while played.ends.keys() < {1, 2}:
        for answer in list(played.answers):
            played.play(lambda answer=answer: played.answer(answer))
        for copy in list(played.flying):
            played.play(lambda copy=copy: played.deliver(copy))
        played.node.run(0)
        played.play(played.node.sync)

    assert played.ends == {1: Code.UNKNOWN_METHOD, 2: Code.OK}
    assert played.now_ms == started_ms
