"""A sliding window over a sensor's readings, with alerts.

    python examples/stream_window.py

Every answered reading is kept, `save()` or not: what a method changed is committed when it
returns. The readings are sent without waiting for one another and arrive in order.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from datetime import UTC, datetime, timedelta

from perdure import DurableObject, durable


@durable.object
class StreamWindow(DurableObject):
    def __init__(self, stream_id: str, size: int = 50) -> None:
        super().__init__(stream_id)
        self.window: deque[float] = deque(maxlen=size)
        self.seen = 0
        self.by_minute: dict[datetime, tuple[int, float]] = {}
        self.alerts: list[tuple[datetime, float]] = []

    async def add(self, value: float, at: datetime) -> bool:
        """Take one reading. Tell whether it was unusual."""
        unusual = self._is_unusual(value)
        self.window.append(value)
        self.seen += 1
        minute = at.replace(second=0, microsecond=0)
        count, total = self.by_minute.get(minute, (0, 0.0))
        self.by_minute[minute] = (count + 1, total + value)
        if unusual:
            self.alerts.append((at, value))
            del self.alerts[:-100]
        return unusual

    def average(self) -> float:
        return sum(self.window) / len(self.window) if self.window else 0.0

    @durable.shared
    async def busiest_minutes(self, count: int = 3) -> list[tuple[datetime, int, float]]:
        rows = [(minute, n, total / n) for minute, (n, total) in self.by_minute.items()]
        return sorted(rows, key=lambda row: row[1], reverse=True)[:count]

    def _is_unusual(self, value: float) -> bool:
        if len(self.window) < 10:
            return False
        mean = self.average()
        spread = math.sqrt(sum((x - mean) ** 2 for x in self.window) / len(self.window))
        return abs(value - mean) > 4 * spread


async def main() -> None:
    stream = await StreamWindow.get_or_create("boiler_7")
    chance = random.Random(stream.seen)
    now = datetime.now(UTC)

    readings = [chance.gauss(70, 2) for _ in range(200)]
    readings[150] = 120.0
    sent = [stream.add(x, now + timedelta(seconds=i)) for i, x in enumerate(readings)]
    unusual = sum(await asyncio.gather(*sent))

    print(f"{unusual} of {len(sent)} readings were unusual; {stream.seen} seen in all")
    print(f"average of the last {len(stream.window)}: {await durable.call(stream.average):.1f}")
    for minute, count, mean in await stream.busiest_minutes():
        print(f"{minute:%H:%M}  {count:4} readings, {mean:.1f} on average")


if __name__ == "__main__":
    asyncio.run(main())
