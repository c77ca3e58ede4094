"""Reminders: timers that outlive every process, and calls that are sent without waiting.

    python examples/reminders.py

A timer is set and cancelled in the same commit as the state of its object, so there is never one
without the other. It fires at least once, and what its method does is done once. Stop the program
before the last line and start it again: whatever is due then comes at once.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from perdure import DurableContext, DurableObject, ctx, durable


@durable.object
class Inbox(DurableObject):
    """Gets what others send."""

    def __init__(self, user: str) -> None:
        super().__init__(user)
        self.messages: list[str] = []

    async def deliver(self, text: str) -> None:
        self.messages.append(text)

    async def read(self) -> list[str]:
        messages, self.messages = self.messages, []
        return messages


@durable.object
class Reminders(DurableObject):
    """The reminders of one user, each a timer of this object."""

    def __init__(self, user: str) -> None:
        super().__init__(user)
        self.inbox = durable.ref(Inbox, user)
        self.sent = 0

    async def remind(self, ctx: DurableContext, name: str, after: timedelta) -> None:
        ctx.after(after, self.ring, name, name=name)

    async def remind_weekly(self, ctx: DurableContext, name: str, cron: str, zone: str) -> None:
        ctx.every(cron, self.ring, name, name=name, tz=zone)

    async def forget(self, ctx: DurableContext, name: str) -> bool:
        return ctx.cancel(name)

    async def ring(self, what: str) -> None:
        self.sent += 1
        # Awaiting this does not wait for the inbox, which may be busy, or on a node that is down:
        # it leaves together with the count.
        await durable.send(self.inbox).deliver(f"{self.sent}. {what}")

    async def upcoming(self, ctx: DurableContext) -> list[str]:
        return [timer.name for timer in ctx.timers()]


async def main() -> None:
    inbox = await Inbox.get_or_create("ada")
    reminders = await Reminders.get_or_create("ada")

    # `ctx` stands for the context that each method gets on the object's side; it may be left out.
    await reminders.remind(ctx, "stretch", timedelta(milliseconds=50))
    await reminders.remind(ctx, "tea", timedelta(milliseconds=100))
    await reminders.remind(ctx, "dentist", timedelta(days=200))
    await reminders.remind_weekly(ctx, "water the plants", "0 9 * * MON", "Europe/Berlin")
    print("upcoming:", await reminders.upcoming(ctx))

    # A timer of the same name takes the place of the earlier one.
    await reminders.remind(ctx, "dentist", timedelta(days=100))
    print("forgotten:", await reminders.forget(ctx, "dentist"))

    # Sent to be run later: held by the inbox, whatever happens to this program.
    await durable.send(inbox, delay=0.07).deliver("a letter from the past")

    messages: list[str] = []
    while len(messages) < 3:
        messages += await inbox.read()
        await asyncio.sleep(0.01)
    print("\n".join(messages))
    print("upcoming:", await reminders.upcoming(ctx))


if __name__ == "__main__":
    asyncio.run(main())
