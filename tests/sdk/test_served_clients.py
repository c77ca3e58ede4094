"""Several clients of one node, each with a connection of its own; one of them may vanish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from harness.proxy import Proxy
from harness.world import Served

from perdure import DurableObject, durable
from perdure.client import Client
from perdure.codec import decode, encode
from perdure.frames import Kind
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey
from perdure.wire.v1 import calls_pb2, calls_pb2_grpc

KEY = ObjectKey("Booth", "b")

doors: dict[str, asyncio.Event] = {}
"""What methods wait for; the node lives in the same loop as the test."""


@pytest.fixture(autouse=True)
def new_doors():
    doors.clear()


@durable.object
class Booth(DurableObject):
    """Only one at a time fits in."""

    def __init__(self, booth_id: str) -> None:
        super().__init__(booth_id)
        self.log: list[tuple[int, int]] = []
        self.inside = 0
        self.inside_max = 0
        self.left = 0

    async def note(self, client: int, number: int) -> int:
        self.inside += 1
        self.inside_max = max(self.inside, self.inside_max)
        await asyncio.sleep(0)
        self.log.append((client, number))
        self.inside -= 1
        return len(self.log)

    async def stay(self) -> int:
        doors["inside"].set()
        await doors["out"].wait()
        self.left += 1
        return self.left


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Client]:
    client = Client(GrpcTransport(address))
    try:
        await client.connected(10)
        yield client
    finally:
        await client.close(1)


def test_one_call_at_a_time_over_all_clients_in_the_order_of_each(tmp_path: Path) -> None:
    async def play(client: Client, name: int) -> list[int]:
        futures = [
            client.call(KEY, Kind.CALL, "note", arguments=encode([[name, number], {}]))
            for number in range(40)
        ]
        return [decode((await future).reply.payload) for future in futures]

    async def main() -> None:
        booth = await Booth.get_or_create("b")
        address = os.environ["PERDURE_ADDRESS"]
        async with connected(address) as a, connected(address) as b, connected(address) as c:
            answers = await asyncio.gather(*(play(x, name) for name, x in enumerate((a, b, c))))
        await durable.refresh(booth)
        assert booth.inside_max == 1
        assert sorted(n for counts in answers for n in counts) == list(range(1, 121))
        for name in range(3):
            assert [n for who, n in booth.log if who == name] == list(range(40))

    Served(tmp_path / "data").run(main)


def test_a_client_that_vanishes_does_not_cancel_the_method_that_it_called(tmp_path: Path) -> None:
    async def main() -> None:
        booth = await Booth.get_or_create("b")
        doors.update(inside=asyncio.Event(), out=asyncio.Event())
        port = int(os.environ["PERDURE_ADDRESS"].rpartition(":")[2])
        proxy = Proxy(port)
        async with proxy as address, connected(address) as client:
            lost = client.call(KEY, Kind.CALL, "stay", arguments=encode([[], {}]), timeout_s=None)
            await doors["inside"].wait()
            # It says no goodbye; then the connection is cut.
            proxy.freeze()
        assert (await lost).code
        doors["out"].set()
        assert await booth.stay() == 2

    Served(tmp_path / "data").run(main)


def test_a_caller_of_another_language_that_hangs_up_does_not_cancel_the_method(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        booth = await Booth.get_or_create("b")
        doors.update(inside=asyncio.Event(), out=asyncio.Event())
        async with grpc.aio.insecure_channel(os.environ["PERDURE_ADDRESS"]) as channel:
            call = calls_pb2_grpc.CallsStub(channel).Call(
                calls_pb2.CallRequest(type="Booth", id="b", method="stay")
            )
            await doors["inside"].wait()
            call.cancel()
        doors["out"].set()
        assert await booth.stay() == 2

    Served(tmp_path / "data").run(main)
