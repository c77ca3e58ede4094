"""A client that calls nodes itself, two nodes, a router, and a network that does its worst.

Client and router are the real ones, on a loop without time of its own. Partitions move between
nodes, nodes and the router die, streams break with frames on them, ways are blocked, maps are old.
Whoever plays chooses each step; `heal` then lets everything arrive, and `check` holds the promises
against what happened.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.session_node import REFUSALS, SmallNode
from harness.session_world import LIMITS, NOWHERE
from harness.virtual_loop import VirtualLoop

from perdure.bodies import pack_error, pack_reply
from perdure.client import Client
from perdure.errors import KINDS, Code
from perdure.frames import AnswerFrame, CallFrame, Kind
from perdure.ids import ObjectKey, partition_of
from perdure.open_call import OpenCall
from perdure.partition_map import MappedNode, PartitionMap
from perdure.routing.direct import DirectTransport
from perdure.transport import Listener, Welcome
from perdure_router.router import Router
from perdure_router.settings import RouterSettings

PARTITIONS = 2
NODES = ("n1", "n2")
ROUTER = "router"
OBJECTS = tuple(
    next(key for n in range(99) if partition_of(key := ObjectKey("Cart", f"{n}"), 2) == partition)
    for partition in range(PARTITIONS)
)
TIMES_S = (None, 0.1, 5.0)

Step = Callable[[], Any]


class Shard(SmallNode):
    """A partition with one object, wherever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = NODES[0]
        self.epoch = 1

    def move(self, owner: str) -> None:
        """Hand it over: what has run is there too, and what has not is refused."""
        self.sync()
        waiting = [
            copy for queue in self._queues.values() for call in queue for copy in call.copies
        ]
        waiting += [(stream, frame.number) for _, stream, frame in self._held]
        for stream, number in waiting:
            self._refuse(stream, number, Code.NOT_OWNER)
        self.restart()
        self.owner = owner
        self.epoch += 1


class Wire:
    """A `Transport` of the client or of the router, to one server."""

    def __init__(self, world: DirectWorld, source: str, target: str) -> None:
        self.world = world
        self.source = source
        self.target = target
        self.stream: int | None = None
        self.listener: Listener | None = None
        self.out: deque[CallFrame] = deque()
        self.back: deque[AnswerFrame] = deque()
        world.wires.append(self)

    def start(self, listener: Listener) -> None:
        self.listener = listener

    def send(self, frames: list[CallFrame]) -> None:
        if self.stream is not None:
            self.out += frames

    async def close(self) -> None:
        if self in self.world.wires:
            self.world.wires.remove(self)
            self.lose()

    def connect(self) -> None:
        assert self.listener is not None
        welcome = self.world.welcome_of(self.target)
        if welcome is None or (self.source, self.target) in self.world.blocked:
            self.listener.lost("refused")
        else:
            self.world.streams += 1
            self.stream = self.world.streams
            self.listener.welcomed(welcome)

    def announce(self) -> None:
        """The server says again what it owns."""
        welcome = self.world.welcome_of(self.target)
        if welcome is not None and self.listener is not None:
            self.listener.welcomed(welcome)

    def lose(self) -> None:
        """What is under way stays under way; nobody hears an answer."""
        self.stream = None
        self.world.astray += [(self.target, frame) for frame in self.out]
        self.out.clear()
        self.back.clear()

    def break_(self) -> None:
        self.lose()
        assert self.listener is not None
        self.listener.lost("broken")

    def deliver(self) -> None:
        frame = self.out.popleft()
        assert self.stream is not None
        if frame.number:
            self.world.delivered.add((self.source, self.target))
        self.world.arrive(self.target, self.stream, frame)

    def answer(self) -> None:
        frames, self.back = list(self.back), deque()
        assert self.listener is not None
        self.listener.answered(frames)


@dataclass(eq=False)
class Sink:
    """Where the router sends answers to one stream of the client."""

    world: DirectWorld
    stream: int

    @property
    def closed(self) -> bool:
        return all(wire.stream != self.stream for wire in self.world.wires)

    def send(self, frame: AnswerFrame) -> None:
        self.world.answer(self.stream, frame)


@dataclass
class Call:
    """What was asked, and how it ended."""

    open_call: OpenCall[Any]
    end: int | None = None
    history: list[str] = field(default_factory=list)


class DirectWorld:
    """Each step is one thing that happens."""

    def __init__(
        self, loop: VirtualLoop, chance: random.Random, make: Callable[..., Any] = DirectTransport
    ) -> None:
        self.loop = loop
        self.chance = chance
        self.shards = [Shard() for _ in range(PARTITIONS)]
        self.shards[1].owner = NODES[1]
        self.down: set[str] = set()
        self.blocked: set[tuple[str, str]] = set()
        self.wires: list[Wire] = []
        self.streams = 0
        self.sinks: dict[int, Sink] = {}
        self.astray: list[tuple[str, CallFrame]] = []
        self.maps: list[PartitionMap] = []
        self.calls: list[Call] = []
        self.delivered: set[tuple[str, str]] = set()
        """The ways on which calls have come."""
        self.router: Router | None = None
        self.transport: DirectTransport
        self.client: Client
        loop.perform(self.start_router)
        loop.perform(self._start_client, make)

    def _start_client(self, make: Callable[..., Any]) -> None:
        self.transport = make(ROUTER, connect=self.connect_from("client"), ask=self.ask)
        self.client = Client(
            self.transport,
            limits=LIMITS,
            monotonic=self.loop.time,
            wall=self.loop.time,
            entropy=bytes,
        )

    def connect_from(self, source: str) -> Callable[[str], Wire]:
        return lambda address: Wire(self, source, address)

    # Servers.

    def start_router(self) -> None:
        settings = RouterSettings("r", "", {name: name for name in NODES})
        self.down.discard(ROUTER)
        self.router = Router(settings, connect=self.connect_from(ROUTER))
        self.router.start()

    def kill_router(self) -> None:
        router, self.router = self.router, None
        assert router is not None
        self.down.add(ROUTER)
        for wire in [wire for wire in self.wires if wire.source == ROUTER]:
            self.wires.remove(wire)
            wire.lose()
        self.loop.create_task(router.close())
        self._break_all_to(ROUTER)

    def kill_node(self, name: str) -> None:
        self.down.add(name)
        for shard in self.shards:
            if shard.owner == name:
                shard.restart()
        self._break_all_to(name)

    def wires_between(self, source: str, target: str) -> list[Wire]:
        return [wire for wire in self.wires if (wire.source, wire.target) == (source, target)]

    def start_node(self, name: str) -> None:
        self.down.discard(name)
        for shard in self.shards:
            if shard.owner == name:
                shard.epoch += 1

    def _break_all_to(self, target: str) -> None:
        for wire in [wire for wire in self.wires if wire.target == target]:
            if wire.stream is not None:
                wire.break_()

    def move(self, shard: Shard) -> None:
        shard.move(next(name for name in NODES if name != shard.owner))

    def welcome_of(self, server: str) -> Welcome | None:
        if server in self.down:
            return None
        if server == ROUTER:
            return None if self.router is None else self.router.welcome()
        owned = {n: shard.epoch for n, shard in enumerate(self.shards) if shard.owner == server}
        return Welcome("cluster", PARTITIONS, server, owned)

    async def ask(self, server: str) -> PartitionMap | str:
        """A map, perhaps one that was true long ago."""
        if server in self.down or ("client", server) in self.blocked:
            return "UNAVAILABLE"
        self.maps.append(self._map(server))
        return self.chance.choice(self.maps[-3:]) if self.chance.random() < 0.5 else self.maps[-1]

    def _map(self, server: str) -> PartitionMap:
        owned: dict[str, dict[int, int]] = {name: {} for name in NODES}
        for number, shard in enumerate(self.shards):
            owned[shard.owner][number] = shard.epoch
        nodes = [MappedNode(name, name, owned[name]) for name in NODES]
        return PartitionMap("cluster", PARTITIONS, server, "router", nodes)

    def arrive(self, target: str, stream: int, frame: CallFrame) -> None:
        if target in self.down:
            return
        if target == ROUTER:
            assert self.router is not None
            sink = self.sinks.setdefault(stream, Sink(self, stream))
            self.router.receive([frame], sink)
            return
        shard = self.shards[frame.partition]
        if shard.owner == target:
            shard.arrive(stream, frame, self.loop.now_ms, self.loop.now_ms)
        elif frame.number:
            number, payload = pack_error(Code.NOT_OWNER, (frame.partition, shard.epoch))
            self.answer(stream, (frame.number, number, pack_reply(payload)))

    def answer(self, stream: int, frame: AnswerFrame) -> None:
        for wire in self.wires:
            if wire.stream == stream:
                wire.back.append(frame)

    # Steps.

    def progress(self) -> list[Step]:
        """Return what may happen next when all is well."""
        steps: list[Step] = []
        for shard in self.shards:
            steps += [lambda shard=shard: shard.run(0), shard.sync]
        for wire in self.wires:
            if wire.stream is None:
                steps.append(wire.connect)
            steps += [wire.deliver] * 2 * bool(wire.out) + [wire.answer] * 2 * bool(wire.back)
        return steps

    def trouble(self) -> list[Step]:
        """Return what else may happen."""
        chance = self.chance
        steps: list[Step] = [
            lambda: self.refuse(chance.choice(self.shards)),
            lambda: self.move(chance.choice(self.shards)),
            lambda: self.block("client", chance.choice(NODES)),
            lambda: self.block(ROUTER, chance.choice(NODES)),
            self.start_router if self.router is None else self.kill_router,
        ]
        for name in NODES:
            is_down = name in self.down
            steps.append(lambda n=name, d=is_down: self.start_node(n) if d else self.kill_node(n))
        for wire in self.wires:
            if wire.stream is not None:
                steps += [wire.break_, wire.announce]
        if self.astray:
            steps += [self.deliver_astray] * 3 + [self.drop_astray]
        return steps

    def step(self) -> None:
        """Let something happen."""
        chance = self.chance
        match chance.randrange(20):
            case 0 | 1 | 2 | 3:
                self.play(lambda: self.call(chance.randrange(PARTITIONS), chance.choice(TIMES_S)))
            case 4 | 5 | 6:
                self.play(chance.choice(self.trouble()))
            case 7 | 8:
                self.wait(chance.choice((1, 20, 60, 250, 1_100)))
            case _:
                self.play(chance.choice(self.progress()))

    def call(self, which: int, timeout_s: float | None) -> None:
        token = len(self.calls)
        future = self.client.call(
            OBJECTS[which], Kind.CALL, "note", arguments=b"%d" % token, timeout_s=timeout_s
        )
        assert future._open_call is not None
        call = Call(future._open_call)
        self.calls.append(call)
        future.add_done_callback(lambda future: self._end(token, future.result().code))

    def _end(self, token: int, code: int) -> None:
        self.calls[token].end = code
        if code == Code.OK:
            assert token in self._log(), "answered means durable"

    def block(self, source: str, target: str) -> None:
        """Open a way that is blocked; block one that is open."""
        way = (source, target)
        if way in self.blocked:
            self.blocked.remove(way)
            return
        self.blocked.add(way)
        for wire in self.wires_between(source, target):
            if wire.stream is not None:
                wire.break_()

    def refuse(self, shard: Shard) -> None:
        """Refuse calls to come, or take them again."""
        shard.refusing = None if shard.refusing is not None else self.chance.choice(REFUSALS)

    def deliver_astray(self) -> None:
        at = self.chance.randrange(len(self.astray))
        target, frame = self.astray.pop(at)
        self.arrive(target, NOWHERE, frame)

    def drop_astray(self) -> None:
        self.astray.pop(self.chance.randrange(len(self.astray)))

    def play(self, step: Step) -> None:
        """Let one thing happen, and everybody do what follows from it."""
        self.loop.perform(step)
        self._settle()

    def wait(self, time_ms: int) -> None:
        self.loop.advance(time_ms)
        for shard in self.shards:
            shard.tick(self.loop.now_ms)
        self._settle()

    def _settle(self) -> None:
        for shard in self.shards:
            for stream, frame in shard.take_answers():
                self.answer(stream, frame)

    def walk(self, count: int) -> None:
        """Play so many steps, then heal and check."""
        for _ in range(count):
            self.step()
        self.heal()
        self.check()

    # The end.

    def heal(self) -> None:
        """Let everybody live and everything arrive."""
        self.blocked.clear()
        for shard in self.shards:
            shard.refusing = None
        for name in NODES:
            if name in self.down:
                self.play(lambda name=name: self.start_node(name))
        if self.router is None:
            self.play(self.start_router)
        while self.astray:
            self.play(self.deliver_astray)
        for _ in range(200):
            self._round()
            if all(call.end is not None for call in self.calls):
                break
        for _ in range(4):
            self.wait(LIMITS.confirm_ms)
            self._round()

    def _round(self) -> None:
        for wire in list(self.wires):
            self.play(wire.announce if wire.stream is not None else wire.connect)
        self.pass_on()
        self.wait(60)

    def pass_on(self) -> None:
        """Let everything that is under way arrive, and be done, and its answers arrive."""
        # By the router, if need be: its own wires come after the client's.
        for wire in sorted(self.wires, key=lambda wire: wire.source):
            while wire.out:
                self.play(wire.deliver)
        for shard in self.shards:
            while shard.run(0):
                self._settle()
            self.play(shard.sync)
        for wire in list(self.wires):
            if wire.back:
                self.play(wire.answer)

    def _log(self) -> list[int]:
        return [token for shard in self.shards for token in shard.durable_log()]

    def check(self) -> None:
        log = self._log()
        assert len(log) == len(set(log)), f"a call ran twice: {log}"
        for token, call in enumerate(self.calls):
            assert call.end is not None, f"call {token} has no end"
            if call.end == Code.OK:
                assert token in log, f"call {token} was answered and is lost"
            elif KINDS[Code(call.end)].applied == "no":
                name = Code(call.end).name
                assert token not in log, f"call {token} ran and was told {name}"
        for shard in self.shards:
            self._check_order(shard.durable_log())
        # In the order of the calls: the last ones stay.
        windows = [call.open_call.window for call in self.calls]
        for window in {window.partition: window for window in windows if window}.values():
            kept = self.shards[window.partition].kept_outcomes(window.session)
            assert kept == 0, "outcomes stay in memory for ever"

    def _check_order(self, log: list[int]) -> None:
        for at, later in enumerate(log):
            for earlier in log[at + 1 :]:
                if earlier > later:
                    continue
                # A call that was given up may run after calls of the next session id, whose
                # frames do not tell of it; never after a call of its own.
                calls = self.calls[earlier], self.calls[later]
                given_up = calls[0].end == Code.DEADLINE_EXCEEDED
                other = calls[0].open_call.window is not calls[1].open_call.window
                assert given_up and other, f"{earlier} ran after {later}: {log}"
