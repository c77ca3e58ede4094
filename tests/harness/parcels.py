"""Objects that send to one another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from perdure import DurableContext, DurableObject, durable

OPEN: dict[str, asyncio.Event] = {}
"""What methods wait for, by name."""


@durable.object
class ParcelDepot(DurableObject):
    """Notes what comes in, in the order in which it comes."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.came: list[Any] = []

    async def take(self, what: Any) -> int:
        self.came.append(what)
        return len(self.came)

    async def hold(self, gate: str) -> None:
        await OPEN[gate].wait()

    async def fail(self) -> None:
        raise RuntimeError("on purpose")


@durable.object
class ParcelSender(DurableObject):
    """Sends in every way there is."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.sent = 0

    async def send(self, to: str, what: Any, delay: float | None = None) -> None:
        self.sent += 1
        await durable.send(durable.ref(ParcelDepot, to), delay=delay).take(what)

    async def send_keyed(self, to: str, what: Any, key: str) -> None:
        await durable.send(durable.ref(ParcelDepot, to), key=key).take(what)

    async def send_many(self, to: str, count: int) -> None:
        for number in range(count):
            durable.send(durable.ref(ParcelDepot, to)).take(number)
            self.sent += 1

    async def send_and_fail(self, to: str) -> None:
        durable.send(durable.ref(ParcelDepot, to)).take("undone")
        raise RuntimeError("on purpose")

    async def send_save_send_and_fail(self, to: str, *, wait: bool) -> None:
        durable.send(durable.ref(ParcelDepot, to)).take("kept")
        await self.save()
        durable.send(durable.ref(ParcelDepot, to)).take("undone")
        if wait:
            await asyncio.sleep(0)
        raise RuntimeError("on purpose")

    async def mixed(self, to: str) -> int:
        depot = durable.ref(ParcelDepot, to)
        durable.send(depot).take("send 1")
        await depot.take("call 2")
        await self.save()
        durable.send(depot).take("send 3")
        durable.send(depot).take("send 4")
        await depot.take("call 5")
        durable.send(depot).take("send 6")
        return await depot.take("call 7")

    async def send_call_and_fail(self, to: str, other: str) -> None:
        durable.send(durable.ref(ParcelDepot, other)).take("undone")
        durable.send(durable.ref(ParcelDepot, to)).take("made by the call")
        with contextlib.suppress(RuntimeError):
            await durable.ref(ParcelDepot, to).fail()
        raise RuntimeError("on purpose")

    async def send_save_call_and_wait(self, ctx: DurableContext, to: str, gate: str) -> None:
        depot = durable.ref(ParcelDepot, to)
        durable.send(depot).take("before")
        await self.save()
        await depot.take("call")
        durable.send(depot).take("after")
        await ctx.run("nothing", list)
        await OPEN[gate].wait()
        self.sent += 1
