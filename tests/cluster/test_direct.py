"""Clients that call nodes themselves, while nodes and routers die and ways are blocked."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from harness.app import Ledger
from harness.history import Told
from harness.kill_rounds import Round
from harness.processes import READY_S, Cluster, running_cluster
from harness.proxy import Proxy

import perdure
from perdure import durable, runtime
from perdure.grpc_transport import GrpcTransport
from perdure.routing.direct import DirectTransport

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

APP = Path(__file__).parents[1] / "harness" / "app.py"
ROUNDS = int(os.environ.get("PERDURE_KILL_ROUNDS", "5"))
VICTIMS = ("one node", "the router", "one node and the router", "all nodes", "one node, politely")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(APP, tmp_path_factory.mktemp("direct") / "data") as running:
        yield running


@pytest.fixture(autouse=True)
def _forget_the_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runtime, "_address", None)
    monkeypatch.setattr(runtime, "_routing", None)
    yield
    runtime._generation += 1


def current_transport() -> DirectTransport:
    transport = runtime.current_client()._transport
    assert isinstance(transport, DirectTransport)
    return transport


@asynccontextmanager
async def during(outage: AbstractContextManager[None]) -> AsyncIterator[None]:
    """Let the loop go on while an outage begins and ends."""
    await asyncio.to_thread(outage.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(outage.__exit__, None, None, None)


async def ledgers_of_each_node(cluster: Cluster, name: str) -> dict[str, Ledger]:
    """Make an object on each node; return them by their nodes' addresses."""
    made: dict[str, Ledger] = {}
    for number in range(1_000):
        address = cluster.owner_address("Ledger", f"{name}-{number}")
        if address not in made:
            ledger = await Ledger.get_or_create(f"{name}-{number}")
            made[address] = durable.options(ledger, timeout=READY_S)
        if len(made) == len(cluster.node_addresses()):
            return made
    raise AssertionError("a node owns nothing")


async def until_all_are_reached(cluster: Cluster, ledgers: dict[str, Ledger]) -> None:
    """Call until every node is called directly."""
    while current_transport().reached != sorted(cluster.node_addresses()):
        await asyncio.gather(*(ledger.read() for ledger in ledgers.values()))


def test_callers_lose_nothing_and_notice_nothing_when_processes_are_killed(
    cluster: Cluster,
) -> None:
    asyncio.run(play_all_rounds(cluster))


async def play_all_rounds(cluster: Cluster) -> None:
    await perdure.connect(cluster.address, routing="direct")
    ledgers = await ledgers_of_each_node(cluster, "rounds")
    rounds: list[Round] = []
    for number in range(ROUNDS):
        await until_all_are_reached(cluster, ledgers)
        played = Round(number, "direct")
        await played.play(cluster, VICTIMS[number % len(VICTIMS)])

        assert await played.problems() == []
        assert played.ended_badly == []
        rounds.append(played)

    # What was true at the end of its round is still true after all that followed.
    await asyncio.to_thread(cluster.restart_after_kill)
    for played in rounds:
        assert await played.problems() == []
    assert sum(played.history.count(Told.DONE) for played in rounds) > 0
    await until_all_are_reached(cluster, ledgers)


def test_calls_go_on_while_there_is_no_router(cluster: Cluster) -> None:
    async def main() -> None:
        await perdure.connect(cluster.address, routing="direct")
        ledgers = await ledgers_of_each_node(cluster, "no-router")
        first, *others = ledgers.values()
        async with during(cluster.without_router()):
            calls = [first.append(0, number) for number in range(100)]
            assert await asyncio.gather(*calls) == list(range(1, 101))
            for ledger in others:
                assert await ledger.append(0, 0) == 1
            await until_all_are_reached(cluster, ledgers)

    asyncio.run(main())


def test_a_node_that_dies_while_there_is_no_router_is_found_again(cluster: Cluster) -> None:
    async def main() -> None:
        await perdure.connect(cluster.address, routing="direct")
        ledgers = await ledgers_of_each_node(cluster, "node-dies")
        await until_all_are_reached(cluster, ledgers)
        address, ledger = ledgers.popitem()
        calls = [ledger.append(0, number) for number in range(50)]
        await calls[0]
        async with during(cluster.without_node(address)), during(cluster.without_router()):
            calls += [ledger.append(0, number) for number in range(50, 100)]
            # The objects of the other nodes notice nothing.
            for other in ledgers.values():
                assert await other.append(0, 0) == 1
        assert await asyncio.gather(*calls) == list(range(1, 101))
        assert await ledger.read() == [(0, number) for number in range(100)]

    asyncio.run(main())


def test_calls_on_a_way_that_is_blocked_arrive_once_and_in_order_by_the_router(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            proxies: dict[str, Proxy] = {}
            ways: dict[str, str] = {}
            for address in cluster.node_addresses().values():
                proxies[address] = Proxy(int(address.rpartition(":")[2]))
                ways[address] = await stack.enter_async_context(proxies[address])

            def transport_to(address: str, routing: str) -> DirectTransport:
                assert routing == "direct"
                return DirectTransport(
                    address,
                    keep=True,
                    connect=lambda to: GrpcTransport(ways.get(to, to), keep=True),
                )

            monkeypatch.setattr(runtime, "_transport_to", transport_to)
            await perdure.connect(cluster.address, routing="direct")
            ledgers = await ledgers_of_each_node(cluster, "blocked")
            await until_all_are_reached(cluster, ledgers)
            address, ledger = next(iter(ledgers.items()))

            calls = [ledger.append(0, number) for number in range(50)]
            await calls[0]
            proxies[address].freeze()
            calls += [ledger.append(0, number) for number in range(50, 100)]
            assert await asyncio.gather(*calls) == list(range(1, 101))
            assert len(current_transport().reached) == 2

            proxies[address].thaw()
            calls = []
            while len(current_transport().reached) < 3:
                calls.append(ledger.append(0, 100 + len(calls)))
                await asyncio.sleep(0.01)
            calls += [ledger.append(0, 100 + len(calls) + more) for more in range(50)]
            await asyncio.gather(*calls)
            assert await ledger.read() == [(0, number) for number in range(100 + len(calls))]
            await runtime.current_client().close()

    asyncio.run(main())


def test_a_client_that_reaches_no_node_calls_by_the_router_and_says_so_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = set(cluster.node_addresses().values())

    def transport_to(address: str, _: str) -> DirectTransport:
        # Port 9 is nobody's here, as a node's private address is nobody's elsewhere.
        return DirectTransport(
            address,
            keep=True,
            connect=lambda to: GrpcTransport("127.0.0.1:9" if to in nodes else to, keep=True),
        )

    async def main() -> None:
        await perdure.connect(cluster.address, routing="direct")
        ledgers = await ledgers_of_each_node(cluster, "private")
        for number in range(60):
            for ledger in ledgers.values():
                assert await ledger.append(0, number) == number + 1
            await asyncio.sleep(0.1)
        assert current_transport().reached == []

    monkeypatch.setattr(runtime, "_transport_to", transport_to)
    with caplog.at_level(logging.WARNING, "perdure"):
        asyncio.run(main())

    (warning,) = [record.getMessage() for record in caplog.records]
    assert "a router takes its calls" in warning


PROGRAM = """
import perdure.sync
from harness.app import Ledger

ledger = perdure.sync.run(Ledger.get_or_create, sys.argv[1])
for number in range(20):
    perdure.sync.run(ledger.append, 0, number)
print(len(perdure.sync.run(ledger.read)))
"""


def test_a_program_without_a_loop_calls_any_node_by_a_setting(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The address is a node's, and there is no router: nobody else sends the calls on."""
    program = tmp_path / "program.py"
    program.write_text("import sys\n" + textwrap.dedent(PROGRAM))
    given = next(iter(cluster.node_addresses().values()))
    other = next(
        f"setting-{n}"
        for n in range(1_000)
        if cluster.owner_address("Ledger", f"setting-{n}") != given
    )
    paths = [str(APP.parents[1]), *sys.path]
    environment = {
        **os.environ,
        "PERDURE_ADDRESS": given,
        "PERDURE_ROUTING": "direct",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    with cluster.without_router():
        done = subprocess.run(
            [sys.executable, str(program), other],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            timeout=READY_S,
        )

    assert (done.returncode, done.stdout.strip()) == (0, "20"), done.stderr
