"""When the next call is made: as soon as one has ended, or when it is due.

Invariants:
  * A closed loop has so many calls in flight, always, but for the moment after an error.
  * An open loop makes each call when it is due, or as soon as this process gets to it; its
    latency counts from when it was due. However far behind it is, answers are taken in between.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from perdure.bench.alarm import Alarm
from perdure.bench.launching import Launcher
from perdure.bench.meter import Meter
from perdure.bench.pace import Pace

__all__ = ["AFTER_ERROR_S", "OPEN_MAX", "ClosedLoop", "Load", "OpenLoop"]

AFTER_ERROR_S: Final = 0.05
"""Who gets an error waits, as `Overloaded` asks for: else a run would be nothing but refusals."""

OPEN_MAX: Final = 500_000
"""Calls of one process that are under way at once: half a GB. Beyond this they are not sent, and
fail. The client itself refuses what would wait too long."""

_AT_ONCE: Final = 500
"""Calls that are made before answers that have come are looked at: some 5 ms."""


class Load(Protocol):
    """Calls that are made until `stop`."""

    made: int
    """Calls so far; in an open loop those that were due."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Make no more calls."""

    async def landed_all(self, at_most_s: float) -> int:
        """Wait until every call has ended, and return how many have not."""
        ...


class _UnderWay:
    """Counts the calls that have not ended."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False
        self._idle = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        self.over = True
        if not self.count:
            self._idle.set_result(None)

    def ended(self) -> None:
        self.count -= 1
        if self.over and not self.count and not self._idle.done():
            self._idle.set_result(None)

    async def wait(self, at_most_s: float) -> int:
        await asyncio.wait([self._idle], timeout=at_most_s)
        return self.count


class ClosedLoop:
    """So many calls in flight."""

    def __init__(
        self,
        launcher: Launcher,
        in_flight: int,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        launcher.tell(self._landed)
        self.made = 0
        self._launch = launcher.launch
        self._in_flight = in_flight
        self._clock = clock
        self._under_way = _UnderWay()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin."""
        for _ in range(self._in_flight):
            self._under_way.count += 1
            self._next()

    def stop(self) -> None:
        """Make no more calls."""
        self._under_way.stop()

    async def landed_all(self, at_most_s: float) -> int:
        """Wait until every call has ended, and return how many have not."""
        return await self._under_way.wait(at_most_s)

    def _landed(self, now_ns: int, ok: bool) -> None:
        if self._under_way.over:
            self._under_way.ended()
        elif ok:
            self.made += 1
            self._launch(now_ns)
        else:
            self._loop.call_later(AFTER_ERROR_S, self._next)

    def _next(self) -> None:
        if self._under_way.over:
            self._under_way.ended()
        else:
            self.made += 1
            self._launch(self._clock())


class OpenLoop:
    """So many calls in a second."""

    def __init__(
        self,
        launcher: Launcher,
        pace: Pace,
        meter: Meter,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        launcher.tell(self._landed)
        self.made = 0
        self._launch = launcher.launch
        self._pace = pace
        self._meter = meter
        self._clock = clock
        self._under_way = _UnderWay()
        self._loop = asyncio.get_running_loop()
        self._late: deque[int] = deque()
        """When the calls were due that have not been made. They are under way already."""
        self._alarm: Alarm | None = None

    def start(self) -> None:
        """Begin."""
        self._alarm = Alarm(self.make_due)
        self._alarm.set(self._pace.next_ns)

    def stop(self) -> None:
        """Make no more calls than those that were due."""
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        self._under_way.stop()

    async def landed_all(self, at_most_s: float) -> int:
        """Wait until every call has ended, and return how many have not."""
        return await self._under_way.wait(at_most_s)

    def make_due(self) -> None:
        """Make the calls that have become due, or as many as may be made at once."""
        late, under_way = self._late, self._under_way
        if not under_way.over:
            due = self._pace.take(self._clock())
            self.made += len(due)
            for due_ns in due:
                if under_way.count < OPEN_MAX:
                    under_way.count += 1
                    late.append(due_ns)
                else:
                    text = f"{OPEN_MAX:,} calls of one process are under way: it sends no more"
                    self._meter.failed("NotSent", text)
        for _ in range(min(len(late), _AT_ONCE)):
            self._launch(late.popleft())
        if late:
            self._loop.call_soon(self.make_due)
        elif self._alarm is not None:
            self._alarm.set(self._pace.next_ns)

    def _landed(self, _now_ns: int, _ok: bool) -> None:
        self._under_way.ended()
