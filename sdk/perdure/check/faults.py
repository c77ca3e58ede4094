"""What is done to the processes of a check's own cluster, and how often it really hit.

The order and the times come from the seed. A fault counts when the process was there, it ended or
stopped by it, and calls were open at that moment.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Protocol

__all__ = ["FAULTS", "GAP_S", "FaultCount", "Faults"]

FAULTS: Final = {
    "kill9": "kill -9 of a node, now and then of the router or of all nodes at once",
    "pause": "a node is stopped, and goes on some seconds later",
    "restart": "a node is told to end, and is started again",
}

_SHARE: Final = {"kill9": 3, "pause": 1, "restart": 1}
GAP_S: Final = (1.0, 3.0)
_PAUSE_S: Final = (0.3, 3.0)
_ALL_AT_ONCE: Final = 0.1
_ROUTER: Final = 0.3
"""How often it is the router: then answers are lost of calls that have had their effect."""

_BACK_S: Final = 30.0
_LOOK_S: Final = 0.02


class Processes(Protocol):
    """Whoever knows the processes of a cluster."""

    def pids(self) -> dict[str, int]:
        """Return the process ids of the router and the nodes that run now, by name."""
        ...


@dataclass(slots=True)
class FaultCount:
    """How often a fault was tried on a process."""

    hit: int = 0
    missed: int = 0
    """There was no such process at that moment, or no call was open."""
    back_max_s: float = 0.0
    """The longest time until there was a process again, or until it went on."""


class Faults:
    """Does things to processes until it is told to stop."""

    def __init__(
        self,
        processes: Processes,
        kinds: tuple[str, ...],
        seed: int,
        open_calls: Callable[[], int],
        *,
        gap_s: tuple[float, float] = GAP_S,
    ) -> None:
        """Prepare; `run` begins.

        Args:
            processes: Of the cluster.
            kinds: Of `FAULTS`.
            seed: Of order, times and victims.
            open_calls: How many calls have no answer now.
            gap_s: The shortest and the longest time between a fault and the next one.
        """
        self.counts = {kind: FaultCount() for kind in kinds}
        self._processes = processes
        self._chance = Random(f"{seed}/faults")
        self._open_calls = open_calls
        self._gap_s = gap_s
        # Each once at first: a short run has to show all of them.
        self._bag = self._chance.sample(kinds, len(kinds))

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until `stop` is set. When this returns, whatever was stopped goes on."""
        while not await _is_set_within(stop, self._chance.uniform(*self._gap_s)):
            kind = self._draw()
            victims = self._victims(kind)
            if not victims:
                self.counts[kind].missed += 1
            elif kind == "pause":
                await self._pause(*victims[0], stop)
            else:
                number = signal.SIGKILL if kind == "kill9" else signal.SIGTERM
                await asyncio.gather(*(self._end(kind, number, name, pid) for name, pid in victims))

    def _victims(self, kind: str) -> list[tuple[str, int]]:
        pids = self._processes.pids()
        nodes = sorted((name, pid) for name, pid in pids.items() if name != "router")
        if kind == "kill9":
            drawn = self._chance.random()
            if drawn < _ALL_AT_ONCE:
                return nodes
            if drawn < _ALL_AT_ONCE + _ROUTER and "router" in pids:
                return [("router", pids["router"])]
        return [self._chance.choice(nodes)] if nodes else []

    def _draw(self) -> str:
        """Draw a fault out of a bag, so that each comes in its share."""
        if not self._bag:
            self._bag = [kind for kind in self.counts for _ in range(_SHARE[kind])]
            self._chance.shuffle(self._bag)
        return self._bag.pop()

    async def _end(self, kind: str, number: signal.Signals, name: str, pid: int) -> None:
        count, loop = self.counts[kind], asyncio.get_running_loop()
        began_s = loop.time()
        was_busy = self._open_calls() > 0
        if not _send_signal(pid, number):
            count.missed += 1
            return
        ended = False
        while loop.time() < began_s + _BACK_S:
            now = self._processes.pids().get(name)
            ended |= now != pid
            if now is not None and now != pid:
                break
            await asyncio.sleep(_LOOK_S)
        if ended and was_busy:
            count.hit += 1
        else:
            count.missed += 1
        count.back_max_s = max(count.back_max_s, loop.time() - began_s)

    async def _pause(self, name: str, pid: int, stop: asyncio.Event) -> None:
        count, loop = self.counts["pause"], asyncio.get_running_loop()
        began_s = loop.time()
        was_busy = self._open_calls() > 0
        if not _send_signal(pid, signal.SIGSTOP):
            count.missed += 1
            return
        try:
            await _is_set_within(stop, self._chance.uniform(*_PAUSE_S))
            stopped = _state(pid) == "T" and self._processes.pids().get(name) == pid
        finally:
            _send_signal(pid, signal.SIGCONT)
        if stopped and was_busy:
            count.hit += 1
        else:
            count.missed += 1
        count.back_max_s = max(count.back_max_s, loop.time() - began_s)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _send_signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _state(pid: int) -> str:
    """Return the letter by which the kernel says what a process does; empty when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[0]
