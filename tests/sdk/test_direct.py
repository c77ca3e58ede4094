"""A client that calls nodes itself, over real gRPC servers on loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from harness.echo_cluster import PARTITIONS, Bench, EchoNode, a_cluster, an_object_of
from harness.processes import free_port
from harness.proxy import Proxy
from harness.serving import EchoBackend, serving

from perdure.client import Client
from perdure.errors import Code
from perdure.frames import Kind
from perdure.grpc_transport import GrpcTransport
from perdure.partition_map import MappedNode, PartitionMap
from perdure.routing.core.paths import PathLimits
from perdure.routing.direct import DirectTransport
from perdure.serving.server import Server

IMPATIENT = PathLimits(patience_ms=50, rest_first_ms=10, rest_max_ms=20)


class Caller:
    """A client, and what it has of the nodes."""

    def __init__(self, address: str, **options) -> None:
        self.transport = DirectTransport(address, **options)
        self.client = Client(self.transport)

    async def call(self, node: EchoNode, timeout_s: float = 20.0) -> str:
        """Call an object of a node; return who has answered."""
        answer = await self.client.call(an_object_of(node), Kind.CALL, "add", timeout_s=timeout_s)
        assert answer.code == Code.OK, Code(answer.code).name
        return answer.reply.payload.decode()

    async def reaches(self, *names: str) -> None:
        """Wait until exactly these nodes are called directly."""
        while self.transport.reached != list(names):
            await asyncio.sleep(0)


@asynccontextmanager
async def a_caller(address: str, **options) -> AsyncIterator[Caller]:
    caller = Caller(address, **options)
    try:
        yield caller
    finally:
        await caller.client.close(1)


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def cluster() -> None:
        async with a_cluster() as bench:
            await test(bench)

    asyncio.run(asyncio.wait_for(cluster(), 300))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_calls_go_by_the_router_until_their_node_is_reached_and_straight_to_it_then() -> None:
    async def test(bench: Bench) -> None:
        n1, n2 = bench.nodes.values()
        async with a_caller(bench.address) as caller:
            assert await caller.call(n1) == "n1"
            assert bench.router.calls == 1
            await caller.reaches("n1")

            assert [await caller.call(n1) for _ in range(3)] == ["n1"] * 3
            assert bench.router.calls == 1
            assert caller.transport.reached == ["n1"], "nobody has called an object of n2"

            assert await caller.call(n2) == "n2"
            await caller.reaches("n1", "n2")
            assert await caller.call(n2) == "n2"
            assert bench.router.calls == 2

    run(test)


def test_calls_go_on_while_the_router_is_away_and_when_it_is_back() -> None:
    async def test(bench: Bench) -> None:
        n1, n2 = bench.nodes.values()
        async with a_caller(bench.address) as caller:
            await caller.call(n1)
            await caller.reaches("n1")
            await bench.server.close(0)

            assert await caller.call(n1) == "n1"
            # No stream leads to n2 yet; the map tells where it is.
            assert await caller.call(n2) == "n2"
            await caller.reaches("n1", "n2")

    run(test)


def test_calls_of_a_node_that_is_lost_go_to_the_router_which_waits_for_it() -> None:
    async def test(bench: Bench) -> None:
        n1 = bench.nodes["n1"]
        async with a_caller(bench.address) as caller:
            await caller.call(n1)
            await caller.reaches("n1")
            n1.keeps = True
            under_way = asyncio.ensure_future(caller.call(n1))
            while not n1.kept:
                await asyncio.sleep(0)
            before = bench.router.calls

            await bench.kill_node("n1")
            while bench.router.calls == before:
                await asyncio.sleep(0)
            n1.keeps = False
            await bench.start_node("n1")

            assert await under_way == "n1"
            await caller.reaches("n1")

    run(test)


def test_nodes_that_cannot_be_reached_are_called_by_the_router_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(bench: Bench) -> None:
        n1, n2 = bench.nodes.values()
        nowhere = f"127.0.0.1:{free_port()}"

        def connect(address: str) -> GrpcTransport:
            return GrpcTransport(address if address == bench.address else nowhere)

        options = {"connect": connect, "limits": IMPATIENT}
        async with a_caller(bench.address, **options) as caller:
            for _ in range(40):
                assert await caller.call(n1) == "n1"
                assert await caller.call(n2) == "n2"
                await asyncio.sleep(0.01)

            assert caller.transport.reached == []

    with caplog.at_level(logging.WARNING, "perdure"):
        run(test)

    (warning,) = warnings_of(caplog)
    assert "cannot be reached at 127.0.0.1:" in warning
    assert "a router takes its calls" in warning


def test_a_call_on_a_stream_that_is_blocked_is_sent_to_the_router_within_its_time() -> None:
    async def test(bench: Bench) -> None:
        n1 = bench.nodes["n1"]
        proxy = Proxy(bench.ports["n1"])
        async with proxy as blocked:

            def connect(address: str) -> GrpcTransport:
                straight = address.endswith(f":{bench.ports['n1']}")
                return GrpcTransport(blocked if straight else address)

            async with a_caller(bench.address, connect=connect) as caller:
                await caller.call(n1)
                await caller.reaches("n1")
                before = bench.router.calls
                proxy.freeze()

                assert await caller.call(n1, timeout_s=15.0) == "n1"
                assert bench.router.calls == before + 1

    run(test)


def test_a_client_that_was_given_a_node_finds_the_others_and_a_router() -> None:
    async def test(bench: Bench) -> None:
        n1, n2 = bench.nodes.values()
        addresses = {name: f"127.0.0.1:{port}" for name, port in bench.ports.items()}
        nodes = [
            MappedNode("n1", addresses["n1"], {0: 1, 1: 1}),
            MappedNode("n2", addresses["n2"], {2: 0, 3: 0}),
        ]
        n1.map = PartitionMap("c", PARTITIONS, "n1", "node", nodes, [bench.address])
        async with a_caller(addresses["n1"]) as caller:
            assert await caller.call(n1) == "n1"
            assert await caller.call(n2) == "n2"
            await caller.reaches("n1", "n2")
            before = bench.router.calls

            await bench.kill_node("n2")
            away = asyncio.ensure_future(caller.call(n2))
            while bench.router.calls == before:
                await asyncio.sleep(0)
            await bench.start_node("n2")

            assert await away == "n2"

    run(test)


def test_a_node_that_owns_nothing_is_no_router() -> None:
    async def test(bench: Bench) -> None:
        n2 = bench.nodes["n2"]
        nodes = [MappedNode("n2", f"127.0.0.1:{bench.ports['n2']}", {2: 1, 3: 1})]
        idle = EchoNode(name="n3")
        idle.map = PartitionMap("c", PARTITIONS, "n3", "node", nodes)
        async with serving(idle) as (_, address), a_caller(address) as caller:
            assert await caller.call(n2) == "n2"
            await caller.reaches("n2", "n3")
            idle.received.clear()

            assert await caller.call(n2) == "n2"
            assert idle.received == []

    run(test)


def test_a_partition_that_has_moved_is_found_again_though_maps_are_old() -> None:
    async def test(bench: Bench) -> None:
        n1, n2 = bench.nodes.values()
        async with a_caller(bench.address) as caller:
            await caller.call(n1)
            await caller.call(n2)
            await caller.reaches("n1", "n2")
            moved = EchoNode(owned={0: 2, 1: 2})
            n1.owned, n2.owned = {}, n2.owned | moved.owned

            call = asyncio.ensure_future(caller.call(moved))
            while not any(frame.partition in moved.owned for b in n1.received for frame in b):
                await asyncio.sleep(0)
            # Now everybody hears it.
            for server in bench.servers.values():
                server.announce()

            assert await call == "n2"
            assert await caller.call(moved) == "n2"

    run(test)


def test_a_server_of_another_cluster_or_another_name_at_a_nodes_address_gets_no_call() -> None:
    async def test(bench: Bench) -> None:
        n1 = bench.nodes["n1"]
        for stranger in (
            EchoNode(name="n1", owned={0: 99, 1: 99}, cluster_id="d"),
            EchoNode(name="n9", owned={0: 99, 1: 99}),
        ):
            async with serving(stranger) as (_, elsewhere):

                def connect(address: str, elsewhere: str = elsewhere) -> GrpcTransport:
                    return GrpcTransport(address if address == bench.address else elsewhere)

                options = {"connect": connect, "limits": IMPATIENT}
                async with a_caller(bench.address, **options) as caller:
                    for _ in range(20):
                        assert await caller.call(n1) == "n1"
                        await asyncio.sleep(0.01)

                    assert caller.transport.reached == []
            assert stranger.received == []

    run(test)


def test_a_server_without_a_map_is_called_like_a_router(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        async def ask(_: str) -> str:
            return "UNIMPLEMENTED: Method not found!"

        async with a_caller(bench.address, ask=ask) as caller:
            for node in bench.nodes.values():
                assert await caller.call(node) == node.name
            assert caller.transport.reached == []

    with caplog.at_level(logging.WARNING, "perdure"):
        run(test)

    (warning,) = warnings_of(caplog)
    assert "no map of the cluster yet" in warning
    assert "UNIMPLEMENTED" in warning


def test_another_cluster_at_the_address_gets_the_new_calls_and_none_of_the_old() -> None:
    async def test(bench: Bench) -> None:
        first = EchoNode(owned=dict.fromkeys(range(PARTITIONS), 1), keeps=True)
        second = EchoNode(owned=dict.fromkeys(range(PARTITIONS), 1), cluster_id="d")
        port = free_port()
        server = Server(first)
        await server.start(f"127.0.0.1:{port}")
        async with a_caller(f"127.0.0.1:{port}") as caller:
            old = caller.client.call(an_object_of(first), Kind.CALL, "add")
            while not first.kept:
                await asyncio.sleep(0)
            await server.close(0)
            async with serving(second, port=port):
                assert (await old).code == Code.OWNER_LOST
                assert await caller.call(second) == "n1"
            assert len(second.received) == 1

    run(test)


def test_the_end_of_a_client_closes_all_its_streams() -> None:
    async def test(bench: Bench) -> None:
        async with a_caller(bench.address) as caller:
            for node in bench.nodes.values():
                await caller.call(node)
            await caller.reaches("n1", "n2")
        # The router's own remain.
        while any(len(server._unread.streams) != 1 for server in bench.servers.values()):
            await asyncio.sleep(0)
        while bench.server._unread.streams:
            await asyncio.sleep(0)

    run(test)


def test_before_anybody_is_reached_the_client_says_why() -> None:
    async def test(bench: Bench) -> None:
        nowhere = f"127.0.0.1:{free_port()}"
        async with a_caller(nowhere) as caller:
            answer = await caller.client.call(
                an_object_of(bench.nodes["n1"]), Kind.CALL, "add", timeout_s=0.3
            )
            assert answer.code == Code.DEADLINE_EXCEEDED
            assert nowhere in str(answer.reply.payload)

    run(test)


def test_a_call_for_which_nobody_is_there_ends_in_time_and_has_not_run() -> None:
    async def test(bench: Bench) -> None:
        n1 = bench.nodes["n1"]
        async with a_caller(bench.address) as caller:
            await caller.call(n1)
            await caller.reaches("n1")
            await bench.server.close(0)
            await bench.kill_node("n1")
            # A first call may still find the connections that are about to break.
            await caller.client.call(an_object_of(n1), Kind.CALL, "add", timeout_s=0.3)

            answer = await caller.client.call(an_object_of(n1), Kind.CALL, "add", timeout_s=0.3)
            assert answer.code == Code.NO_OWNER

    run(test)


def test_a_backend_alone_is_enough() -> None:
    async def main() -> None:
        backend = EchoBackend()
        async with serving(backend) as (_, address), a_caller(address) as caller:
            await caller.client.connected()
            assert caller.client.welcome is not None
            assert caller.client.welcome.server == "echo"

    asyncio.run(main())
