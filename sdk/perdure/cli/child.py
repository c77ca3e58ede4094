"""One child process kept alive: started, listened to, started again, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from perdure.cli.failure import CommandFailed
from perdure.config import RESTART_WAIT_MAX_S
from perdure.process import EXIT_CONFIG, EXIT_HELD

__all__ = ["Child", "Program"]

_BACK_OFF_FIRST_S: Final = 0.1

_LIVED_LONG_S: Final = 10.0
"""After so long a death is no fault of the start: the back-off begins anew."""

_FIRST_STARTS_MAX: Final = 3
"""A program that crashes so often before all is served will never serve."""

_FIRST_STARTS_HELD_MAX: Final = 6
"""The same for one that waits for what somebody else holds, who may be about to end: 3 s."""

_LINE_BYTES_MAX: Final = 64 * 1024

_LAST_OUTPUT_S: Final = 1.0
"""Output is read on for so long after the end: somebody else may have inherited the pipe."""

_LAST_LOOKS: Final = 5
"""In so many parts. When this process has not run for that long, each still reads what is there."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to keep alive."""

    name: str
    """As `process.run_server` is told, so that its refusals are known: `node n1`."""

    command: Sequence[str]
    environment: Mapping[str, str]
    drain_s: float
    """How long it may take to end politely; then it is killed."""

    restart_wait_max_s: float = RESTART_WAIT_MAX_S
    """The longest wait before it is started again. The first is short, each next one doubled."""


class Child:
    """A program's process, and the next one after it has ended."""

    def __init__(self, program: Program, print_line: Callable[[str, str], None]) -> None:
        """Prepare; `keep_alive` starts it.

        Args:
            program: What to run.
            print_line: Takes the program's name, and a line that it has printed or that says
                what has become of it.
        """
        self.program = program
        self.has_served = False
        """Set once it is known to work. Until then, a start that fails is given up in time."""
        self.was_killed = False
        """True when it did not end in its time and had to be killed."""
        self._print = print_line
        self._process: Process | None = None
        self._ending = asyncio.Event()
        self._refusal = ""

    @property
    def pid(self) -> int | None:
        """The id of the process that runs now; None when none does."""
        return None if self._process is None else self._process.pid

    async def keep_alive(self) -> None:
        """Run the program, again and again, until `end` is called.

        Raises:
            CommandFailed: It does not work, and has never done. The text is its own refusal,
                if it had one.
        """
        starts, longest_s = 0, self.program.restart_wait_max_s
        back_off_s = first_s = min(_BACK_OFF_FIRST_S, longest_s)
        while not self._ending.is_set():
            started_s = time.monotonic()
            status = await self._run_once()
            if self._ending.is_set():
                return
            starts += 1
            how = _how_it_ended(status)
            if not self.has_served and starts >= _starts_max(status):
                raise CommandFailed(self._refusal or f"{self.program.name} {how}")
            if self._refusal:
                self._print(self.program.name, self._refusal)
            self._print(self.program.name, f"{how}; starts again")
            if time.monotonic() - started_s > _LIVED_LONG_S:
                back_off_s = first_s
            await self._pause(back_off_s)
            back_off_s = min(2 * back_off_s, longest_s)

    async def end(self) -> None:
        """End the program politely, or by force when its time is over; never start it again."""
        self._ending.set()
        if self._process is None:
            return
        _signal(self._process, signal.SIGTERM)
        try:
            async with asyncio.timeout(self.program.drain_s):
                await self._process.wait()
        except TimeoutError:
            self.was_killed = True
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End the program at once; never start it again."""
        self._ending.set()
        if self._process is not None:
            _signal(self._process, signal.SIGKILL)

    async def _run_once(self) -> int:
        self._refusal = ""
        read_end, write_end = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.program.command,
                "--parent-pid",
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env=self.program.environment,
            )
        finally:
            os.close(write_end)
        # `end` or `kill` may have come while the process was being made, and missed it.
        if self._ending.is_set():
            _signal(self._process, signal.SIGTERM)
        output = asyncio.create_task(self._forward(read_end))
        status = await self._process.wait()
        self._process = None
        for _ in range(_LAST_LOOKS):
            await asyncio.wait([output], timeout=_LAST_OUTPUT_S / _LAST_LOOKS)
        output.cancel()
        return status

    async def _forward(self, read_end: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        try:
            rest = b""
            while chunk := await reader.read(_LINE_BYTES_MAX):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take_line(line)
                if len(rest) > _LINE_BYTES_MAX:
                    self._take_line(rest)
                    rest = b""
            if rest:
                self._take_line(rest)
        finally:
            transport.close()

    def _take_line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        refusal = f"perdure {self.program.name}: "
        if text.startswith(refusal):
            # Kept back: all nodes may have the same one, and it is said once at the end.
            self._refusal = text.removeprefix(refusal)
        else:
            self._print(self.program.name, text)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    # It may have ended this moment, and the loop not know it yet.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def _starts_max(status: int) -> int:
    starts = {EXIT_CONFIG: 1, EXIT_HELD: _FIRST_STARTS_HELD_MAX}
    return starts.get(status, _FIRST_STARTS_MAX)


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
