"""One client for each event loop, the node of this process, and how loops end."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from harness.echo_cluster import PARTITIONS, EchoNode, an_object_of
from harness.serving import EchoBackend, serving

from perdure import DurableObject, StorageHeld, connect, durable, runtime
from perdure.directory import DirectoryLock
from perdure.errors import ConfigError, DeadlineExceeded
from perdure.frames import Kind
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey
from perdure.routing.direct import DirectTransport

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]


@durable.object
class RuntimeTally(DurableObject):
    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.count = 0

    async def add(self, number: int = 1) -> int:
        self.count += number
        return self.count

    async def never_end(self) -> None:
        await asyncio.Event().wait()

    async def add_slowly(self, number: int) -> int:
        await asyncio.sleep(0.05)
        self.count += number
        return self.count


@pytest.fixture(autouse=True)
def _own_data(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("PERDURE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("PERDURE_ADDRESS", raising=False)
    monkeypatch.delenv("PERDURE_ROUTING", raising=False)
    monkeypatch.setattr(runtime, "_address", None)
    monkeypatch.setattr(runtime, "_routing", None)
    yield
    runtime._generation += 1


def run(main, new_loop=asyncio.new_event_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_module_level_handle_works_in_two_loops_one_after_the_other(new_loop) -> None:
    handle = durable.ref(RuntimeTally, "t")

    async def first() -> int:
        await RuntimeTally.get_or_create("t")
        return await handle.add(5)

    async def second() -> int:
        return await handle.add(5)

    assert run(first(), new_loop) == 5
    assert run(second(), new_loop) == 10
    assert runtime._homes == {}


@pytest.mark.parametrize("new_loop", LOOPS)
def test_calls_made_and_not_awaited_are_finished_before_the_loop_ends(new_loop) -> None:
    async def first() -> None:
        handle = await RuntimeTally.get_or_create("t")
        handle.add_slowly(1)
        handle.add(10)

    async def second() -> int:
        return (await RuntimeTally.get_or_create("t")).count

    run(first(), new_loop)

    assert run(second(), new_loop) == 11


def test_a_task_that_is_cancelled_by_the_end_of_the_loop_may_still_call() -> None:
    async def first() -> None:
        handle = await RuntimeTally.get_or_create("t")

        async def worker() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                assert await handle.add(7) == 7

        task = asyncio.create_task(worker())
        task.add_done_callback(ends.append)
        await asyncio.sleep(0)

    ends: list[asyncio.Task[None]] = []
    run(first())

    assert ends[0].cancelled()

    async def second() -> int:
        return (await RuntimeTally.get_or_create("t")).count

    assert run(second()) == 7


def test_the_end_of_a_loop_logs_the_calls_that_it_leaves(monkeypatch, caplog) -> None:
    monkeypatch.setattr(runtime, "_END_S", 0.05)

    monkeypatch.setenv("PERDURE_ADDRESS", "127.0.0.1:1")

    async def main() -> None:
        runtime.current_client().call(ObjectKey("RuntimeTally", "t"), Kind.CALL, "add")

    with caplog.at_level(logging.WARNING, "perdure"):
        run(main())

    assert caplog.messages == ["closed with 1 calls unanswered: they may have run"]


def test_a_method_that_never_ends_does_not_keep_the_loop(monkeypatch, caplog) -> None:
    monkeypatch.setattr(runtime, "_END_S", 0.2)

    async def first() -> None:
        handle = await RuntimeTally.get_or_create("t")
        await handle.add()
        handle.never_end()

    async def second() -> int:
        return await durable.ref(RuntimeTally, "t").add()

    with caplog.at_level(logging.WARNING, "perdure"):
        started_s = time.monotonic()
        run(first())
        took_s = time.monotonic() - started_s

    assert took_s < 9
    assert "closed with 1 calls unanswered: they may have run" in caplog.messages
    assert run(second()) == 2


def test_a_call_where_no_loop_runs_names_the_way_to_make_it() -> None:
    with pytest.raises(RuntimeError, match=r"perdure\.sync\.run"):
        RuntimeTally.get_or_create("t")


def test_a_second_loop_in_a_thread_uses_the_node_of_the_first() -> None:
    async def second() -> int:
        return await durable.ref(RuntimeTally, "t").add(5)

    async def first() -> list[int]:
        handle = await RuntimeTally.get_or_create("t")
        return [await asyncio.to_thread(run, second()), await handle.add(5)]

    assert run(first()) == [5, 10]


def test_when_the_loop_of_the_node_ends_another_one_opens_it_again() -> None:
    opened, ended = threading.Event(), threading.Event()
    results: list[int] = []

    async def first() -> None:
        await RuntimeTally.get_or_create("t")
        opened.set()
        while not results:
            await asyncio.sleep(0.001)

    async def second() -> None:
        results.append(await durable.ref(RuntimeTally, "t").add())
        await asyncio.get_running_loop().run_in_executor(None, ended.wait)
        results.append(await durable.ref(RuntimeTally, "t").add())

    thread = threading.Thread(target=lambda: run(first()))
    other = threading.Thread(target=lambda: opened.wait() and run(second()))
    thread.start()
    other.start()
    thread.join()
    ended.set()
    other.join()

    assert results == [1, 2]


def test_many_loops_at_once_share_one_node() -> None:
    async def add() -> None:
        handle = await RuntimeTally.get_or_create("t")
        await asyncio.gather(*[handle.add() for _ in range(50)])

    threads = [threading.Thread(target=lambda: run(add())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def count() -> int:
        return (await RuntimeTally.get_or_create("t")).count

    assert run(count()) == 300


def test_a_directory_in_use_is_an_error_that_names_the_holder_and_no_more_once_it_is_free() -> None:
    path = Path(os.environ["PERDURE_DATA"])
    lock = DirectoryLock(path, make=True)

    async def main() -> int:
        with pytest.raises(StorageHeld, match=f"process {os.getpid()}"):
            await RuntimeTally.get_or_create("t")
        lock.close()
        handle = await RuntimeTally.get_or_create("t")
        return await handle.add()

    assert run(main()) == 1


def test_a_directory_that_cannot_be_used_is_an_error_of_the_call(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PERDURE_DATA", str(tmp_path / "file"))

    async def main() -> None:
        with pytest.raises((ConfigError, StorageHeld)):
            await RuntimeTally.get_or_create("t")

    run(main())


def test_connect_makes_the_process_a_client_of_that_address_on_every_loop() -> None:
    async def main() -> None:
        async with serving(EchoBackend()) as (_, address):
            before = runtime.current_client()
            client = await connect(address)

            assert client is runtime.current_client()
            assert client is not before
            assert client.welcome is not None
            assert client.welcome.server == "echo"
            await asyncio.to_thread(run, elsewhere())
            assert await connect(address) is client
            await client.close()

    async def elsewhere() -> None:
        client = runtime.current_client()
        await client.connected()
        assert client.welcome is not None
        assert client.welcome.server == "echo"

    run(main())


def test_an_address_in_the_environment_makes_the_process_a_client(monkeypatch) -> None:
    async def main() -> None:
        async with serving(EchoBackend()) as (_, address):
            monkeypatch.setenv("PERDURE_ADDRESS", address)
            client = runtime.current_client()
            await client.connected()
            assert client.welcome is not None
            assert client.welcome.server == "echo"
            await client.close()

    run(main())


def test_connect_and_the_environment_choose_the_routing(monkeypatch) -> None:
    async def main() -> None:
        async with serving(EchoBackend()) as (_, address):
            routed = await connect(address)
            assert isinstance(routed._transport, GrpcTransport)
            straight = await connect(address, routing="direct")
            assert isinstance(straight._transport, DirectTransport)
            assert await connect(address, routing="direct") is straight

            monkeypatch.setenv("PERDURE_ROUTING", "direct")
            chosen = await connect(address)
            assert isinstance(chosen._transport, DirectTransport)
            named = await connect(address, routing="router")
            assert isinstance(named._transport, GrpcTransport)
            for client in (routed, straight, chosen, named):
                await client.close()

    run(main())


def test_a_routing_that_there_is_not_changes_nothing() -> None:
    async def main() -> None:
        async with serving(EchoBackend()) as (_, address):
            client = await connect(address)
            with pytest.raises(ConfigError, match="router or direct, not 'fast'"):
                await connect(address, routing="fast")
            assert runtime.current_client() is client
            await client.close()

    run(main())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_calls_sent_straight_to_their_node_are_finished_before_the_loop_ends(new_loop) -> None:
    node = EchoNode(owned=dict.fromkeys(range(PARTITIONS), 1))

    async def first(address: str) -> None:
        await connect(address, routing="direct")
        for _ in range(10):
            runtime.current_client().call(an_object_of(node), Kind.CALL, "add")

    async def main() -> None:
        async with serving(node) as (_, address):
            await asyncio.to_thread(run, first(address), new_loop)

    run(main())

    assert sum(1 for frames in node.received for frame in frames if frame.number) == 10


def test_connecting_to_nobody_ends_in_time_and_names_the_address() -> None:
    async def main() -> None:
        with pytest.raises(DeadlineExceeded, match=r"127\.0\.0\.1:1: UNAVAILABLE"):
            await connect("127.0.0.1:1", timeout=0.3)

    run(main())


PROGRAM = """
import asyncio, gc
from tests_tally import Tally

async def main():
    handle = await Tally.get_or_create("t")
    print(await handle.add())

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
asyncio.run(main())
"""


def test_a_loop_that_was_closed_without_an_end_does_not_keep_the_directory(tmp_path) -> None:
    (tmp_path / "tests_tally.py").write_text(
        "from perdure import DurableObject, durable\n"
        "@durable.object\n"
        "class Tally(DurableObject):\n"
        "    def __init__(self, id):\n"
        "        super().__init__(id)\n"
        "        self.count = 0\n"
        "    async def add(self):\n"
        "        self.count += 1\n"
        "        return self.count\n"
    )
    (tmp_path / "program.py").write_text(PROGRAM)

    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, check=False
    )

    assert done.stdout.split() == ["1", "2"], done.stderr
    assert done.returncode == 0
