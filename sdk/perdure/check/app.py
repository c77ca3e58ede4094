"""What `perdure check` calls: the classes that the nodes of a checked cluster have to know.

`perdure up perdure.check.app` runs a cluster with nothing else; an app of yours has them too once
it imports this module.
"""

from __future__ import annotations

from perdure import DurableObject, ctx, durable

__all__ = [
    "OPENING_BALANCE",
    "CheckAccount",
    "CheckAlarm",
    "CheckCounter",
    "CheckKeyed",
    "CheckList",
    "CheckRegister",
]

OPENING_BALANCE = 1_000


@durable.object
class CheckCounter(DurableObject):
    """A number that grows."""

    def __init__(self, counter_id: str) -> None:
        super().__init__(counter_id)
        self.value = 0

    async def add(self, amount: int) -> int:
        """Add, and return the new value."""
        self.value += amount
        return self.value

    async def read(self) -> int:
        """Return the value."""
        return self.value

    @durable.shared
    async def peek(self) -> int:
        """Return the value, beside other calls."""
        return self.value


@durable.object
class CheckRegister(DurableObject):
    """A value that is replaced."""

    def __init__(self, register_id: str) -> None:
        super().__init__(register_id)
        self.value = ""

    async def write(self, value: str) -> None:
        """Replace the value."""
        self.value = value

    async def cas(self, expected: str, value: str) -> str:
        """Replace the value if it is the expected one; return what it was."""
        found = self.value
        if found == expected:
            self.value = value
        return found

    async def read(self) -> str:
        """Return the value."""
        return self.value

    @durable.shared
    async def peek(self) -> str:
        """Return the value, beside other calls."""
        return self.value


@durable.object
class CheckList(DurableObject):
    """Items in the order in which they came."""

    def __init__(self, list_id: str) -> None:
        super().__init__(list_id)
        self.value: list[list[int]] = []

    async def append(self, item: list[int]) -> int:
        """Append, save before the end, and return the new length."""
        self.value.append(item)
        await self.save()
        return len(self.value)

    async def read(self) -> list[list[int]]:
        """Return the items."""
        return self.value

    @durable.shared
    async def peek(self) -> list[list[int]]:
        """Return the items, beside other calls."""
        return self.value


@durable.object
class CheckKeyed(DurableObject):
    """Tokens, each of which comes with an idempotency key of its own."""

    def __init__(self, keyed_id: str) -> None:
        super().__init__(keyed_id)
        self.value: list[str] = []

    async def apply(self, token: str) -> int:
        """Keep a token; return how many there are."""
        self.value.append(token)
        return len(self.value)


@durable.object
class CheckAccount(DurableObject):
    """Money that goes to other accounts. Who pays calls who receives."""

    def __init__(self, account_id: str) -> None:
        super().__init__(account_id)
        self.balance = OPENING_BALANCE
        self.sent: list[str] = []
        self.received: list[str] = []

    async def transfer(self, receiver: str, amount: int, token: str) -> int:
        """Pay an account; return the new balance."""
        self.balance -= amount
        self.sent.append(token)
        await durable.ref(CheckAccount, receiver).receive(amount, token)
        return self.balance

    async def receive(self, amount: int, token: str) -> int:
        """Take a payment; return the new balance."""
        self.balance += amount
        self.received.append(token)
        return self.balance


@durable.object
class CheckAlarm(DurableObject):
    """Timers, each of which leaves a token when it fires."""

    def __init__(self, alarm_id: str) -> None:
        super().__init__(alarm_id)
        self.armed = 0
        self.value: list[str] = []

    async def arm(self, token: str, delay_ms: int) -> int:
        """Set a timer; return how many have been set."""
        ctx.after(delay_ms / 1000, self.ring, token, name=token)
        self.armed += 1
        return self.armed

    async def ring(self, token: str) -> None:
        """Note that a timer has fired."""
        self.value.append(token)
