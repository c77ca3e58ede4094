"""Hostile bytes, and clients that ask and do not read."""

import asyncio
import contextlib
import random

import grpc
import msgspec
import pytest
from harness.serving import EchoBackend, RawSession, call_raw, details_of, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.client import Answer
from perdure.errors import BadPayload, PerdureError
from perdure.frames import CallFrame, Reply, pack_batch
from perdure.serving.limits import ServerLimits
from perdure.serving.status import Refusal
from perdure.serving.stream import frames_of
from perdure.serving.unary import answer_call
from perdure.wire.v1 import calls_pb2

GOOD_CALL = calls_pb2.CallRequest(
    type="Counter",
    id="a",
    method="add",
    arguments=calls_pb2.Payload(encoding=calls_pb2.ENCODING_JSON, data=b"[1]"),
    idempotency_key="k",
).SerializeToString()

GOOD_BATCH = calls_pb2.CallBatch(
    frames=pack_batch([CallFrame(n, n, 1_000, b"body") for n in range(20)])
).SerializeToString()


def mutated(good: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    data = bytearray(good)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randint(1, 5)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 5))
            case _:
                data[at:at] = data[: chance.randrange(len(data))]
        if not data:
            data = bytearray(b"\xff")
    return bytes(data)


@settings(max_examples=1_000, deadline=None)
@given(st.binary(max_size=200) | st.integers(0, 2**32).map(lambda seed: mutated(GOOD_BATCH, seed)))
def test_a_batch_is_call_frames_or_malformed(message: bytes) -> None:
    try:
        frames = frames_of(message, 4_096)
    except BadPayload:
        return
    for frame in frames:
        assert [type(field) for field in frame] == [int, int, int, bytes]


@pytest.mark.parametrize(
    "frames",
    [
        b"\x91" * 4_000_000,
        b"\x81" * 4_000_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\x91\xdd\xff\xff\xff\xff",
        b"\x91\x94\x00\x00\x00\xc6\xff\xff\xff\xff",
        msgspec.msgpack.encode([[0, 0, 0, b""]] * 5_000),
    ],
    ids=["arrays", "maps", "4 G frames", "65,535 frames", "4 G fields", "4 GB", "many"],
)
def test_hostile_batches_are_malformed(frames: bytes) -> None:
    message = calls_pb2.CallBatch(frames=frames).SerializeToString()
    with pytest.raises(BadPayload):
        frames_of(message, 4_096)


@settings(max_examples=1_000, deadline=None)
@given(st.binary(max_size=200) | st.integers(0, 2**32).map(lambda seed: mutated(GOOD_CALL, seed)))
def test_a_unary_request_is_a_call_or_refused(message: bytes) -> None:
    async def test() -> None:
        try:
            await answer_call(message, 1.0, EchoBackend(), ServerLimits())
        except (Refusal, PerdureError):
            return

    asyncio.run(test())


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return an HTTP/2 frame."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def asking(stream: int, method: str, message: bytes) -> bytes:
    """Return the frames of a gRPC call. Whoever sends them and no more never lets answers in."""
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": f"/perdure.wire.v1.Calls/{method}".encode(),
        b":authority": b"x",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in headers.items()
    )
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    return frame(1, 4, stream, block) + frame(0, 0, stream, body)


class NeverReads:
    """A connection that makes calls and takes nothing of the answers."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def __aenter__(self) -> "NeverReads":
        host, port = self._address.split(":")
        self.reader, self._writer = await asyncio.open_connection(host, int(port))
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        self._last = -1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def ask(self, method: str, message: bytes) -> None:
        self._last += 2
        self._writer.write(asking(self._last, method, message))


async def ok(address: str) -> None:
    answer = await call_raw(address, "Calls/Call", GOOD_CALL)
    assert calls_pb2.CallAnswer.FromString(answer).result


def test_a_connection_that_reads_no_unary_answers_gets_no_more_calls_run() -> None:
    async def test() -> None:
        backend = EchoBackend()
        backend.client.answer = Answer(0, Reply(bytes(3 << 20), None, None))
        limits = ServerLimits(unread_connection_bytes_max=5 << 20)
        async with serving(backend, limits) as (_, address):
            async with NeverReads(address) as slow:
                for _ in range(2):
                    slow.ask("Call", GOOD_CALL)
                while len(backend.client.asked) < 2:
                    await asyncio.sleep(0)
                for _ in range(20):
                    slow.ask("Call", GOOD_CALL)
                for asked in range(3, 8):
                    await ok(address)
                    assert len(backend.client.asked) == asked
            await ok(address)

    asyncio.run(asyncio.wait_for(test(), 300))


def test_when_too_much_is_unread_by_all_together_calls_are_refused_until_it_is_read_or_gone() -> (
    None
):
    async def test() -> None:
        backend = EchoBackend()
        backend.client.answer = Answer(0, Reply(bytes(3 << 20), None, None))
        limits = ServerLimits(unread_total_bytes_max=5 << 20)
        async with serving(backend, limits) as (_, address):
            async with NeverReads(address) as one, NeverReads(address) as two:
                one.ask("Call", GOOD_CALL)
                two.ask("Call", GOOD_CALL)
                while len(backend.client.asked) < 2:
                    await asyncio.sleep(0)

                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    while True:
                        await ok(address)

                info = details_of(caught.value.trailing_metadata())
                assert info is not None
                assert (info.reason, info.metadata["applied"]) == ("BACKPRESSURE", "no")
                async with RawSession(address) as session:
                    assert await session.status() == (
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        "BACKPRESSURE",
                    )
            for _ in range(1_000):
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await ok(address)
                    break
            else:
                raise AssertionError("still refused")

    asyncio.run(asyncio.wait_for(test(), 300))


def test_a_stream_that_does_not_read_is_counted_after_its_end() -> None:
    async def test() -> None:
        backend = EchoBackend(keeps=True)
        limits = ServerLimits(unsent_bytes_max=1_000_000, unread_connection_bytes_max=400_000)
        batch = calls_pb2.CallBatch(frames=pack_batch([CallFrame(1, 0, 1_000, b"")]))
        async with serving(backend, limits) as (_, address), NeverReads(address) as slow:
            slow.ask("Session", batch.SerializeToString())
            while not backend.kept:
                await asyncio.sleep(0)
            sink = backend.kept[0][1]
            while not sink.closed:
                sink.send((1, 0, b"x" * 500_000))
                await asyncio.sleep(0)

            for _ in range(20):
                slow.ask("Session", batch.SerializeToString())
            backend.keeps = False
            for received in range(2, 7):
                async with RawSession(address) as good:
                    await good.welcome()
                    await good.send(CallFrame(1, 0, 1_000, b""))
                    assert len(await good.answers(1)) == 1
                    assert len(backend.received) == received

    asyncio.run(asyncio.wait_for(test(), 300))
