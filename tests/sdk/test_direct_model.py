"""Direct routing against a network that does its worst: once, in order, and told the truth."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import harness.direct_world
import pytest
from harness.direct_world import ROUTER, DirectWorld
from harness.sources import from_source
from harness.virtual_loop import VirtualLoop
from structlog.testing import capture_logs

import perdure.client
import perdure.routing.core.forwarding
import perdure.routing.forwarder
import perdure.session
from perdure.bodies import unpack_request
from perdure.errors import Code
from perdure.open_call import OpenCall

Spoil = Callable[[pytest.MonkeyPatch], None]


def walk_at_random(seeds: range, lengths: tuple[int, ...] = (20, 60, 150)) -> set[str]:
    codes: set[str] = set()
    for seed in seeds:
        chance = random.Random(seed)
        with VirtualLoop() as loop, capture_logs():
            world = DirectWorld(loop, chance)
            try:
                world.walk(chance.choice(lengths))
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
        codes.update(Code(call.end).name for call in world.calls if call.end is not None)
    return codes


def test_whatever_happens_calls_run_once_in_order_and_are_told_the_truth() -> None:
    codes = walk_at_random(range(250))

    # The walks are worth something only if they meet all of these.
    assert codes >= {"OK", "BACKPRESSURE", "NO_OWNER", "DEADLINE_EXCEEDED", "OBJECT_NOT_FOUND"}


def test_when_all_is_well_again_every_call_goes_straight_to_its_owner() -> None:
    for seed in range(30):
        with VirtualLoop() as loop, capture_logs():
            world = DirectWorld(loop, random.Random(seed))
            world.walk(60)
            # Whoever was left alone for longest is looked at again, when a call needs it.
            world.wait(61_000)
            for number in range(2):
                loop.perform(world.call, number, None)
            world.heal()
            world.delivered.clear()

            for number in range(2):
                loop.perform(world.call, number, None)
            world.heal()

            assert world.delivered == {("client", shard.owner) for shard in world.shards}


def test_calls_that_a_router_keeps_are_called_back_when_their_node_is_reached() -> None:
    with VirtualLoop() as loop, capture_logs():
        world = DirectWorld(loop, random.Random(0))
        world.heal()
        owner = world.shards[0].owner
        loop.perform(world.block, ROUTER, owner)
        loop.perform(world.block, "client", owner)
        for _ in range(2):
            loop.perform(world.call, 0, 30.0)
        world.pass_on()
        loop.perform(world.block, "client", owner)
        (straight,) = world.wires_between("client", owner)
        loop.perform(straight.connect)
        world.wait(500)
        world.pass_on()
        assert [call.end for call in world.calls] == [None, None], "the router has them"

        world.wait(600)
        world.pass_on()

        assert [call.end for call in world.calls] == [Code.OK, Code.OK]


def test_what_was_told_on_a_stream_that_broke_is_told_again_on_another_way() -> None:
    with VirtualLoop() as loop, capture_logs():
        world = DirectWorld(loop, random.Random(0))
        world.heal()
        for _ in range(2):
            loop.perform(world.call, 0, None)
            world.heal()
        (straight,) = world.wires_between("client", world.shards[0].owner)
        loop.perform(world.call, 0, None)
        world.pass_on()
        world.wait(2_100)
        told = [unpack_request(frame.body).session for frame in straight.out]
        window = world.calls[-1].open_call.window
        assert window is not None
        assert window.session in told, "it is on its way"

        loop.perform(world.block, "client", straight.target)
        while world.astray:
            world.drop_astray()
        world.wait(2_100)
        world.pass_on()

        world.check()


def forgets_what_is_astray(patch: pytest.MonkeyPatch) -> None:
    class Wrong(from_source(perdure.routing.core.forwarding).Forwarding):
        def _lose(self, now_ms: int, numbers: list[int]) -> Any:
            calls = [self._copies[number] for number in numbers]
            lanes = super()._lose(now_ms, numbers)
            for call in calls:
                call.strayed = False
            return lanes

    patch.setattr(perdure.routing.forwarder, "Forwarding", Wrong)


def names_no_predecessor(patch: pytest.MonkeyPatch) -> None:
    class Wrong(from_source(perdure.session).Session):
        def _send(self, call: OpenCall[Any], *args: Any) -> None:
            call.before, before = None, call.before
            super()._send(call, *args)
            call.before = before

    client: Any = from_source(perdure.client)
    client.Session = Wrong
    patch.setattr(harness.direct_world, "Client", client.Client)


@pytest.mark.parametrize("spoil", [forgets_what_is_astray, names_no_predecessor])
def test_a_client_that_breaks_one_rule_is_caught(
    spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)

    with pytest.raises(AssertionError):
        walk_at_random(range(1_000), (60, 150))
