"""Ids of calls, and the keys that services get: each is one call's, and stays so."""

from __future__ import annotations

from pathlib import Path

from harness.loop import on_loop
from harness.nodes import Caller, running, settings
from harness.tally import settled

from perdure import DurableContext, DurableObject, durable

KEYS: dict[str, list[str]] = {}
"""What was paid for, and under which keys."""


@durable.service("toll")
class Toll:
    async def pay(self, what: str) -> None:
        from perdure import ctx

        KEYS.setdefault(what, []).append(ctx.idempotency_key)


@durable.object
class TollPayer(DurableObject):
    def __init__(self, payer_id: str) -> None:
        super().__init__(payer_id)
        self.ids: list[str] = []
        self.failed = False

    async def pay(self, ctx: DurableContext, what: str) -> str:
        self.ids.append(ctx.call_id)
        await ctx.call("toll", "pay", what)
        return ctx.call_id

    async def pay_late(self, ctx: DurableContext, *what: str) -> None:
        for each in what:
            ctx.after(0, self.pay, each, name=each)

    async def pay_often(self, ctx: DurableContext) -> None:
        ctx.every("* * * * * *", self.pay, "often")
        ctx.after(0, self.pay, "soon", name="soon")

    async def pay_with_trouble(self, ctx: DurableContext) -> None:
        ctx.after(0, self.pay_and_fail)

    async def pay_and_fail(self, ctx: DurableContext) -> None:
        await ctx.call("toll", "pay", "trouble")
        if len(KEYS["trouble"]) < 2:
            raise ValueError("no")
        self.ids.append(ctx.call_id)

    async def send_to(self, other: str) -> None:
        durable.send(durable.ref(TollPayer, other)).pay("first")
        durable.send(durable.ref(TollPayer, other)).pay("second")


async def ids_when(caller: Caller, count: int, id: str = "x") -> list[str]:
    while len(ids := (await caller.state("TollPayer", id))["ids"]) < count:
        await settled()
    return list(ids)


@on_loop
async def test_services_called_under_one_key_of_two_callers_get_two_keys(tmp_path: Path) -> None:
    KEYS.clear()
    async with running(settings(tmp_path)) as (_, caller):
        for id in ("x", "y"):
            await caller.create("TollPayer", id)
            await caller.call("TollPayer", "pay", id, id=id, key="pay-1")
    assert KEYS["x"] != KEYS["y"]


@on_loop
async def test_every_firing_is_a_call_of_its_own(tmp_path: Path) -> None:
    KEYS.clear()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("TollPayer")
        await caller.call("TollPayer", "pay_late", "a", "b")
        ids = await ids_when(caller, 2)
        await caller.call("TollPayer", "pay_often")
        ids = await ids_when(caller, 5)
    assert len(set(ids)) == len(ids)
    keys = [key for keys in KEYS.values() for key in keys]
    assert len(set(keys)) == len(keys)


@on_loop
async def test_a_firing_that_comes_again_after_an_error_is_the_same_call(tmp_path: Path) -> None:
    KEYS.clear()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("TollPayer")
        await caller.call("TollPayer", "pay_with_trouble")
        await ids_when(caller, 1)
    assert len(KEYS["trouble"]) == 2
    assert len(set(KEYS["trouble"])) == 1


@on_loop
async def test_calls_that_were_sent_are_calls_of_their_own(tmp_path: Path) -> None:
    KEYS.clear()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("TollPayer")
        await caller.create("TollPayer", "y")
        await caller.call("TollPayer", "send_to", "y")
        first, second = await ids_when(caller, 2, "y")
    assert first != second
    assert KEYS["first"] != KEYS["second"]
