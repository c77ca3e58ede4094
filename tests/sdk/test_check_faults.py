"""A fault counts when it hit a process while calls were open."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from perdure.check.faults import FaultCount, Faults

_WAITS = [sys.executable, "-c", "import sys; sys.stdin.read()"]


class Kept:
    """A process that is started again as soon as somebody looks and it has ended."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self._process = self._start()

    def pids(self) -> dict[str, int]:
        status = self._process.poll()
        if status is not None:
            self.statuses.append(status)
            self.close()
            self._process = self._start()
        return {"node n1": self._process.pid}

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(_WAITS, stdin=subprocess.PIPE)


@pytest.fixture
def kept() -> Iterator[Kept]:
    process = Kept()
    yield process
    process.close()


def count_after_one_fault(kind: str, kept: Kept, open_calls: int) -> FaultCount:
    async def run() -> FaultCount:
        stop = asyncio.Event()
        faults = Faults(kept, (kind,), 1, lambda: open_calls, gap_s=(0.0, 0.0))
        running = asyncio.create_task(faults.run(stop))
        count = faults.counts[kind]
        while not (count.hit or count.missed):
            await asyncio.sleep(0)
        stop.set()
        await running
        return count

    return asyncio.run(run())


def test_a_process_that_is_killed_while_calls_are_open_is_hit(kept: Kept) -> None:
    assert count_after_one_fault("kill9", kept, 5).hit == 1
    assert kept.statuses == [-signal.SIGKILL]


def test_a_kill_that_nobody_could_notice_does_not_count(kept: Kept) -> None:
    count = count_after_one_fault("kill9", kept, 0)

    assert (count.hit, count.missed) == (0, 1)


def test_a_process_that_is_told_to_end_is_hit_when_it_is_another_one(kept: Kept) -> None:
    assert count_after_one_fault("restart", kept, 5).hit == 1
    assert kept.statuses == [-signal.SIGTERM]


def test_a_process_that_is_stopped_goes_on_afterwards(kept: Kept) -> None:
    before = kept.pids()

    assert count_after_one_fault("pause", kept, 5).hit >= 1

    assert kept.pids() == before
    assert kept.statuses == []
