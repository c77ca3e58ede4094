"""The client's half of exactly once, against a small node and a network that does its worst."""

from __future__ import annotations

import random

import pytest
from harness.session_node import REFUSALS, SmallNode
from harness.session_world import LIMITS, World
from harness.sources import from_source
from hypothesis import given, settings
from hypothesis import strategies as st

import perdure.session
from perdure.errors import Code
from perdure.frames import CallFrame
from perdure.open_call import OpenCall
from perdure.settled import Settled

Session = from_source(perdure.session).Session


def world(session=None) -> World:
    return World(SmallNode(), REFUSALS, session)


def walk_at_random(seeds: range, make=world) -> set[str]:
    codes: set[str] = set()
    for seed in seeds:
        chance = random.Random(seed)
        played = make()
        try:
            played.walk(chance.randrange(1 << 16) for _ in range(chance.choice((20, 60, 200))))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        codes.update(Code(code).name for code in played.ends.values())
    return codes


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 200), max_size=120))
def test_whatever_the_network_does_calls_run_once_in_order_and_are_told_the_truth(choices) -> None:
    world().walk(choices)


def test_long_random_walks_find_no_lost_doubled_or_reordered_call() -> None:
    codes = walk_at_random(range(2_000))

    # The walks are worth something only if they meet all of these.
    assert codes >= {"OK", "BACKPRESSURE", "NO_OWNER", "DEADLINE_EXCEEDED", "OBJECT_NOT_FOUND"}


def test_every_short_story_of_three_calls_and_one_object_ends_well() -> None:
    """All orders of four events after three calls, the second of which is given up soon."""
    stories = [()]
    for _ in range(4):
        stories = [(*story, step) for story in stories for step in STEPS]
    played = {tell(story) for story in stories}

    assert len(played) > 1_000, "most stories are different ones"


STEPS = ("first copy", "last copy", "first copy, kept", "answer", "run", "sync", "restart", "break")


def tell(story: tuple[str, ...]) -> tuple[str, ...]:
    """Play a story, leaving out what cannot happen; return what did happen."""
    told = world()
    for time_ms in (None, 100, None):
        told.play(lambda time_ms=time_ms: told.call(0, time_ms))
    happened = [name for name in story if happen(told, name)]
    told.heal()
    told.check()
    return tuple(happened)


def happen(told: World, name: str) -> bool:
    match name:
        case "first copy" | "last copy" | "first copy, kept" if told.flying:
            copy = told.flying[-1 if name == "last copy" else 0]
            told.play(lambda: told.deliver(copy, keep=name.endswith("kept")))
        case "answer" if told.answers:
            told.play(lambda: told.answer(told.answers[0]))
        case "run":
            return told.node.run(0)
        case "sync":
            told.play(told.node.sync)
        case "restart":
            told.play(told.restart)
        case "break":
            told.play(told.break_stream)
            told.play(told.open)
            told.play(lambda: told.wait(110))
        case _:
            return False
    return True


class BelievesRefusals(Session):
    """Forgets that a copy on a broken stream may still arrive."""

    def lost(self, why: str) -> None:
        super().lost(why)
        for lane in self._lanes.values():
            for call in lane.open:
                call.lost = False


class NamesNoPredecessor(Session):
    def _send(self, call: OpenCall[int], frames: list[CallFrame], wall_ms: int) -> None:
        call.before, before = None, call.before
        super()._send(call, frames, wall_ms)
        call.before = before


class TellsNothing(Session):
    """Never says which calls are over."""

    def _send(self, call: OpenCall[int], frames: list[CallFrame], wall_ms: int) -> None:
        assert call.window is not None
        call.window.settled, settled = Settled(), call.window.settled
        super()._send(call, frames, wall_ms)
        call.window.settled = settled


class NumbersCopies(Session):
    """Gives each copy a sequence of its own."""

    def lost(self, why: str) -> None:
        super().lost(why)
        for lane in self._lanes.values():
            for call in lane.open:
                lane.window.last += 1
                call.sequence = lane.window.last


@pytest.mark.parametrize(
    "wrong", [BelievesRefusals, NamesNoPredecessor, TellsNothing, NumbersCopies]
)
def test_a_client_that_breaks_one_rule_is_caught(wrong) -> None:
    with pytest.raises(AssertionError):
        walk_at_random(range(2_000), lambda: world(wrong(bytes, LIMITS)))
