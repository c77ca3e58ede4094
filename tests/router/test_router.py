"""A router between real gRPC servers on loopback: nodes that echo, and clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from harness.echo_cluster import PARTITIONS, Bench, EchoNode, a_cluster, an_object_of
from harness.serving import RawSession, call_raw, details_of, request, serving

from perdure.bodies import pack_reply, unpack_request
from perdure.client import Client
from perdure.errors import Code
from perdure.frames import CallFrame, Encoding, Kind
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey
from perdure.partition_map import MappedNode, PartitionMap
from perdure.routing.ask_map import ask_for_map
from perdure.transport import Welcome
from perdure.wire.v1 import calls_pb2, cluster_pb2
from perdure_router.router import Router
from perdure_router.settings import RouterSettings


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def cluster() -> None:
        async with a_cluster() as bench:
            await test(bench)

    asyncio.run(asyncio.wait_for(cluster(), 300))


@asynccontextmanager
async def a_client(bench: Bench) -> AsyncIterator[Client]:
    client = Client(GrpcTransport(bench.address))
    try:
        yield client
    finally:
        await client.close(1)


def unary(key: ObjectKey) -> bytes:
    return calls_pb2.CallRequest(type=key.type, id=key.id, method="add").SerializeToString()


def test_calls_reach_the_owners_and_answers_their_callers() -> None:
    async def test(bench: Bench) -> None:
        async with RawSession(bench.address) as one, RawSession(bench.address) as two:
            for session in (one, two):
                welcome = await session.welcome()
                assert (welcome.cluster_id, welcome.partition_count) == ("c", PARTITIONS)
                assert (welcome.server, list(welcome.owned)) == ("r1", [])
            await one.send(*[CallFrame(n, n % 4, 1000, b"one") for n in range(1, 9)])
            await two.send(*[CallFrame(n, n % 4, 1000, b"two") for n in range(1, 9)])

            for session in (one, two):
                answers = await session.answers(8)
                assert {number: body for number, _, body in answers} == {
                    n: pack_reply(b"n1" if n % 4 < 2 else b"n2") for n in range(1, 9)
                }

    run(test)


def test_the_map_of_a_router_has_what_nodes_have_said_also_when_they_are_lost() -> None:
    async def test(bench: Bench) -> None:
        map = await ask_for_map(bench.address)
        await bench.kill_node("n2")
        await bench.reached("n2", False)

        assert map == PartitionMap(
            "c",
            PARTITIONS,
            "r1",
            "router",
            [
                MappedNode("n1", f"127.0.0.1:{bench.ports['n1']}", {0: 1, 1: 1}),
                MappedNode("n2", f"127.0.0.1:{bench.ports['n2']}", {2: 1, 3: 1}),
            ],
            [],
        )
        assert await ask_for_map(bench.address) == map

    run(test)


def test_a_router_that_has_reached_no_node_has_no_map() -> None:
    async def main() -> PartitionMap | str:
        router = Router(RouterSettings("r1", "127.0.0.1:0", {"n1": "127.0.0.1:1"}))
        router.start()
        try:
            async with serving(router) as (_, address):
                return await ask_for_map(address)
        finally:
            await router.close()

    answer = asyncio.run(main())
    assert isinstance(answer, str)
    assert answer.startswith("UNAVAILABLE: no node")


def test_what_arrives_in_one_message_leaves_in_one_message_per_node() -> None:
    async def test(bench: Bench) -> None:
        async with RawSession(bench.address) as session:
            await session.welcome()
            await session.send(*[CallFrame(n, n % 4, 1000, b"") for n in range(1, 201)])
            await session.answers(200)

            assert [len(frames) for frames in bench.nodes["n1"].received] == [100]
            assert [len(frames) for frames in bench.nodes["n2"].received] == [100]

    run(test)


def test_a_call_outlives_the_node_it_was_sent_to() -> None:
    async def test(bench: Bench) -> None:
        node = bench.nodes["n1"]
        async with RawSession(bench.address) as session:
            await session.welcome()
            node.keeps = True
            await session.send(CallFrame(5, 0, 20_000, b"the call"))
            while not node.kept:
                await asyncio.sleep(0)

            await bench.kill_node("n1")
            node.keeps = False
            await bench.start_node("n1")

            assert await session.answers(1) == [(5, 0, pack_reply(b"n1"))]
            assert [f.body for frames in node.received for f in frames] == [b"the call"] * 2

    run(test)


def test_calls_for_a_node_that_is_down_wait_and_those_for_others_do_not() -> None:
    async def test(bench: Bench) -> None:
        await bench.kill_node("n1")
        await bench.reached("n1", False)
        async with RawSession(bench.address) as session:
            await session.welcome()
            await session.send(CallFrame(1, 0, 20_000, b""), CallFrame(2, 2, 20_000, b""))
            assert [a[0] for a in await session.answers(1)] == [2]

            await bench.start_node("n1")

            assert [a[0] for a in await session.answers(1)] == [1]

    run(test)


def more_and_more(timeout_s: float) -> Iterator[float]:
    """Give times for a call: where the machine is busy, it is told too late what the first do."""
    for attempt in range(8):
        yield timeout_s * 2**attempt


def test_a_call_for_a_node_that_stays_down_has_no_owner_at_its_deadline() -> None:
    async def test(bench: Bench) -> None:
        await bench.kill_node("n1")
        await bench.reached("n1", False)
        key = an_object_of(bench.nodes["n1"])
        async with RawSession(bench.address) as session, a_client(bench) as client:
            await session.welcome()
            for number, timeout_s in enumerate(more_and_more(0.2), start=1):
                await session.send(CallFrame(number, 0, round(timeout_s * 1_000), b""))
                [code] = [a[1] for a in await session.answers(1)]
                if code != Code.DEADLINE_EXCEEDED:
                    break
            assert code == Code.NO_OWNER

            for timeout_s in more_and_more(0.3):
                answer = await client.call(key, Kind.CALL, "add", timeout_s=timeout_s)
                if answer.code != Code.DEADLINE_EXCEEDED:
                    break
            assert answer.code == Code.NO_OWNER

            for timeout_s in more_and_more(0.5):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call_raw(bench.address, "Calls/Call", unary(key), timeout=timeout_s)
                if caught.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    break
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            info = details_of(caught.value.trailing_metadata())
            assert info is not None
            assert (info.reason, info.metadata["applied"]) == ("NO_OWNER", "no")

    run(test)


def test_a_unary_call_keeps_its_id_however_often_it_is_sent() -> None:
    async def test(bench: Bench) -> None:
        node = bench.nodes["n1"]
        key = an_object_of(node)
        node.keeps = True
        call = asyncio.ensure_future(call_raw(bench.address, "Calls/Call", unary(key), timeout=20))
        while not node.kept:
            await asyncio.sleep(0)
        await bench.kill_node("n1")
        node.keeps = False
        await bench.start_node("n1")

        answer = calls_pb2.CallAnswer.FromString(await call)

        assert answer.result.data == b"n1"
        first, *others = [
            unpack_request(frame.body) for frames in node.received for frame in frames
        ]
        again = [r for r in others if r.kind == Kind.CALL]
        assert again
        assert {(r.session, r.sequence) for r in again} == {(first.session, first.sequence)}
        assert first.encoding == Encoding.JSON

    run(test)


def test_a_refusal_of_a_copy_is_not_believed_while_another_is_astray() -> None:
    async def test(bench: Bench) -> None:
        node = bench.nodes["n1"]
        async with RawSession(bench.address) as session:
            await session.welcome()
            node.keeps = True
            await session.send(CallFrame(5, 0, 20_000, b""))
            while not node.kept:
                await asyncio.sleep(0)
            await bench.kill_node("n1")
            node.keeps = False
            node.code = int(Code.BACKPRESSURE)
            await bench.start_node("n1")

            assert [a[1] for a in await session.answers(1)] == [Code.OWNER_LOST]

    run(test)


def test_calls_made_while_a_node_is_down_leave_in_their_order() -> None:
    async def test(bench: Bench) -> None:
        await bench.kill_node("n1")
        await bench.reached("n1", False)
        node = bench.nodes["n1"]
        async with RawSession(bench.address) as session:
            await session.welcome()
            for number in range(1, 300):
                await session.send(CallFrame(number, number % 2, 20_000, b"%d" % number))
            await bench.start_node("n1")
            await session.answers(299)

        for partition in (0, 1):
            numbers = [
                int(f.body) for frames in node.received for f in frames if f.partition == partition
            ]
            assert numbers == sorted(numbers)

    run(test)


def test_a_node_that_says_it_owns_more_gets_more() -> None:
    async def test(bench: Bench) -> None:
        n1, n2 = bench.nodes["n1"], bench.nodes["n2"]
        async with RawSession(bench.address) as session:
            await session.welcome()
            n1.code = int(Code.NOT_OWNER)
            await session.send(CallFrame(1, 0, 20_000, b""))
            while not n1.received:
                await asyncio.sleep(0)
            n2.owned = {0: 2, 2: 1, 3: 1}

            bench.servers["n2"].announce()

            assert await session.answers(1) == [(1, 0, pack_reply(b"n2"))]

    run(test)


def test_describe_asks_every_node_and_names_those_that_are_down() -> None:
    async def test(bench: Bench) -> None:
        await bench.kill_node("n2")
        await bench.reached("n2", False)

        described = cluster_pb2.Description.FromString(
            await call_raw(bench.address, "Cluster/Describe", b"")
        )

        assert (described.role, described.server, described.cluster_id) == ("router", "r1", "c")
        assert [type.name for type in described.types] == ["Counter"]
        assert [
            (n.name, n.address, n.up, [(p.partition, p.state) for p in n.partitions])
            for n in described.nodes
        ] == [
            ("n1", f"127.0.0.1:{bench.ports['n1']}", True, [(0, "serving"), (1, "serving")]),
            (
                "n2",
                f"127.0.0.1:{bench.ports['n2']}",
                False,
                [(2, "unreachable"), (3, "unreachable")],
            ),
        ]

    run(test)


def test_ids_are_listed_by_the_owner_of_the_partition() -> None:
    async def listed(bench: Bench, partition: int) -> list[str]:
        ask = cluster_pb2.ListRequest(partition=partition, type="Counter")
        answer = await call_raw(bench.address, "Cluster/List", ask.SerializeToString())
        return list(cluster_pb2.ListAnswer.FromString(answer).ids)

    async def test(bench: Bench) -> None:
        assert await listed(bench, 1) == ["n1-1"]
        assert await listed(bench, 3) == ["n2-3"]

        bench.nodes["n2"].owned.pop(3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(bench, 3)
        info = details_of(caught.value.trailing_metadata())
        assert info is not None
        assert (info.reason, info.metadata["epoch"]) == ("NOT_OWNER", "9")

        await bench.kill_node("n1")
        await bench.reached("n1", False)
        for partition in (1, 77):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await listed(bench, partition)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    run(test)


def test_a_router_welcomes_nobody_before_it_has_reached_a_node() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.start_router()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(bench.stop)
            session = await stack.enter_async_context(RawSession(bench.address))
            await session.send(CallFrame(1, 0, 20_000, request()))
            call = asyncio.ensure_future(
                call_raw(bench.address, "Calls/Call", unary(ObjectKey("Counter", "a")))
            )

            for name in bench.nodes:
                await bench.start_node(name)

            assert (await session.welcome()).partition_count == PARTITIONS
            assert [a[1] for a in await session.answers(1)] == [Code.NO_OWNER]
            assert calls_pb2.CallAnswer.FromString(await call).result.data in (b"n1", b"n2")

    asyncio.run(asyncio.wait_for(test(), 300))


def test_a_node_of_another_cluster_gets_no_calls() -> None:
    async def test(bench: Bench) -> None:
        await bench.kill_node("n2")
        await bench.reached("n2", False)
        bench.nodes["n2"].cluster_id = "another"
        greeted = asyncio.Event()
        node_welcome = bench.nodes["n2"].welcome

        def welcome() -> Welcome:
            greeted.set()
            return node_welcome()

        bench.nodes["n2"].welcome = welcome  # type: ignore[method-assign]  # to know when
        await bench.start_node("n2")
        await greeted.wait()
        async with RawSession(bench.address) as session:
            await session.welcome()
            await session.send(CallFrame(1, 2, 300, b""))

            assert [a[1] for a in await session.answers(1)] == [Code.NO_OWNER]
            assert bench.nodes["n2"].received == []

    run(test)


def test_a_router_that_drains_answers_what_it_has_and_takes_nothing_new() -> None:
    async def test(bench: Bench) -> None:
        node = bench.nodes["n1"]
        async with RawSession(bench.address) as session:
            await session.welcome()
            node.keeps = True
            await session.send(CallFrame(1, 0, 20_000, b""))
            while not node.kept:
                await asyncio.sleep(0)

            draining = asyncio.ensure_future(bench.server.drain("r1"))
            await asyncio.sleep(0)
            await session.send(CallFrame(2, 0, 20_000, b""))
            assert [a[:2] for a in await session.answers(1)] == [(2, Code.DRAINING)]
            frame, sink = node.kept[0]
            sink.send((frame.number, 0, b""))
            assert [a[0] for a in await session.answers(1)] == [1]

            assert await session.status() == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            await draining

    run(test)


def test_a_client_that_leaves_takes_its_waiting_calls_along() -> None:
    async def test(bench: Bench) -> None:
        await bench.kill_node("n1")
        await bench.reached("n1", False)
        async with RawSession(bench.address) as session:
            await session.welcome()
            await session.send(CallFrame(1, 0, 20_000, b""))
            while bench.router.open_count == 0:
                await asyncio.sleep(0)

        while bench.router.open_count:
            await asyncio.sleep(0)

    run(test)


def test_a_node_alone_serves_the_same_protocol() -> None:
    async def test() -> None:
        node = EchoNode(owned={0: 1})
        async with serving(node) as (_, address), RawSession(address) as session:
            assert [o.partition for o in (await session.welcome()).owned] == [0]
            await session.send(CallFrame(1, 0, 1_000, b""))
            assert await session.answers(1) == [(1, 0, pack_reply(b"n1"))]

    asyncio.run(asyncio.wait_for(test(), 300))
