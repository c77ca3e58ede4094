"""Calls to a node that is measured, by clients without handles: they take least from it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from measured_app import BenchCounter, MeasuredParcel

from perdure import codec
from perdure.client import Client
from perdure.frames import Kind
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey
from perdure.transport import Transport

IN_FLIGHT = 64
OBJECTS = 1_000
"""As many as the plain scenario of `perdure bench` calls."""

STRIDE = 7
"""Neighbouring calls go to objects that are no neighbours."""

MADE_AT_ONCE = 512
_ADD = codec.encode([[1], {}])


def counter(id: object) -> ObjectKey:
    """Name a counter."""
    return ObjectKey(BenchCounter.__name__, str(id))


def parcel(number: int) -> ObjectKey:
    """Name a parcel."""
    return ObjectKey(MeasuredParcel.__name__, f"parcel-{number}")


@asynccontextmanager
async def client_of(transport: Transport | str) -> AsyncIterator[Client]:
    """Call a node through a transport, or at an address."""
    client = Client(GrpcTransport(transport) if isinstance(transport, str) else transport)
    try:
        yield client
    finally:
        await client.close()


def make(client: Client, key: ObjectKey) -> Awaitable[object]:
    """Make an object if there is none."""
    return client.call(key, Kind.GET_OR_CREATE)


def add(client: Client, key: ObjectKey) -> Awaitable[object]:
    """Add to a counter or parcel."""
    return client.call(key, Kind.CALL, "add", arguments=_ADD)


async def each(
    count: int, do: Callable[[int], Awaitable[object]], *, at_once: int = IN_FLIGHT
) -> None:
    """Do something with each number below `count`, with so many of them at the same time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await do(number)

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def make_and_add(client: Client, prefix: str, count: int) -> None:
    """Make counters, and add to each."""

    async def both(number: int) -> None:
        await make(client, counter(f"{prefix}-{number}"))
        await add(client, counter(f"{prefix}-{number}"))

    await each(count, both)


def adding(client: Client) -> Callable[[int], Awaitable[object]]:
    """Return what adds to one of many counters, and makes it before if there is none."""

    async def make_or_add(number: int) -> None:
        key = counter(number * STRIDE % OBJECTS)
        await (make if number < OBJECTS else add)(client, key)

    return make_or_add


async def load(client: Client, seconds: float) -> int:
    """Call counters for so long. Returns how many calls were made."""
    keys = [counter(number) for number in range(OBJECTS)]
    await each(OBJECTS, lambda n: make(client, keys[n]))
    numbers = iter(range(1 << 62))
    end = time.monotonic() + seconds

    async def caller() -> None:
        while time.monotonic() < end:
            await add(client, keys[next(numbers) * STRIDE % OBJECTS])

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return next(numbers)


async def touch_all(address: str, partitions: int) -> None:
    """Call all partitions of a node: there are far more objects than partitions."""
    async with client_of(address) as client:
        await each(partitions * 16, lambda n: make(client, counter(n)))


@contextmanager
def folder(kept: Path | None = None) -> Iterator[Path]:
    """Name a folder for a node. Unless it is to be kept, it is removed afterwards."""
    if kept is not None:
        yield kept
        return
    directory = tempfile.mkdtemp(prefix="perdure-measured-")
    try:
        yield Path(directory, "data")
    finally:
        shutil.rmtree(directory)
