"""One round of load, in a process of its own; the other scripts start it and read what it prints.

    python scripts/bench_worker.py shots --address 127.0.0.1:7400 --in-flight 64

Prints a round as JSON. Each way of calling is a function here; those that need gRPC themselves
import it there, because how it is imported holds for the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import uvloop
from measured_app import MeasuredParcel
from measuring import Cost, Round, closed_loop, in_step, repeated
from rocksdict import Options, Rdict, WriteOptions

import perdure
from perdure import codec
from perdure.bench.app import BenchCounter
from perdure.bench.launching import ShotLauncher
from perdure.bench.loops import ClosedLoop
from perdure.bench.meter import Meter
from perdure.bench.scenarios import SCENARIOS, name_of
from perdure.client import Client
from perdure.frames import Kind
from perdure.grpc_import import import_grpc
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey
from perdure.runtime import current_client
from perdure.serving.lifetime import calm_collector, collect_rarely
from perdure.wire.v1 import calls_pb2

PAGE = bytes(4_096)
FILE_BYTES = 8 << 20
VALUE = bytes(300)
AT_ONCE = 64
"""How many objects are made at the same time. Servers bound the calls of one connection."""

STRIDE = 7
"""Neighbouring calls go to objects that are no neighbours."""


async def shots(options: argparse.Namespace, cost: Cost) -> Round:
    """Call counters as `perdure bench` does: with the client that handles use, without handles."""
    if options.address:
        client = await perdure.connect(options.address)
    else:
        client = current_client()
        await client.connected()
    scenario = SCENARIOS["counter"]
    keys = [ObjectKey(scenario.type, name_of(number)) for number in range(options.objects)]
    await _make(client, keys)
    meter = Meter()
    drawn = scenario.shots(scenario.type, options.objects, Random(0))
    in_flight, seconds, warm_up_s = _how(options)
    load = ClosedLoop(ShotLauncher(client, drawn.__next__, 30.0, meter), in_flight)
    load.start()
    await asyncio.sleep(warm_up_s)
    cost.begin()
    meter.begin(time.monotonic_ns())
    await asyncio.sleep(seconds)
    while not meter.now.latencies_ns and not meter.now.failed:
        # Others have the machine: the round takes longer, and counts what it took.
        await asyncio.sleep(seconds)
    if meter.now.failed:
        raise SystemExit(f"calls have failed: {meter.examples}")
    done = Round.of([latency_ns / 1e9 for latency_ns in meter.now.latencies_ns], cost.end())
    load.stop()
    await load.landed_all(30.0)
    return done


async def sessions(options: argparse.Namespace, cost: Cost) -> Round:
    """Call counters as users do: through a client's stream, or in a node of this process."""
    if options.address:
        await perdure.connect(options.address)
    counters: list[BenchCounter] = []
    for first in range(0, options.objects, AT_ONCE):
        ids = range(first, min(first + AT_ONCE, options.objects))
        counters += await asyncio.gather(*(BenchCounter.get_or_create(f"bench-{n}") for n in ids))
    count = len(counters)
    loop = in_step if options.in_step else closed_loop
    return await loop(lambda number: counters[number * STRIDE % count].add(1), *_how(options), cost)


async def parcels(options: argparse.Namespace, cost: Cost) -> Round:
    """Call objects of 300 bytes, which are as far apart as `--apart` says."""
    await perdure.connect(options.address)
    handles: list[MeasuredParcel] = []
    for first in range(0, options.objects, AT_ONCE):
        ids = range(first, min(first + AT_ONCE, options.objects))
        made = (MeasuredParcel.get_or_create(f"parcel-{n * options.apart}") for n in ids)
        handles += await asyncio.gather(*made)
    count = len(handles)
    return await closed_loop(
        lambda number: handles[number * STRIDE % count].add(1), *_how(options), cost
    )


async def streams(options: argparse.Namespace, cost: Cost) -> Round:
    """Call counters through several streams, all of which send at the same time."""
    clients = [Client(GrpcTransport(options.address)) for _ in range(options.streams)]
    targets = [ObjectKey("BenchCounter", name_of(number)) for number in range(options.objects)]
    await _make(clients[0], targets)
    arguments = codec.encode([[1], {}])

    def call(number: int) -> Awaitable[object]:
        target = targets[number * STRIDE % options.objects]
        client = clients[number % options.streams]
        answer: Awaitable[object] = client.call(target, Kind.CALL, "add", arguments=arguments)
        return answer

    done = await in_step(call, *_how(options), cost)
    await asyncio.gather(*(client.close() for client in clients))
    return done


async def unary(options: argparse.Namespace, cost: Cost) -> Round:
    """Call counters with a gRPC call for each, as grpcurl does."""
    import grpc.aio

    from perdure.wire.v1 import calls_pb2_grpc

    async with grpc.aio.insecure_channel(options.address) as channel:
        call: Any = calls_pb2_grpc.CallsStub(channel).Call
        arguments = calls_pb2.Payload(encoding=calls_pb2.ENCODING_JSON, data=b"[1]")
        targets: list[Any] = [
            {"type": "BenchCounter", "id": f"bench-{n}"} for n in range(options.objects)
        ]
        make = calls_pb2.OPERATION_GET_OR_CREATE
        made = [calls_pb2.CallRequest(**target, operation=make) for target in targets]
        for first in range(0, len(made), AT_ONCE):
            await asyncio.gather(*map(call, made[first : first + AT_ONCE]))
        asked = [
            calls_pb2.CallRequest(**target, method="add", arguments=arguments) for target in targets
        ]
        count = len(asked)
        return await closed_loop(
            lambda number: call(asked[number * STRIDE % count], timeout=30.0),
            *_how(options),
            cost,
        )


async def echo(options: argparse.Namespace, cost: Cost) -> Round:
    """Send frames to the server that does nothing, many to a message."""
    from echo_client import echo_client

    async with echo_client(options.address) as client:
        return await closed_loop(client.call, *_how(options), cost)


async def echo_older_poller(options: argparse.Namespace, cost: Cost) -> Round:
    """The same with gRPC as Perdure imports it."""
    import_grpc()
    return await echo(options, cost)


async def echo_unary(options: argparse.Namespace, cost: Cost) -> Round:
    """Make gRPC calls to the server that does nothing, one at a time for each caller."""
    import grpc.aio

    from perdure.wire.v1 import calls_pb2_grpc

    async with grpc.aio.insecure_channel(options.address) as channel:
        call: Any = calls_pb2_grpc.CallsStub(channel).Call
        arguments = calls_pb2.Payload(encoding=calls_pb2.ENCODING_JSON, data=b"[1]")
        asked = calls_pb2.CallRequest(
            type="BenchCounter", id="bench-123", method="add", arguments=arguments
        )
        return await closed_loop(lambda _: call(asked, timeout=30.0), *_how(options), cost)


async def fdatasync(options: argparse.Namespace, cost: Cost) -> Round:
    """Write a page, and wait for the disk, in a file that was written before, as a journal is."""
    with tempfile.TemporaryFile(dir=_directory(options)) as file:
        descriptor = file.fileno()
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
        os.pwrite(descriptor, bytes(FILE_BYTES), 0)
        os.fsync(descriptor)
        offset = 0

        def write() -> None:
            nonlocal offset
            os.pwrite(descriptor, PAGE, offset)
            os.fdatasync(descriptor)
            offset = (offset + len(PAGE)) % FILE_BYTES

        return repeated(write, options.seconds, cost)


async def rocksdb(options: argparse.Namespace, cost: Cost) -> Round:
    """Put 300 bytes into RocksDB, each put synced."""
    with tempfile.TemporaryDirectory(dir=_directory(options)) as directory:
        store = Rdict(directory, Options(raw_mode=True))
        synced = WriteOptions()
        synced.sync = True
        store.set_write_options(synced)
        number = 0

        def put() -> None:
            nonlocal number
            number += STRIDE
            store[b"%d" % (number % options.objects)] = VALUE

        done = repeated(put, options.seconds, cost)
        store.close()
        return done


WAYS: dict[str, Callable[[argparse.Namespace, Cost], Awaitable[Round]]] = {
    "shots": shots,
    "sessions": sessions,
    "parcels": parcels,
    "streams": streams,
    "unary": unary,
    "echo": echo,
    "echo-older-poller": echo_older_poller,
    "echo-unary": echo_unary,
    "fdatasync": fdatasync,
    "rocksdb": rocksdb,
}


async def _make(client: Client, keys: Sequence[ObjectKey]) -> None:
    for first in range(0, len(keys), AT_ONCE):
        made = keys[first : first + AT_ONCE]
        await asyncio.gather(*(client.call(each, Kind.GET_OR_CREATE) for each in made))


def _how(options: argparse.Namespace) -> tuple[int, float, float]:
    return options.in_flight, options.seconds, options.warm_up


def _directory(options: argparse.Namespace) -> Path:
    return options.data or Path(tempfile.gettempdir())


def _role(text: str) -> tuple[str, int]:
    role, _, pid = text.partition("=")
    return role, int(pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=list(WAYS))
    parser.add_argument("--address", help="of a node or router; else a node in this process")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds that do not count")
    parser.add_argument("--apart", type=int, default=1, help="of parcels")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--in-step", action="store_true", help="wait for all, then go on")
    parser.add_argument("--data", type=Path, help="else the folder for temporary files")
    parser.add_argument("--role", type=_role, action="append", default=[], metavar="ROLE=PID")
    options = parser.parse_args()
    roles: dict[str, list[int]] = {}
    for role, pid in options.role:
        roles.setdefault(role, []).append(pid)
    # As in `perdure bench`, and as in a node. The echo's client has it, too.
    collect_rarely()
    calm_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        done = runner.run(_run(options, roles))
    print(json.dumps(dataclasses.asdict(done)))


async def _run(options: argparse.Namespace, roles: dict[str, list[int]]) -> Round:
    return await WAYS[options.way](options, Cost(roles))


if __name__ == "__main__":
    main()
