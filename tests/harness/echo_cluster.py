"""Nodes that echo and a router between them, as real gRPC servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.processes import free_port
from harness.serving import EchoBackend

from perdure.bodies import pack_error, pack_reply
from perdure.errors import Code, NotOwner
from perdure.frames import AnswerFrame, CallFrame
from perdure.ids import ObjectKey, partition_of
from perdure.partition_map import PartitionMap
from perdure.serving.backend import (
    AnswerSink,
    Description,
    MethodDescription,
    NodeDescription,
    PartitionDescription,
    TypeDescription,
)
from perdure.serving.server import Server
from perdure.transport import Welcome
from perdure_router.router import Router
from perdure_router.settings import RouterSettings

PARTITIONS = 4


@dataclass
class EchoNode(EchoBackend):
    """Answers each call with its own name, or with `code`; `keeps` keeps calls unanswered."""

    name: str = "n1"
    owned: dict[int, int] = field(default_factory=dict)
    cluster_id: str = "c"
    code: int = 0
    map: PartitionMap = field(default_factory=lambda: PartitionMap("c", PARTITIONS, "n1", "node"))

    def welcome(self) -> Welcome:
        return Welcome(self.cluster_id, PARTITIONS, self.name, self.owned)

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        self.received.append(frames)
        for frame in frames:
            if self.keeps:
                self.kept.append((frame, sink))
            elif frame.number:
                sink.send(self.answer_to(frame))
        if self.on_receive is not None:
            self.on_receive()

    def answer_to(self, frame: CallFrame) -> AnswerFrame:
        if frame.partition in self.owned:
            return (frame.number, self.code, pack_reply(self.name.encode()))
        code, payload = pack_error(Code.NOT_OWNER, (frame.partition, 9))
        return (frame.number, code, pack_reply(payload))

    def partition_map(self) -> PartitionMap:
        return self.map

    async def describe(self) -> Description:
        partitions = [PartitionDescription(p, e, "serving") for p, e in self.owned.items()]
        node = NodeDescription(self.name, "", True, partitions)
        types = [TypeDescription("Counter", [MethodDescription("add", "()")])]
        return Description(self.cluster_id, PARTITIONS, self.name, "node", [node], types)

    async def list(self, partition: int, *_: Any) -> tuple[list[str], bool]:
        if partition not in self.owned:
            raise NotOwner(partition, 9)
        return [f"{self.name}-{partition}"], False


class CountingRouter(Router):
    """Counts the calls that it is sent."""

    calls = 0

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        self.calls += sum(1 for frame in frames if frame.number)
        super().receive(frames, sink)


class Bench:
    """Two nodes, each on a port of its own, and a router."""

    def __init__(self) -> None:
        self.nodes = {
            "n1": EchoNode(name="n1", owned={0: 1, 1: 1}),
            "n2": EchoNode(name="n2", owned={2: 1, 3: 1}),
        }
        self.ports = {name: free_port() for name in self.nodes}
        self.servers: dict[str, Server] = {}

    async def start_node(self, name: str) -> None:
        server = Server(self.nodes[name])
        await server.start(f"127.0.0.1:{self.ports[name]}")
        self.servers[name] = server

    async def kill_node(self, name: str) -> None:
        await self.servers.pop(name).close(0)

    async def start_router(self) -> None:
        addresses = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self.router = CountingRouter(RouterSettings("r1", "127.0.0.1:0", addresses))
        self.server = Server(self.router)
        self.router.on_welcome.append(self.server.announce)
        self.router.start()
        self.address = f"127.0.0.1:{await self.server.start('127.0.0.1:0')}"

    async def stop(self) -> None:
        await self.server.close(0)
        await self.router.close()
        for name in list(self.servers):
            await self.kill_node(name)

    async def reached(self, name: str, reached: bool = True) -> None:
        """Wait until the router knows that it can, or cannot, reach a node."""
        while (self.router.reaches(name)) != reached:
            await asyncio.sleep(0)


@asynccontextmanager
async def a_cluster() -> AsyncIterator[Bench]:
    bench = Bench()
    for name in bench.nodes:
        await bench.start_node(name)
    await bench.start_router()
    try:
        for name in bench.nodes:
            await bench.reached(name)
        yield bench
    finally:
        await bench.stop()


def an_object_of(node: EchoNode) -> ObjectKey:
    keys = (ObjectKey("Counter", str(n)) for n in range(100))
    return next(key for key in keys if partition_of(key, PARTITIONS) in node.owned)
