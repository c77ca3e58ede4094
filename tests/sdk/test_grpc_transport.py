"""Frames over a real gRPC stream on loopback: batches, breaks, frozen and odd servers."""

from __future__ import annotations

import asyncio

import pytest
from harness.loop import on_loop, until
from harness.proxy import Proxy
from harness.serving import EchoBackend, serving

from perdure import grpc_transport
from perdure.bodies import pack_reply
from perdure.client import Client
from perdure.errors import Code
from perdure.frames import AnswerFrame, CallFrame, Kind
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey
from perdure.transport import CALL_BYTES_MAX, MESSAGE_BYTES_AIM, MESSAGE_FRAMES_MAX, Welcome

CART = ObjectKey("Cart", "u1")


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[str] = asyncio.Queue()
        self.frames: dict[int, AnswerFrame] = {}
        self.welcome: Welcome | None = None

    def welcomed(self, welcome: Welcome) -> None:
        self.welcome = welcome
        self.events.put_nowait("welcomed")

    def answered(self, frames: list[AnswerFrame]) -> None:
        self.frames.update((frame[0], frame) for frame in frames)
        self.events.put_nowait("answered")

    def lost(self, why: str) -> None:
        self.events.put_nowait(f"lost: {why}")

    async def until(self, start: str, longest_s: float = 60.0) -> str:
        async with asyncio.timeout(longest_s):
            while not (event := await self.events.get()).startswith(start):
                pass
        return event

    async def answers(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.frames) < count:
                await self.events.get()


async def connected_to(address: str) -> tuple[Heard, GrpcTransport]:
    heard, transport = Heard(), GrpcTransport(address)
    transport.start(heard)
    await heard.until("welcomed")
    return heard, transport


def frames(count: int, size: int = 10) -> list[CallFrame]:
    return [CallFrame(number, 0, 1_000, b"x" * size) for number in range(1, count + 1)]


@on_loop
async def test_the_welcome_comes_first_and_answers_come_back() -> None:
    backend = EchoBackend(says=Welcome("c", 16, "n1", {3: 7}))
    async with serving(backend) as (_, address):
        heard, transport = await connected_to(address)

        transport.send(frames(2))
        await heard.answers(2)

        assert heard.welcome == Welcome("c", 16, "n1", {3: 7})
        assert heard.frames[2] == (2, Code.OK, b"x" * 10)
        await transport.close()


@on_loop
async def test_frames_sent_in_one_tick_are_one_message() -> None:
    backend = EchoBackend()
    async with serving(backend) as (_, address):
        heard, transport = await connected_to(address)

        for frame in frames(50):
            transport.send([frame])
        await heard.answers(50)

        assert [len(batch) for batch in backend.received] == [50]
        await transport.close()


@on_loop
async def test_calls_that_nobody_answers_keep_no_other_call_waiting() -> None:
    backend = EchoBackend(keeps=True)
    async with serving(backend) as (_, address):
        _, transport = await connected_to(address)

        for frame in frames(9):
            transport.send([frame])
            await until(lambda last=frame.number - 2: len(backend.kept) >= last)
        await until(lambda: len(backend.kept) == 9)

        numbers = [frame.number for batch in backend.received for frame in batch]
        assert numbers == list(range(1, 10))
        await transport.close()


@on_loop
async def test_what_waits_for_its_time_leaves_when_the_client_does() -> None:
    backend = EchoBackend(keeps=True)
    async with serving(backend) as (_, address):
        _, transport = await connected_to(address)

        for frame in frames(4):
            transport.send([frame])
            await asyncio.sleep(0)
        await transport.close()

        assert sum(len(batch) for batch in backend.received) == 4


@on_loop
async def test_messages_are_bounded_by_count_and_by_bytes() -> None:
    backend = EchoBackend()
    async with serving(backend) as (_, address):
        heard, transport = await connected_to(address)

        transport.send(frames(MESSAGE_FRAMES_MAX + 1))
        await heard.answers(MESSAGE_FRAMES_MAX + 1)
        by_count = [len(batch) for batch in backend.received]
        backend.received.clear()
        heard.frames.clear()
        transport.send(frames(5, MESSAGE_BYTES_AIM // 2))
        await heard.answers(5)

        assert by_count == [MESSAGE_FRAMES_MAX, 1]
        assert [len(batch) for batch in backend.received] == [2, 2, 1]
        await transport.close()


@on_loop
async def test_the_largest_call_passes_and_a_larger_one_costs_no_stream() -> None:
    async with serving(EchoBackend()) as (_, address):
        client = Client(GrpcTransport(address))
        largest = client.call(CART, Kind.CALL, "a", arguments=b"x" * (CALL_BYTES_MAX - 1_000))
        larger = client.call(CART, Kind.CALL, "a", arguments=b"x" * (CALL_BYTES_MAX + 1))

        # The echo of a request is no reply, which shows that it came back.
        assert (await largest).code == Code.INTERNAL
        assert (await larger).code == Code.MESSAGE_TOO_LARGE
        await client.close()


@on_loop
async def test_a_server_that_is_killed_and_started_again_is_found_by_itself() -> None:
    heard = Heard()
    async with serving(EchoBackend(keeps=True)) as (_, address):
        transport = GrpcTransport(address)
        transport.start(heard)
        await heard.until("welcomed")
        transport.send(frames(1))

    why = await heard.until("lost")
    async with serving(EchoBackend(), port=int(address.rpartition(":")[2])):
        await heard.until("welcomed", 15.0)
        transport.send(frames(1))
        await heard.answers(1)
        await transport.close()

    assert address in why


@on_loop
async def test_calls_go_on_over_a_restart_of_the_server_under_their_ids() -> None:
    first, second = EchoBackend(keeps=True), EchoBackend(keeps=True)
    async with serving(first) as (_, address):
        client = Client(GrpcTransport(address))
        future = client.call(CART, Kind.CALL, "add")
        while not first.received:
            await asyncio.sleep(0.001)

    async with serving(second, port=int(address.rpartition(":")[2])):
        while not second.kept:
            await asyncio.sleep(0.001)
        ((frame, sink),) = second.kept
        sink.send((frame.number, Code.OK, pack_reply(b"done")))

        assert (await future).reply.payload == b"done"
        assert frame.body == first.received[0][0].body
        await client.close()


@on_loop
async def test_nobody_at_the_address_is_told_with_a_reason_and_tried_again() -> None:
    heard, transport = Heard(), GrpcTransport("127.0.0.1:1")
    transport.start(heard)

    first, second = await heard.until("lost"), await heard.until("lost")

    assert "no connection to 127.0.0.1:1: UNAVAILABLE" in first
    assert second
    await transport.close()


@on_loop
async def test_frames_without_a_stream_are_dropped() -> None:
    transport = GrpcTransport("127.0.0.1:1")
    transport.start(Heard())

    transport.send(frames(3))

    assert not transport._queue
    await transport.close()


def test_a_server_that_takes_the_stream_and_says_nothing_is_left(monkeypatch) -> None:
    monkeypatch.setattr(grpc_transport, "_WELCOME_S", 0.2)

    @on_loop
    async def play() -> None:
        async with serving(EchoBackend(says=None)) as (_, address):
            heard, transport = Heard(), GrpcTransport(address)
            transport.start(heard)

            assert "the server does not answer" in await heard.until("lost")
            await transport.close()

    play()


@on_loop
async def test_closing_sends_what_is_left() -> None:
    backend = EchoBackend()
    async with serving(backend) as (_, address):
        _, transport = await connected_to(address)

        transport.send(frames(1_000))
        await transport.close()

        assert sum(map(len, backend.received)) == 1_000


@pytest.mark.slow
@on_loop
async def test_a_frozen_peer_is_noticed_in_seconds_and_left_for_one_that_answers() -> None:
    async with serving(EchoBackend()) as (_, address):
        proxy = Proxy(int(address.rpartition(":")[2]))
        async with proxy as proxied:
            heard, transport = Heard(), GrpcTransport(proxied)
            transport.start(heard)
            await heard.until("welcomed")

            proxy.freeze()
            transport.send(frames(1))
            await heard.until("lost", 8.0)
            proxy.thaw()

            await heard.until("welcomed", 8.0)
            await transport.close()
