"""The load of `fit_costs.py`, in a process of its own.

    python scripts/cost_worker.py make --address 127.0.0.1:7400 --count 100000
    python scripts/cost_worker.py touch --address 127.0.0.1:7400 --count 100000
    python scripts/cost_worker.py connect --address 127.0.0.1:7400 --count 100

Prints what it has measured as JSON; `connect` then stays until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
from typing import Any

import uvloop
from cost_app import CostRecord
from measuring import Cost, closed_loop

import perdure
from perdure import durable
from perdure.client import Client
from perdure.frames import Kind
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey, partition_of

IN_FLIGHT = 512
SEED = 20_000


async def make(options: argparse.Namespace) -> dict[str, Any]:
    """Make records `first` to `count`."""
    await perdure.connect(options.address)
    numbers = iter(range(options.first, options.count))

    async def maker() -> None:
        for number in numbers:
            await CostRecord.get_or_create(f"record-{number}")

    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await asyncio.gather(*(maker() for _ in range(IN_FLIGHT)))
    return {"seconds": loop.time() - began_s}


async def touch(options: argparse.Namespace) -> dict[str, Any]:
    """Call records in an order that no cache foresees."""
    await perdure.connect(options.address)
    choose = random.Random(SEED)
    count = options.count

    async def call(_: int) -> None:
        await durable.ref(CostRecord, f"record-{choose.randrange(count)}").touch()

    cost = Cost({"node": options.pid})
    done = await closed_loop(call, options.in_flight, options.seconds, 1.0, cost)
    return dataclasses.asdict(done)


async def connect(options: argparse.Namespace) -> dict[str, Any]:
    """Connect so many clients, each of which makes one call to each partition, and stay."""
    clients: list[Client] = []
    for _ in range(options.count):
        client = Client(GrpcTransport(options.address))
        clients.append(client)
        await client.connected()
        count = client.partition_count
        assert count is not None
        made = [client.call(each, Kind.GET_OR_CREATE) for each in _one_in_each(count)]
        await asyncio.gather(*made)
    print(json.dumps({"clients": len(clients)}), flush=True)
    await asyncio.Event().wait()
    return {}


def _one_in_each(partition_count: int) -> list[ObjectKey]:
    """Return a record of each partition."""
    found: dict[int, ObjectKey] = {}
    number = 0
    while len(found) < partition_count:
        key = ObjectKey("CostRecord", f"record-{number}")
        found.setdefault(partition_of(key, partition_count), key)
        number += 1
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    ways = {"make": make, "touch": touch, "connect": connect}
    parser.add_argument("way", choices=list(ways))
    parser.add_argument("--address", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pid", type=int, action="append", default=[])
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        done = runner.run(ways[options.way](options))
    if done:
        print(json.dumps(done))


if __name__ == "__main__":
    main()
