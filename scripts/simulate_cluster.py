"""A cluster that can be larger than any that can be run here, in numbers only.

Processes take turns on cores. A process takes everything that has come, works through it, and
sends what comes of it: calls for the same destination in one message. So messages grow when a
process is behind, as in the real one. What calls and messages cost comes from `fit_costs.py`.

Nothing here knows the wall clock or draws lots without a seed: the same input, the same output.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

FRAMES_MAX = 512
"""Calls in one message."""


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU in µs, and other times."""

    client_call: float
    client_message: float
    node_call: float
    node_message: float
    """Of one message in and one out."""
    node_group: float
    """Of a group in the journal, and of the sync of it."""
    router_call: float
    router_client: float
    """Of one message from and one to a client."""
    router_node: float
    """Of one message to and one from a node."""
    sync_us: float
    """How long a group takes to get to the disk. No CPU."""
    wire_us: float = 30.0
    """From one process to another. Of loopback; within a data centre it is about the same again."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is simulated."""

    nodes: int
    routers: int
    """0: clients call nodes themselves."""
    clients: int
    in_flight: int
    """Of each client."""
    cores: int | None = None
    """For all processes together; None: each has one of its own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    rate: float
    """Calls a second, of the whole cluster."""
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    """For a call, by role."""
    busy: dict[str, float]
    """The share of its core that a process of each role uses."""
    batch: dict[str, float]
    """Calls or answers in a message that comes in, by role."""


class Call(NamedTuple):
    began_us: float
    client: int
    node: int


class Message(NamedTuple):
    source: int
    calls: list[Call]
    is_answer: bool


@dataclass(slots=True, eq=False)
class Process:
    """A client, router or node."""

    number: int
    role: str
    inbox: list[Message] = field(default_factory=list[Message])
    durable: list[tuple[int, Call]] = field(default_factory=list[tuple[int, Call]])
    """Of a node: to be answered in its next turn, each with where it came from."""
    is_busy: bool = False
    cpu_us: float = 0.0
    syncing: bool = False
    group: list[tuple[int, Call]] = field(default_factory=list[tuple[int, Call]])
    """Of a node: calls that have run, and wait for the disk."""


class Simulation:
    """Runs one shape."""

    def __init__(self, shape: Shape, costs: Costs, seed: int = 1) -> None:
        self._shape = shape
        self._costs = costs
        self._random = random.Random(seed)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._free_cores = shape.cores
        self._waiting: list[Process] = []
        """Those that have work and no core."""
        names = ["node"] * shape.nodes + ["router"] * shape.routers + ["client"] * shape.clients
        self._processes = [Process(number, role) for number, role in enumerate(names)]
        self._first_router = shape.nodes
        self._first_client = shape.nodes + shape.routers
        self._latencies_us: list[float] = []
        self._messages: dict[str, int] = defaultdict(int)
        self._frames: dict[str, int] = defaultdict(int)

    def run(self, warm_up: int, calls: int) -> Outcome:
        """Let so many calls end, and then as many as count; tell what came of these."""
        for process in self._processes[self._first_client :]:
            self._in(0.0, partial(self._begin, process))
        self._run_until(warm_up)
        began_us = self._now
        self._latencies_us.clear()
        self._messages.clear()
        self._frames.clear()
        before = [process.cpu_us for process in self._processes]
        self._run_until(calls)
        return self._outcome(before, self._now - began_us)

    def _begin(self, client: Process) -> None:
        first = [self._new_call(client) for _ in range(self._shape.in_flight)]
        self._send_calls(client, first)

    def _outcome(self, before: list[float], measured_us: float) -> Outcome:
        calls = len(self._latencies_us)
        cuts = statistics.quantiles(self._latencies_us, n=100)
        spent: dict[str, float] = defaultdict(float)
        for process, cpu_us in zip(self._processes, before, strict=True):
            spent[process.role] += process.cpu_us - cpu_us
        shape = self._shape
        counts = {"node": shape.nodes, "router": shape.routers, "client": shape.clients}
        return Outcome(
            calls / measured_us * 1e6,
            cuts[49] / 1e3,
            cuts[98] / 1e3,
            {role: cpu_us / calls for role, cpu_us in spent.items()},
            {role: cpu_us / counts[role] / measured_us for role, cpu_us in spent.items()},
            {role: self._frames[role] / count for role, count in self._messages.items()},
        )

    # Time and cores.

    def _in(self, delay_us: float, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self._now + delay_us, self._order, happen))

    def _run_until(self, ended: int) -> None:
        while len(self._latencies_us) < ended:
            self._now, _, happen = heapq.heappop(self._events)
            happen()

    def _wake(self, process: Process) -> None:
        """Let a process take its turn, which has something to do, once there is a core."""
        if process.is_busy or not (process.inbox or process.durable):
            return
        process.is_busy = True
        if self._free_cores is None:
            self._turn(process)
        elif self._free_cores:
            self._free_cores -= 1
            self._turn(process)
        else:
            self._waiting.append(process)

    def _work(self, process: Process, cpu_us: float, then: Callable[[], None]) -> None:
        """Let a process work for so long, then send what comes of it, and go on."""
        process.cpu_us += cpu_us

        def done() -> None:
            then()
            process.is_busy = False
            if self._free_cores is not None:
                if self._waiting:
                    self._turn(self._waiting.pop(0))
                else:
                    self._free_cores += 1
            self._wake(process)

        self._in(cpu_us, done)

    def _deliver(self, target: Process, message: Message) -> None:
        def arrive() -> None:
            target.inbox.append(message)
            self._wake(target)

        self._in(self._costs.wire_us, arrive)

    # What processes do.

    def _turn(self, process: Process) -> None:
        inbox, process.inbox = process.inbox, []
        self._messages[process.role] += len(inbox)
        self._frames[process.role] += sum(len(message.calls) for message in inbox)
        if process.role == "node":
            self._node_turn(process, inbox)
        elif process.role == "router":
            self._router_turn(process, inbox)
        else:
            self._client_turn(process, inbox)

    def _client_turn(self, process: Process, inbox: list[Message]) -> None:
        answered = [call for message in inbox for call in message.calls]
        calls = [self._new_call(process) for _ in answered]
        costs = self._costs
        sent = len(self._by_destination(process, calls))
        cpu_us = len(calls) * costs.client_call + (len(inbox) + sent) * costs.client_message / 2
        self._latencies_us += [self._now - call.began_us for call in answered]
        self._work(process, cpu_us, lambda: self._send_calls(process, calls))

    def _router_turn(self, process: Process, inbox: list[Message]) -> None:
        costs = self._costs
        outgoing: dict[tuple[int, bool], list[Call]] = defaultdict(list)
        cpu_us = 0.0
        for message in inbox:
            side = costs.router_node if message.is_answer else costs.router_client
            cpu_us += side / 2 + len(message.calls) * costs.router_call / 2
            for call in message.calls:
                target = call.client if message.is_answer else call.node
                outgoing[target, message.is_answer].append(call)
        messages = [
            (target, Message(process.number, part, is_answer))
            for (target, is_answer), calls in outgoing.items()
            for part in _parts(calls)
        ]
        for _, message in messages:
            cpu_us += (costs.router_client if message.is_answer else costs.router_node) / 2

        def send() -> None:
            for target, message in messages:
                self._deliver(self._processes[target], message)

        self._work(process, cpu_us, send)

    def _node_turn(self, process: Process, inbox: list[Message]) -> None:
        costs = self._costs
        answers: dict[int, list[Call]] = defaultdict(list)
        for source, call in process.durable:
            answers[source].append(call)
        process.durable = []
        run = [(message.source, call) for message in inbox for call in message.calls]
        cpu_us = (len(inbox) + len(answers)) * costs.node_message / 2
        cpu_us += (len(run) + sum(map(len, answers.values()))) * costs.node_call / 2
        cpu_us += costs.node_group if run else 0.0

        def send() -> None:
            for source, calls in answers.items():
                for part in _parts(calls):
                    self._deliver(self._processes[source], Message(process.number, part, True))
            process.group += run
            self._sync(process)

        self._work(process, cpu_us, send)

    def _sync(self, process: Process) -> None:
        """Write what waits for the disk, if that has ended the group before."""
        if process.syncing or not process.group:
            return
        process.syncing = True
        group, process.group = process.group, []

        def durable() -> None:
            process.syncing = False
            process.durable += group
            self._sync(process)
            self._wake(process)

        self._in(self._costs.sync_us, durable)

    def _new_call(self, client: Process) -> Call:
        return Call(self._now, client.number, self._random.randrange(self._shape.nodes))

    def _by_destination(self, client: Process, calls: list[Call]) -> dict[int, list[Call]]:
        """Return calls by whom they are sent to: the client's router, or the nodes themselves."""
        if self._shape.routers:
            router = self._first_router + client.number % self._shape.routers
            return {router: calls} if calls else {}
        found: dict[int, list[Call]] = defaultdict(list)
        for call in calls:
            found[call.node].append(call)
        return found

    def _send_calls(self, client: Process, calls: list[Call]) -> None:
        # They begin now: what was before is the turn in which they were made.
        calls = [call._replace(began_us=self._now) for call in calls]
        for target, some in self._by_destination(client, calls).items():
            for part in _parts(some):
                self._deliver(self._processes[target], Message(client.number, part, False))


def _parts(calls: list[Call]) -> list[list[Call]]:
    return [calls[first : first + FRAMES_MAX] for first in range(0, len(calls), FRAMES_MAX)]
