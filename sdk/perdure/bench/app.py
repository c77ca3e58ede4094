"""What `perdure bench` calls: the classes that the nodes of a measured cluster have to know.

`perdure up perdure.bench.app` runs a cluster with nothing else; an app of yours has them too once
it imports this module.
"""

from __future__ import annotations

from typing import Final

from perdure import DurableContext, DurableObject, ctx, durable

__all__ = [
    "BenchAlarm",
    "BenchCounter",
    "BenchDocument",
    "BenchOrder",
    "BenchPair",
    "BenchSession",
]

SESSION_ENTRIES: Final = 16
SESSION_ENTRY_CHARACTERS: Final = 56
"""With their names and what stands between them, the entries have about 1 KB."""

DOCUMENT_CHARACTERS: Final = 100_000

TIMER_S: Final = 0.1
"""How long the timers of `BenchAlarm` run."""


@durable.object
class BenchCounter(DurableObject):
    """A number that grows."""

    def __init__(self, counter_id: str) -> None:
        super().__init__(counter_id)
        self.value = 0

    async def add(self, amount: int) -> int:
        """Add, and return the new value."""
        self.value += amount
        return self.value

    @durable.shared
    async def peek(self) -> int:
        """Return the value, beside other calls."""
        return self.value


@durable.object
class BenchSession(DurableObject):
    """What a web shop keeps of a visitor: 1 KB in one dict."""

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        zero = "0" * SESSION_ENTRY_CHARACTERS
        self.entries = {f"entry{number}": zero for number in range(SESSION_ENTRIES)}

    async def visit(self, name: str) -> str:
        """Replace an entry by the next one; return that."""
        value = f"{int(self.entries[name]) + 1:0{SESSION_ENTRY_CHARACTERS}}"
        self.entries[name] = value
        return value


@durable.object
class BenchDocument(DurableObject):
    """A long text, and how often it was read."""

    def __init__(self, document_id: str) -> None:
        super().__init__(document_id)
        self.text = "x" * DOCUMENT_CHARACTERS
        self.readers = 0

    async def open(self) -> int:
        """Count a reader; return how many there have been."""
        self.readers += 1
        return self.readers


@durable.object
class BenchPair(DurableObject):
    """Passes calls on to a counter of the same id."""

    def __init__(self, pair_id: str) -> None:
        super().__init__(pair_id)
        self.passed = 0

    async def add(self, amount: int) -> int:
        """Add to the counter; return its new value."""
        self.passed += 1
        return await durable.ref(BenchCounter, self.object_id).add(amount)

    async def prepare(self) -> None:
        """Make the counter."""
        await BenchCounter.get_or_create(self.object_id)


@durable.service("perdure_bench")
async def echo(number: int) -> int:
    """Give back what came."""
    return number


@durable.object
class BenchOrder(DurableObject):
    """Calls a service, saves, and calls it again."""

    def __init__(self, order_id: str) -> None:
        super().__init__(order_id)
        self.charged = 0
        self.shipped = 0

    async def work(self, ctx: DurableContext, number: int) -> int:
        """Do both; return how often that was done."""
        await ctx.call("perdure_bench", "echo", number)
        self.charged += 1
        await self.save()
        await ctx.call("perdure_bench", "echo", number)
        self.shipped += 1
        return self.shipped


@durable.object
class BenchAlarm(DurableObject):
    """Timers, and how many of them have fired."""

    def __init__(self, alarm_id: str) -> None:
        super().__init__(alarm_id)
        self.armed = 0
        self.fired = 0

    async def arm(self) -> int:
        """Set a timer; return how many have been set."""
        self.armed += 1
        ctx.after(TIMER_S, self.ring, name=str(self.armed))
        return self.armed

    async def ring(self) -> None:
        """Count a timer that has fired."""
        self.fired += 1

    @durable.shared
    async def waiting(self) -> int:
        """Return how many timers have not fired."""
        return self.armed - self.fired
