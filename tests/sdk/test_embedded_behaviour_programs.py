"""One file, run in every way that a program can be run: embedded, as a client, blocking."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness.world import Served

import perdure
from perdure import ConfigError, DurableObject, StorageHeld, durable, sync

COUNTER = """
import asyncio
from perdure import durable, DurableObject

@durable.object
class Counter(DurableObject):
    def __init__(self, counter_id: str):
        super().__init__(counter_id)
        self.value = 0

    async def increment(self, amount: int = 1) -> dict:
        self.value += amount
        await self.save()
        return {"value": self.value}
"""

MAIN = """
async def main():
    counter = await Counter.get_or_create("my_counter")
    print(await counter.increment(5), flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


@durable.object
class Tick(DurableObject):
    def __init__(self, tick_id: str) -> None:
        super().__init__(tick_id)
        self.count = 0

    async def add(self) -> int:
        self.count += 1
        return self.count

    async def slowly(self) -> int:
        for _ in range(20):
            await asyncio.sleep(0)
        self.count += 100
        return self.count


MODULE_LEVEL = durable.ref(Tick, "module level")


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PERDURE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("PERDURE_ADDRESS", raising=False)
    return tmp_path / "data"


def run_file(tmp_path: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "program.py"
    file.write_text(source)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    return subprocess.run(
        [sys.executable, str(file)],
        cwd=tmp_path,
        env=env | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_program_run_twice_shows_the_state_kept(tmp_path):
    first = run_file(tmp_path, COUNTER + MAIN)
    second = run_file(tmp_path, COUNTER + MAIN)

    assert (first.stdout, second.stdout) == ("{'value': 5}\n", "{'value': 10}\n")
    assert (first.stderr, second.stderr) == ("", "")
    assert (tmp_path / ".perdure" / "node.json").is_file()


def test_perdure_data_says_where_the_data_is(tmp_path):
    done = run_file(tmp_path, COUNTER + MAIN, PERDURE_DATA=str(tmp_path / "elsewhere"))

    assert done.stdout == "{'value': 5}\n"
    assert (tmp_path / "elsewhere" / "node.json").is_file()
    assert not (tmp_path / ".perdure").exists()


def test_what_was_answered_survives_kill_9(tmp_path):
    killed = """
async def main():
    counter = await Counter.get_or_create("my_counter")
    for _ in range(3):
        print(await counter.increment(5), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    first = run_file(tmp_path, "import os, signal" + COUNTER + killed)
    second = run_file(tmp_path, COUNTER + MAIN)

    assert first.returncode == -9
    assert first.stdout.splitlines()[-1] == "{'value': 15}"
    assert second.stdout == "{'value': 20}\n"


def test_the_same_file_is_a_client_when_perdure_address_is_set(tmp_path):
    world = Served(tmp_path / "served")

    async def main():
        address = os.environ["PERDURE_ADDRESS"]
        tick = await Tick.get_or_create("t")
        await tick.add()
        program = COUNTER.replace("class Counter", "class Tick") + (
            "async def main():\n"
            "    print((await Tick.get_or_create('t')).count)\n"
            "asyncio.run(main())\n"
        )
        done = await asyncio.to_thread(run_file, tmp_path, program, PERDURE_ADDRESS=address)
        assert (done.stdout, done.stderr) == ("1\n", "")

    world.run(main)
    assert not (tmp_path / ".perdure").exists()


def test_a_second_process_on_the_same_data_is_told_who_holds_it(tmp_path, data):
    async def main():
        await Tick.get_or_create("t")
        return await asyncio.to_thread(run_file, tmp_path, COUNTER + MAIN, PERDURE_DATA=str(data))

    done = asyncio.run(main())

    assert done.returncode != 0
    assert "StorageHeld" in done.stderr
    assert str(os.getpid()) in done.stderr


def test_data_of_a_cluster_is_no_data_of_an_embedded_node(tmp_path, monkeypatch):
    async def create():
        await Tick.get_or_create("t")

    Served(tmp_path / "served").run(create)
    monkeypatch.setenv("PERDURE_DATA", str(tmp_path / "served"))

    with pytest.raises((ConfigError, StorageHeld)):
        asyncio.run(create())


def test_handles_belong_to_no_loop_and_work_in_two_asyncio_runs():
    async def create():
        await Tick.get_or_create("module level")
        return await MODULE_LEVEL.add()

    async def use():
        return await MODULE_LEVEL.add()

    assert asyncio.run(create()) == 1
    assert asyncio.run(use()) == 2
    assert asyncio.run(use()) == 3
    assert MODULE_LEVEL.count == 3


def test_the_end_of_a_loop_is_no_crash_calls_made_are_sent_and_methods_not_cancelled():
    async def leave():
        tick = await Tick.get_or_create("t")
        for _ in range(5):
            tick.slowly()

    async def read():
        return (await Tick.get_or_create("t")).count

    asyncio.run(leave())

    assert asyncio.run(read()) == 500


def test_a_second_running_loop_uses_the_first_one_s_node():
    async def other():
        tick = await Tick.get_or_create("t")
        return [await tick.add() for _ in range(5)]

    async def main():
        tick = await Tick.get_or_create("t")
        await tick.add()
        there = asyncio.create_task(asyncio.to_thread(asyncio.run, other()))
        here = [await tick.add() for _ in range(5)]
        counts = here + await there
        assert sorted(counts) == list(range(2, 12))
        assert await tick.add() == 12

    asyncio.run(main())


def test_sync_run_calls_from_code_without_a_loop(tmp_path):
    program = """
from perdure import sync
counter = sync.run(Counter.get_or_create, "my_counter")
print(sync.run(counter.increment, 5), counter.value)
print(sync.run(counter.increment, amount=2), counter.value)

async def both():
    return await asyncio.gather(counter.increment(), counter.increment())

print(sync.run(both))
try:
    sync.run(counter.increment, "x")
except TypeError as error:
    print("TypeError")
"""
    done = run_file(tmp_path, COUNTER + program)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "{'value': 5} 5",
        "{'value': 7} 7",
        "[{'value': 8}, {'value': 9}]",
        "TypeError",
    ]


def test_a_call_where_no_loop_runs_names_sync_run():
    with pytest.raises(RuntimeError, match=r"perdure\.sync\.run"):
        MODULE_LEVEL.add()


def test_sync_run_inside_of_a_loop_is_a_runtime_error():
    async def main():
        with pytest.raises(RuntimeError, match="await"):
            sync.run(MODULE_LEVEL.add)

    asyncio.run(main())


def test_top_level_await_works_where_one_loop_runs_cell_after_cell():
    with asyncio.Runner() as cells:

        async def first():
            return await Tick.get_or_create("t")

        async def second(tick):
            return await tick.add()

        tick = cells.run(first())
        assert cells.run(second(tick)) == 1
        assert cells.run(second(tick)) == 2


def test_connect_makes_this_process_a_client(tmp_path):
    program = COUNTER.replace("class Counter", "class Tick") + (
        "import perdure\n"
        "async def main():\n"
        "    await perdure.connect(ADDRESS)\n"
        "    print(await durable.exists(Tick, 'x'))\n"
        "asyncio.run(main())\n"
    )
    world = Served(tmp_path / "served")

    async def main():
        address = os.environ["PERDURE_ADDRESS"]
        source = f"ADDRESS = {address!r}\n{program}"
        done = await asyncio.to_thread(run_file, tmp_path, source)
        assert (done.stdout, done.stderr) == ("False\n", "")

    world.run(main)
    assert not (tmp_path / ".perdure").exists()


def test_connect_to_nobody_says_so_in_time(tmp_path):
    program = """
import asyncio, perdure

async def main():
    try:
        await perdure.connect("127.0.0.1:9", timeout=0.3)
    except perdure.DeadlineExceeded as error:
        print("127.0.0.1:9" in str(error))

asyncio.run(main())
"""
    done = run_file(tmp_path, program)

    assert (done.stdout, done.stderr) == ("True\n", "")


def test_threads_that_start_at_once_share_one_node():
    async def create(name):
        return await (await Tick.get_or_create(name)).add()

    results: dict[int, int] = {}

    def run(number):
        results[number] = asyncio.run(create(f"t{number}"))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == dict.fromkeys(range(4), 1)


def test_import_perdure_is_the_whole_api():
    for name in ("durable", "DurableObject", "DurableContext", "ctx", "connect", "sync"):
        assert hasattr(perdure, name)
