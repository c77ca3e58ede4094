"""Calls from one partition to another: both die at any time, and no call runs twice."""

from __future__ import annotations

import random

import pytest
from harness.origin_world import OriginWorld
from harness.partition_node import PartitionNode
from harness.session_node import SmallNode
from harness.session_world import LIMITS, OBJECTS
from harness.sources import from_source
from hypothesis import given, settings
from hypothesis import strategies as st

import perdure.session
from perdure.errors import Code
from perdure.ids import CallId
from perdure.open_call import OpenCall

Session = from_source(perdure.session).Session

REFUSALS = (Code.DRAINING, Code.DISK_FULL, Code.NOT_OWNER)
"""Those that pass. The partition itself remembers the others."""


def world() -> OriginWorld:
    return OriginWorld(PartitionNode(), REFUSALS)


def small_world(make=lambda: perdure.session.Session(bytes, LIMITS)) -> OriginWorld:
    return OriginWorld(SmallNode(), (Code.BACKPRESSURE, Code.DRAINING, Code.NOT_OWNER), make)


def check_stored(played: OriginWorld) -> None:
    """What the objects hold after one more restart is what was answered, in that order."""
    log = played.node.durable_log()
    stored = played.node.stored_log()
    for key in OBJECTS:
        of_key = [token for token in log if played.made[token].target == key]
        assert [token for token in stored if played.made[token].target == key] == of_key


def walk_at_random(seeds: range, make) -> set[str]:
    codes: set[str] = set()
    for seed in seeds:
        chance = random.Random(seed)
        played = make()
        try:
            played.walk(chance.randrange(1 << 16) for _ in range(chance.choice((20, 60, 200))))
            if isinstance(played.node, PartitionNode):
                check_stored(played)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        codes.update(Code(code).name for code in played.ends.values())
    return codes


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 200), max_size=120))
def test_a_partition_that_dies_at_any_time_calls_another_one_exactly_once(choices) -> None:
    played = world()
    played.walk(choices)

    check_stored(played)


def test_over_long_random_walks_partitions_call_each_other_exactly_once() -> None:
    codes = walk_at_random(range(1_500), world)

    # The walks are worth something only if they meet all of these.
    assert codes >= {"OK", "BACKPRESSURE", "NO_OWNER", "NOT_STARTED"}


def test_over_long_random_walks_no_call_of_a_partition_is_lost_doubled_or_reordered() -> None:
    walk_at_random(range(1_500), small_world)


class ConfirmsAnswers(OriginWorld):
    """Lets the target forget outcomes that are not durable here."""

    def end(self, token: int, code: int) -> None:
        super().end(token, code)
        self.confirm(token)


class NumbersAnew(OriginWorld):
    """Gives calls that it makes again other numbers than before."""

    def name(self, token: int) -> CallId:
        return super().name(token + 1_000 * self.crashes)


class ForgetsEarlierLives(Session):
    """Believes that a call was never sent because this process has not sent it."""

    def call(self, call: OpenCall[int]) -> None:
        super().call(call)
        call.lost = False


class NamesNoPredecessor(Session):
    def _send(self, call: OpenCall[int], frames, wall_ms: int) -> None:
        call.before, before = None, call.before
        super()._send(call, frames, wall_ms)
        call.before = before


@pytest.mark.parametrize("wrong", [ConfirmsAnswers, NumbersAnew])
def test_a_caller_that_breaks_one_rule_is_caught(wrong) -> None:
    with pytest.raises(AssertionError):
        walk_at_random(range(2_000), lambda: wrong(PartitionNode(), REFUSALS))


@pytest.mark.parametrize("wrong", [ForgetsEarlierLives, NamesNoPredecessor])
def test_a_session_that_breaks_one_rule_is_caught(wrong) -> None:
    with pytest.raises(AssertionError):
        walk_at_random(range(2_000), lambda: small_world(lambda: wrong(bytes, LIMITS)))
