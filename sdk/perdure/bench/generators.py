"""The processes of one run that call: started, begun at once, and listened to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from perdure.bench.jobs import Job, Part, read_part
from perdure.cli.failure import CommandFailed

__all__ = ["Generators", "generators"]

_LINE_BYTES_MAX: Final = 256 << 20
"""The last line holds all histograms of a run."""

_BEGIN_S: Final = 0.1
"""The load begins so long after all have been told when."""

_END_S: Final = 15.0

OnCalls = Callable[[int, float], None]
"""Told that so many calls have ended in so many seconds, in one of the processes."""


class Generators:
    """Running processes, ready to begin."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes

    def pids(self) -> dict[str, int]:
        """Return their process ids, by name."""
        if len(self._processes) == 1:
            return {"caller": self._processes[0].pid}
        return {f"caller {number}": it.pid for number, it in enumerate(self._processes, 1)}

    async def ready(self) -> None:
        """Wait until all could begin.

        Raises:
            CommandFailed: One cannot.
        """
        for process in self._processes:
            await _hear(process, "ready")

    def begin(self) -> int:
        """Tell all to begin, and return when they do, in `time.monotonic_ns`."""
        start_ns = time.monotonic_ns() + round(_BEGIN_S * 1e9)
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"start_ns": start_ns}).encode() + b"\n")
        return start_ns

    async def done(self, on_calls: OnCalls) -> list[Part]:
        """Wait until all have made their calls, and return what came of them.

        Raises:
            CommandFailed: One has failed.
        """
        return await asyncio.gather(*(self._done(process, on_calls) for process in self._processes))

    async def _done(self, process: Process, on_calls: OnCalls) -> Part:
        while True:
            content = await _hear(process, "calls", "done")
            if content["say"] == "done":
                return read_part(content)
            on_calls(content["ok"], content["seconds"])


@asynccontextmanager
async def generators(
    jobs: Sequence[Job], environment: Mapping[str, str], say: Callable[[str], None]
) -> AsyncIterator[Generators]:
    """Start a process for each job, and end them afterwards.

    Args:
        jobs: What they are to do.
        environment: Of the processes.
        say: Takes lines that they print.
    """
    processes: list[Process] = []
    listeners: list[asyncio.Task[None]] = []
    try:
        for job in jobs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "perdure.bench.generator",
                str(os.getpid()),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=environment,
                limit=_LINE_BYTES_MAX,
            )
            processes.append(process)
            assert process.stdin is not None
            process.stdin.write(job.to_json().encode() + b"\n")
            listeners.append(asyncio.create_task(_listen(process, job.number, say)))
        yield Generators(processes)
        for process in processes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    await process.wait()
    finally:
        for process in processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
        for listener in listeners:
            await listener


async def _listen(process: Process, number: int, say: Callable[[str], None]) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        say(f"caller {number + 1} | {line.decode(errors='replace').rstrip()}")


async def _hear(process: Process, *expected: str) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        status = await process.wait()
        raise CommandFailed(f"a process that calls has ended with status {status}")
    content: dict[str, Any] = json.loads(line)
    if content["say"] == "failed":
        raise CommandFailed(content["text"])
    assert content["say"] in expected, content
    return content
