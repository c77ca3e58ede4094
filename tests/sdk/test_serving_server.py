"""A server against clients that are none."""

import asyncio
import socket

import pytest
from harness.serving import EchoBackend, RawSession, call_raw, serving

from perdure.errors import StorageHeld
from perdure.frames import CallFrame
from perdure.serving.limits import ServerLimits
from perdure.wire.v1 import calls_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)

GOOD = calls_pb2.CallRequest(type="Counter", id="a", method="add").SerializeToString()


async def until_closed(address: str, *sent: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server closes the connection."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for data in sent:
            writer.write(data)
        await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def served(test, limits: ServerLimits | None = None) -> None:
    async def run() -> None:
        async with serving(EchoBackend(), limits) as (_, address):
            await test(address)

    asyncio.run(asyncio.wait_for(run(), 300))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        bytes(range(256)) * 64,
        PREFACE + b"\xff" * 64,
        PREFACE + SETTINGS + b"\x00\x00\x04\x01\x04\x00\x00\x00\x01\xff\xff\xff\xff",
    ],
    ids=["HTTP/1.1", "TLS", "all bytes", "a bad frame", "bad headers"],
)
def test_what_is_no_http2_is_hung_up_on(data: bytes) -> None:
    async def test(address: str) -> None:
        await until_closed(address, data)
        await call_raw(address, "Calls/Call", GOOD)

    served(test)


@pytest.mark.parametrize("data", [b"", PREFACE[:10], PREFACE], ids=["nothing", "half", "preface"])
def test_a_connection_that_does_not_greet_is_closed_in_time(data: bytes) -> None:
    async def test(address: str) -> None:
        await asyncio.gather(*(until_closed(address, data) for _ in range(50)))
        await call_raw(address, "Calls/Call", GOOD)

    served(test, ServerLimits(handshake_timeout_ms=300))


def test_an_idle_connection_is_closed() -> None:
    async def test(address: str) -> None:
        await until_closed(address, PREFACE, SETTINGS)

    served(test, ServerLimits(idle_ms=300))


def test_a_flood_of_pings_is_cut_off() -> None:
    async def test(address: str) -> None:
        answer = await until_closed(address, PREFACE, SETTINGS, PING * 200)
        assert b"too_many_pings" in answer
        await call_raw(address, "Calls/Call", GOOD)

    served(test)


def test_connections_over_the_limit_are_closed_and_those_there_live_on() -> None:
    async def test(address: str) -> None:
        async with RawSession(address) as session:
            await session.welcome()
            await until_closed(address, PREFACE, SETTINGS)
            await session.send(CallFrame(1, 0, 1000, b""))
            assert len(await session.answers(1)) == 1

    served(test, ServerLimits(connections_max=1))


def test_a_port_is_served_by_one_server_only() -> None:
    async def test(address: str) -> None:
        with pytest.raises(StorageHeld, match=address):
            async with serving(EchoBackend(), port=int(address.split(":")[1])):
                pass

    served(test)


def test_a_port_that_another_program_has_is_refused() -> None:
    async def test(_: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(StorageHeld):
                async with serving(EchoBackend(), port=taken.getsockname()[1]):
                    pass

    served(test)


def test_pings_that_are_not_too_many_are_answered() -> None:
    async def test(address: str) -> None:
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE + SETTINGS)
        for number in range(10):
            # Paced as clients do: this is no waiting for something to happen.
            await asyncio.sleep(0.01)
            ping = PING[:9] + number.to_bytes(8, "big")
            writer.write(ping)
            answer = await reader.readuntil(b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + ping[9:])
            assert b"too_many_pings" not in answer
        writer.close()

    served(test, ServerLimits(client_ping_interval_ms=1))
