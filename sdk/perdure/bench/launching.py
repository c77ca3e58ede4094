"""How one call is sent, and counted when its answer comes: by the fewest steps that it takes.

Built-in scenarios are sent by the client that handles use, without handles: the process that calls
shares its cores with the one that is called. What the user has written runs as it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache
from random import Random
from typing import Final, Protocol

from perdure.answers import Answer, error_of
from perdure.bench.meter import Meter
from perdure.bench.scenarios import Draw, Shot
from perdure.client import Client
from perdure.errors import Code
from perdure.frames import Reply

__all__ = ["Landed", "Launcher", "OwnLauncher", "ShotLauncher"]

_OK: Final = int(Code.OK)

Landed = Callable[[int, bool], None]
"""Told when a call has ended: the time, and whether it succeeded."""


def _nobody(_now_ns: int, _ok: bool) -> None:
    """Nobody has said that he wants to know."""


class Launcher(Protocol):
    """Sends calls."""

    def tell(self, landed: Landed) -> None:
        """Say who is told when calls end. Done once, before the first call."""

    def launch(self, due_ns: int) -> None:
        """Send the next call; its latency counts from `due_ns`."""

    def give_up(self) -> None:
        """Wait for no answer any more."""


class ShotLauncher:
    """Sends the calls of a built-in scenario."""

    def __init__(self, client: Client, draw: Draw, timeout_s: float, meter: Meter) -> None:
        self.meter = meter
        self.landed: Landed = _nobody
        self._client = client
        self._draw = draw
        self._timeout_s = timeout_s
        # Callbacks get a copy of the context each, unless they are given one.
        self._context = contextvars.copy_context()

    def tell(self, landed: Landed) -> None:
        """Say who is told when calls end."""
        self.landed = landed

    def launch(self, due_ns: int) -> None:
        """Send the next call."""
        shot = self._draw()
        future = self._client.call(
            shot.target,
            shot.kind,
            shot.method,
            arguments=shot.arguments,
            timeout_s=self._timeout_s,
            have=shot.have,
        )
        future.add_done_callback(_Flight(self, shot, due_ns), context=self._context)

    def give_up(self) -> None:
        """Wait for no answer any more: the client's end tells of them."""


class _Flight:
    """One call that has no answer yet."""

    __slots__ = ("_due_ns", "_launcher", "_shot")

    def __init__(self, launcher: ShotLauncher, shot: Shot, due_ns: int) -> None:
        self._launcher = launcher
        self._shot = shot
        self._due_ns = due_ns

    def __call__(self, future: asyncio.Future[Answer]) -> None:
        now_ns = time.monotonic_ns()
        launcher = self._launcher
        error = future.exception()
        if error is None:
            answer = future.result()
            if answer.code == _OK:
                launcher.meter.succeeded(now_ns - self._due_ns)
                version = answer.reply.version
                if version is not None:
                    self._shot.have = (version[0], version[1])
                launcher.landed(now_ns, True)
                return
            launcher.meter.failed(*_told(answer.code, answer.reply.payload))
        else:
            launcher.meter.failed(type(error).__name__, str(error))
        launcher.landed(now_ns, False)


@lru_cache(maxsize=16)
def _told(code: int, payload: bytes) -> tuple[str, str]:
    """Return the class and the text of an error. Who refuses many calls says the same to all."""
    error = error_of(Answer(code, Reply(payload, None, None)))
    return type(error).__name__, str(error)


class OwnLauncher:
    """Runs a function of the user's."""

    def __init__(
        self,
        function: Callable[[int, Random], Awaitable[object]],
        numbers: Iterator[int],
        chance: Random,
        timeout_s: float,
        meter: Meter,
    ) -> None:
        self._meter = meter
        self._landed: Landed = _nobody
        self._function = function
        self._numbers = numbers
        self._chance = chance
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, landed: Landed) -> None:
        """Say who is told when calls end."""
        self._landed = landed

    def launch(self, due_ns: int) -> None:
        """Begin the next operation."""
        task = asyncio.create_task(self._run(next(self._numbers), due_ns))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def give_up(self) -> None:
        """Cancel what still runs."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, number: int, due_ns: int) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._function(number, self._chance)
        except Exception as error:
            text = str(error) or f"(without a text; --timeout is {self._timeout_s:g} s)"
            self._meter.failed(type(error).__name__, text)
            self._landed(time.monotonic_ns(), False)
        else:
            now_ns = time.monotonic_ns()
            self._meter.succeeded(now_ns - due_ns)
            self._landed(now_ns, True)
