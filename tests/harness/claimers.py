"""A process that starts a run for each token it is told, which claims that token.

Run as `python claimers.py ADDRESS NUMBER`. A line of input is a token; a line of output is JSON:
the token, the run of this process, and the run that has the token (none: this one has had it).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

HARNESS = Path(__file__).parents[1]


class Told(NamedTuple):
    """What one process says of one token."""

    token: str
    run: str
    owner: str | None


class Claimers:
    """Many such processes, seen from the one that has started them."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self.processes = processes
        self._told: dict[str, asyncio.Queue[Told]] = {}
        self._readers = [asyncio.create_task(self._read(one)) for one in processes]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            told = Told(**json.loads(line))
            self._told[told.token].put_nowait(told)

    def claim(self, token: str) -> asyncio.Queue[Told]:
        """Let all of them claim a token. Returns where it is said what comes of it."""
        self._told[token] = asyncio.Queue()
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{token}\n".encode())
        return self._told[token]

    async def next_of(self, told: asyncio.Queue[Told]) -> Told:
        """Return what one of them says next; a process that has ended says nothing."""
        saying = asyncio.ensure_future(told.get())
        await asyncio.wait([saying, *self._readers], return_when=asyncio.FIRST_COMPLETED)
        if saying.done():
            return saying.result()
        saying.cancel()
        raise AssertionError("a process that claims tokens has ended")

    async def end(self) -> None:
        """Let them end, once they have said all."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        assert await asyncio.gather(*(one.wait() for one in self.processes)) == [
            0 for _ in self.processes
        ]
        await asyncio.gather(*self._readers)


@asynccontextmanager
async def running_claimers(address: str, count: int) -> AsyncIterator[Claimers]:
    """Start so many processes that claim, and end them."""
    environment = {**os.environ, "PERDURE_ADDRESS": address}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, __file__, address, str(number),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
        )
        for number in range(count)
    ]  # fmt: skip
    try:
        claimers = Claimers(processes)
        yield claimers
        await claimers.end()
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def claim_what_is_told(address: str, number: int) -> None:
    from harness.flow_storm import storm_claims

    import perdure
    from perdure.runtime import current_client

    await perdure.connect(address)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def claim(token: str) -> None:
        id = f"{token}-{number}"
        run = await perdure.start(storm_claims, token, id=id, timeout=None)
        owner: Any = await run.result()
        sys.stdout.write(json.dumps(Told(token, id, owner)._asdict()) + "\n")
        sys.stdout.flush()

    async with asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(claim(line.decode().strip()))
    await current_client().close()


if __name__ == "__main__":
    sys.path.insert(0, str(HARNESS))
    asyncio.run(claim_what_is_told(sys.argv[1], int(sys.argv[2])))
