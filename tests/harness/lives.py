"""One node that dies many times: each life is forked from a process that has imported all.

So a life begins in a fraction of a second, and is otherwise a node process as any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.processes import READY_S, free_port

NURSERY = Path(__file__).with_name("nursery.py")
ROOT = Path(__file__).parents[2]


class Lives:
    """The lives of one node, as a test sees them."""

    def __init__(
        self, app: Path, folder: Path, services: Mapping[str, str], *, from_sources: bool = False
    ) -> None:
        """Prepare.

        Args:
            app: What the node runs.
            folder: For its data.
            services: URLs of HTTP services, by name.
            from_sources: Nothing of the node is compiled, whatever the tests run with.
        """
        self._log = folder / "node.log"
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.said = folder / "said"
        """What `nursery.say` has said in the lives so far."""
        plan = {
            "app": str(app), "data": str(folder / "data"), "port": self.port,
            "services": dict(services), "said": str(self.said),
        }  # fmt: skip
        self.said.touch()
        log = self._log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, str(NURSERY), json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_with_sources() if from_sources else None,
        )
        log.close()
        assert self._read() == "ready", self.output()
        self._pid = 0

    def begin(self, arm: str = "", *words: Any) -> None:
        """Begin a life.

        Args:
            arm: `module.function`, called with `words` before the node is made.
            words: JSON values.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([arm, *words]) + "\n")
        self._process.stdin.flush()
        self._pid = int(self._read())

    def kill(self) -> None:
        """End the life with kill -9. `ended` is still to be called."""
        with contextlib.suppress(ProcessLookupError):  # It may have ended by itself.
            os.kill(self._pid, signal.SIGKILL)

    def ended(self) -> int:
        """Wait for the end of the life, and return its exit status; -9 for kill -9."""
        status = int(self._read())
        self._pid = 0
        return status

    async def end_of(self, arm: str = "", *words: Any, longest_s: float = READY_S) -> None:
        """Begin a life and wait until it has killed itself."""
        self.begin(arm, *words)
        await self.death(f"{arm} {words}", longest_s=longest_s)

    async def death(self, what: str, *, longest_s: float = READY_S) -> None:
        """Wait until the life has killed itself."""
        end = asyncio.create_task(asyncio.to_thread(self.ended))
        done, _ = await asyncio.wait([end], timeout=longest_s)
        if not done:
            self.kill()
            await end
            raise AssertionError(f"did not die of {what}:\n{self.output()}")
        assert end.result() == -signal.SIGKILL, f"{what}: {end.result()}\n{self.output()}"

    def output(self) -> str:
        """Return the end of what the lives have printed."""
        return self._log.read_text(errors="replace")[-8_000:]

    def close(self) -> None:
        """End whatever still runs."""
        if self._pid:
            self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"no lives any more:\n{self.output()}"
        return line.strip()


@contextmanager
def lives_of(
    app: Path, folder: Path, services: Mapping[str, str], *, from_sources: bool = False
) -> Iterator[Lives]:
    """Give a node's lives, and end the last one afterwards."""
    lives = Lives(app, folder, services, from_sources=from_sources)
    try:
        yield lives
    finally:
        lives.close()


def _with_sources() -> dict[str, str]:
    """Return the environment of a Python that imports the sources of this tree."""
    folders = [str(ROOT / package) for package in ("sdk", "node", "router")]
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*folders, before]))}
