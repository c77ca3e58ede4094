"""The rules of forwarding, whatever happens."""

from __future__ import annotations

import random

from harness.forwarding_bench import Bench, Stream
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.errors import KINDS, CallRejected, Code
from perdure.frames import CallFrame
from perdure.routing.core.limits import ForwardingLimits

NODES = ("n1", "n2", "router")

_CODES = [Code.OK] * 4 + [Code.RAISED, *(c for c in KINDS if c != Code.RAISED)]


class World:
    """Two nodes and a router that come, go and answer anything, and what is true of the copies."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.bench = Bench(ForwardingLimits(waiting_calls_max=6, calls_max=12))
        self.streams = [Stream(), Stream()]
        self.asked: list[tuple[Stream, int]] = []
        self.live: dict[str, list[CallFrame]] = {}
        """Copies on each node that can be reached and has not answered them."""
        self.astray: set[bytes] = set()

    def step(self, number: int) -> None:
        """Let anything happen."""
        match self.chance.randrange(7):
            case 0 | 1:
                self.call(number)
            case 2:
                self.node_comes(self.chance.choice(NODES))
            case 3:
                self.node_goes(self.chance.choice(NODES))
            case 4 | 5:
                self.node_answers()
            case _:
                self.bench.tick(self.chance.choice([1, 50, 700]))

    def call(self, number: int) -> None:
        chance = self.chance
        stream = chance.choice(self.streams)
        self.asked.append((stream, number))
        self.bench.call(stream, number, chance.randrange(4), chance.choice([20, 200, 500, 5_000]))

    def node_comes(self, node: str) -> None:
        if node not in self.live:
            self.live[node] = []
            self.bench.up(node)

    def node_goes(self, node: str) -> None:
        if node in self.live and self.chance.random() < 0.5:
            self.astray |= {copy.body for copy in self.live.pop(node)}
            self.bench.lost(node)

    def node_answers(self) -> None:
        copies = [copy for node in self.live for copy in self.live[node]]
        if not copies:
            return
        copy = self.chance.choice(copies)
        for on_node in self.live.values():
            on_node[:] = [c for c in on_node if c is not copy]
        code = self.chance.choice(_CODES)
        if code == Code.OWNER_LOST:
            self.astray.add(copy.body)
        self.bench.answer(copy, code)

    def check(self, seen: dict[Stream, int]) -> None:
        """Check what came out since `seen`: new copies and new answers."""
        for node, copy in self.bench.sent:
            assert not self.is_live(copy.body)
            self.live[node].append(copy)
        self.bench.sent.clear()
        for stream in self.streams:
            for number, code in stream.answers[seen[stream] :]:
                kind = KINDS.get(Code(code))
                if kind is not None and issubclass(kind.error, CallRejected):
                    assert b"%d" % number not in self.astray, (number, code)
                    assert not self.is_live(b"%d" % number), (number, code)

    def is_live(self, body: bytes) -> bool:
        return any(copy.body == body for copies in self.live.values() for copy in copies)

    def seen(self) -> dict[Stream, int]:
        return {stream: len(stream.answers) for stream in self.streams}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_each_call_is_answered_once_and_no_refusal_is_a_lie(seed: int) -> None:
    world = World(seed)
    for number in range(1, 60):
        seen = world.seen()
        world.step(number)
        world.check(seen)
    for _ in range(4):
        seen = world.seen()
        world.bench.tick(5_000)
        for copies in world.live.values():
            copies.clear()
        world.check(seen)

    for stream in world.streams:
        numbers = sorted(number for number, _ in stream.answers)
        assert numbers == sorted(number for s, number in world.asked if s is stream)
    assert world.bench.core.open_count == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_calls_of_a_partition_leave_in_the_order_they_came_while_its_owner_stays(seed: int) -> None:
    chance = random.Random(seed)
    bench, stream = Bench(), Stream()
    waiting: list[CallFrame] = []
    delivered: list[int] = []
    up = False
    number = 0
    for _ in range(80):
        match chance.randrange(4):
            case 0:
                number += 1
                bench.call(stream, number, time_left_ms=10**6)
            case 1:
                up = not up
                (bench.up if up else bench.lost)("n1")
                waiting.clear()
            case 2:
                # A node answers what it gets in order, and refuses all or nothing.
                code = chance.choice([Code.OK, Code.DRAINING])
                for copy in waiting:
                    if code == Code.OK:
                        delivered.append(int(copy.body))
                    bench.answer(copy, code)
                waiting.clear()
            case _:
                bench.tick(500)
        waiting += bench.take_sent()
        assert [int(c.body) for c in waiting] == sorted(int(c.body) for c in waiting)

    assert delivered == sorted(delivered)
