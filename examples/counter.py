"""A counter that never forgets. Run it twice: it prints 5, then 10.

    python examples/counter.py

The same file counts on a cluster when `PERDURE_ADDRESS` names one.
"""

from __future__ import annotations

import asyncio

from perdure import DurableObject, durable


@durable.object
class Counter(DurableObject):
    def __init__(self, counter_id: str) -> None:
        super().__init__(counter_id)
        self.value = 0

    async def increment(self, amount: int = 1) -> int:
        self.value += amount
        await self.save()
        return self.value


async def main() -> None:
    counter = await Counter.get_or_create("my_counter")
    print(await counter.increment(5))


if __name__ == "__main__":
    asyncio.run(main())
