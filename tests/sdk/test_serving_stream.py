"""One session stream against a real gRPC server on loopback."""

import asyncio

import grpc
from harness.serving import EchoBackend, RawSession, serving

from perdure.frames import CallFrame
from perdure.serving.limits import ServerLimits
from perdure.transport import Welcome
from perdure.wire.v1 import calls_pb2


def call(number: int, body: bytes = b"x") -> CallFrame:
    return CallFrame(number, 3, 1000, body)


def run(test) -> None:
    asyncio.run(asyncio.wait_for(test, 300))


def test_the_first_message_out_is_the_welcome() -> None:
    async def test() -> None:
        backend = EchoBackend(Welcome("abc", 64, "n1", {5: 7, 2: 9}))
        async with serving(backend) as (_, address), RawSession(address) as session:
            welcome = await session.welcome()

            assert (welcome.cluster_id, welcome.partition_count, welcome.server) == (
                "abc",
                64,
                "n1",
            )
            assert [(o.partition, o.epoch) for o in welcome.owned] == [(2, 9), (5, 7)]

    run(test())


def test_calls_that_arrive_in_one_message_are_answered_in_one_message() -> None:
    async def test() -> None:
        async with serving(EchoBackend()) as (_, address), RawSession(address) as session:
            await session.welcome()
            await session.send(*[call(n) for n in range(1, 101)])

            batch = await session.read()

            assert batch is not None
            assert len(batch.frames) > 100 * 4
            assert not batch.HasField("welcome")

    run(test())


def test_a_server_that_does_not_know_its_cluster_yet_welcomes_later() -> None:
    async def test() -> None:
        backend = EchoBackend(says=None)
        async with serving(backend) as (server, address), RawSession(address) as session:
            await session.send(call(1))
            while not backend.received:
                await asyncio.sleep(0)
            backend.says = Welcome("c", 4, "r", {})

            server.announce()

            assert (await session.welcome()).partition_count == 4
            assert [frame[0] for frame in await session.answers(1)] == [1]

    run(test())


def test_a_changed_welcome_is_told_on_every_stream() -> None:
    async def test() -> None:
        backend = EchoBackend()
        async with (
            serving(backend) as (server, address),
            RawSession(address) as one,
            RawSession(address) as two,
        ):
            await one.welcome()
            await two.welcome()
            backend.says = Welcome("c", 16, "echo", {1: 2})

            server.announce()

            for session in (one, two):
                assert [o.partition for o in (await session.welcome()).owned] == [1]

    run(test())


def test_a_malformed_batch_ends_its_own_stream_only() -> None:
    async def test() -> None:
        malformed = [
            b"\xff\xff\xff",
            calls_pb2.CallBatch(frames=b"\xc1").SerializeToString(),
            calls_pb2.CallBatch(frames=b"\x91\x93\x01\x02\x03").SerializeToString(),
            calls_pb2.CallBatch(frames=b"\x91\x94\x01\x02\x03\xa1x").SerializeToString(),
            calls_pb2.CallBatch(frames=b"\xdd\x00\x20\x00\x00").SerializeToString(),
            calls_pb2.CallBatch(frames=b"\x80").SerializeToString(),
            calls_pb2.CallBatch(frames=b"\x91" * 5000).SerializeToString(),
        ]
        async with serving(EchoBackend()) as (_, address), RawSession(address) as good:
            await good.welcome()
            for message in malformed:
                async with RawSession(address) as bad:
                    await bad.send_raw(message)

                    assert await bad.status() == (
                        grpc.StatusCode.INVALID_ARGUMENT,
                        "MALFORMED",
                    ), message

            await good.send(call(1))
            assert [frame[0] for frame in await good.answers(1)] == [1]

    run(test())


def test_a_call_that_is_too_large_is_refused_and_its_stream_goes_on() -> None:
    async def test() -> None:
        limits = ServerLimits(call_bytes_max=1000)
        async with serving(EchoBackend(), limits) as (_, address), RawSession(address) as session:
            await session.welcome()
            await session.send(call(1), call(2, b"x" * 1001), call(3, b"x" * 1000))

            answers = {number: code for number, code, _ in await session.answers(3)}

            assert answers == {1: 0, 2: 8, 3: 0}

    run(test())


def test_a_client_that_does_not_read_loses_its_stream_and_others_do_not_notice() -> None:
    async def test() -> None:
        limits = ServerLimits(unsent_bytes_max=2_000_000)
        backend = EchoBackend()
        async with (
            serving(backend, limits) as (_, address),
            RawSession(address) as slow,
            RawSession(address) as good,
        ):
            await good.welcome()
            await slow.send(*[call(number, b"x" * 500_000) for number in range(1, 9)])

            for number in range(1, 500):
                await good.send(call(number))
                assert [frame[0] for frame in await good.answers(1)] == [number]

            assert await slow.status() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BACKPRESSURE")

    run(test())


def test_over_the_total_of_unread_answers_the_worst_stream_ends() -> None:
    async def test() -> None:
        limits = ServerLimits(unsent_total_bytes_max=3_000_000)
        backend = EchoBackend(keeps=True)
        async with (
            serving(backend, limits) as (_, address),
            RawSession(address) as one,
            RawSession(address) as two,
        ):
            for session, count in (one, 8), (two, 16):
                await session.welcome()
                await session.send(*[call(n) for n in range(1, 9)])
                while len(backend.kept) < count:
                    await asyncio.sleep(0)
            kept = {True: backend.kept[:8], False: backend.kept[8:]}

            for frame, sink in kept[True]:
                sink.send((frame.number, 0, b"x" * 400_000))
            for frame, sink in kept[False][:2]:
                sink.send((frame.number, 0, b"x" * 100_000))

            assert kept[True][0][1].closed
            assert not kept[False][0][1].closed
            assert len(await two.answers(2)) == 2

    run(test())


def test_a_half_closed_stream_gets_its_answers_before_it_ends() -> None:
    async def test() -> None:
        backend = EchoBackend(keeps=True)
        async with serving(backend) as (_, address), RawSession(address) as session:
            await session.welcome()
            await session.send(call(1), call(2), call(0))
            await session.stream.done_writing()
            while not backend.kept:
                await asyncio.sleep(0)

            for frame, sink in backend.kept[:2]:
                sink.send((frame.number, 0, b""))

            assert len(await session.answers(2)) == 2
            assert await session.read() is None
            assert await session.stream.code() is grpc.StatusCode.OK

    run(test())


def test_the_sink_of_a_client_that_left_is_closed() -> None:
    async def test() -> None:
        backend = EchoBackend(keeps=True)
        async with serving(backend) as (_, address):
            async with RawSession(address) as session:
                await session.welcome()
                await session.send(call(1))
                while not backend.kept:
                    await asyncio.sleep(0)
                sink = backend.kept[0][1]
                assert not sink.closed

            while not sink.closed:
                await asyncio.sleep(0)
            sink.send((1, 0, b"too late"))

    run(test())


def test_draining_sends_what_is_answered_and_then_ends_every_stream() -> None:
    async def test() -> None:
        backend = EchoBackend(keeps=True)
        limits = ServerLimits(linger_s=0.1)
        async with serving(backend, limits) as (server, address), RawSession(address) as session:
            await session.welcome()
            await session.send(call(1), call(2))
            while not backend.kept:
                await asyncio.sleep(0)
            frame, sink = backend.kept[0]
            sink.send((frame.number, 0, b""))

            await server.drain("n1")

            assert [frame[0] for frame in await session.answers(1)] == [1]
            assert await session.status() == (grpc.StatusCode.UNAVAILABLE, "DRAINING")

    run(test())
