"""Calls from code without an event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

import perdure.sync


async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def loop_and_thread() -> tuple[int, str]:
    return id(asyncio.get_running_loop()), threading.current_thread().name


def test_run_returns_what_the_function_returns() -> None:
    assert perdure.sync.run(doubled, 21) == 42


def test_run_takes_named_arguments() -> None:
    assert perdure.sync.run(doubled, number=21) == 42


def test_run_raises_what_the_function_raises() -> None:
    async def fails() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        perdure.sync.run(fails)


def test_one_loop_in_a_thread_of_its_own_serves_every_thread() -> None:
    seen = {perdure.sync.run(loop_and_thread)}
    thread = threading.Thread(target=lambda: seen.add(perdure.sync.run(loop_and_thread)))
    thread.start()
    thread.join()

    ((_, name),) = seen
    assert name == "perdure.sync"


def test_a_function_is_called_on_the_loop_because_handles_send_when_they_are_called() -> None:
    def send() -> asyncio.Future[str]:
        future = asyncio.get_running_loop().create_future()
        future.set_result("sent")
        return future

    assert perdure.sync.run(send) == "sent"


def test_where_a_loop_runs_already_run_says_to_await() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="await"):
            perdure.sync.run(doubled, 1)

    asyncio.run(main())


PROGRAM = """
import perdure.sync
from perdure import DurableObject, durable

@durable.object
class Tally(DurableObject):
    def __init__(self, id):
        super().__init__(id)
        self.count = 0
    async def add(self):
        self.count += 1
        return self.count

def forget(handle):
    async def send():
        handle.add()
    return send

handle = perdure.sync.run(Tally.get_or_create, "t")
print(handle.count, perdure.sync.run(handle.add))
perdure.sync.run(forget(handle))
"""


def test_the_end_of_the_process_finishes_the_calls_and_closes_the_node(tmp_path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-X", "dev", str(tmp_path / "program.py")]

    runs = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]

    assert [run.stdout.split() for run in runs] == [["0", "1"], ["2", "3"]]
    assert [run.returncode for run in runs] == [0, 0]
    assert not [run.stderr for run in runs if "Traceback" in run.stderr or "never" in run.stderr]
