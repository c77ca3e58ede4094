"""Code that type checkers must accept, and understand exactly."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import perdure
from perdure import (
    Agent,
    Call,
    DurableContext,
    DurableObject,
    Timer,
    ctx,
    durable,
    get_writable,
    sync,
    tool,
)


@durable.object
class TypedCart(DurableObject):
    limit = 3

    def __init__(self, cart_id: str) -> None:
        super().__init__(cart_id)
        self.items: list[str] = []

    async def add(self, item: str, quantity: int = 1) -> dict[str, int]:
        self.items.append(item)
        await self.save()
        return {item: quantity}

    def total(self, factor: float) -> float:
        return len(self.items) * factor

    async def pay(self, ctx: DurableContext, amount: int) -> str:
        return f"{ctx.call_id} {ctx.attempt} {amount} {ctx.now().isoformat()}"

    @durable.shared
    async def summary(self) -> list[str]:
        return self.items


@durable.object(name="Other", persist="on_save", max_state_bytes=1000)
class TypedOther(DurableObject):
    @durable.shared
    def read(self) -> int:
        return 1


@durable.object
class TypedOrder(DurableObject):
    async def expire(self, reason: str = "") -> None:
        assert_type(ctx.after(timedelta(hours=1), self.expire), str)
        assert_type(ctx.after(0.5, self.expire, "late", name="soon"), str)
        assert_type(ctx.at(datetime.now(UTC), self.note, text="x"), str)
        assert_type(ctx.every("0 9 * * *", self.note, "x", tz="Europe/Berlin"), str)
        assert_type(ctx.every(timedelta(minutes=1), self.expire), str)
        assert_type(ctx.cancel("soon"), bool)
        assert_type(ctx.timers(), list[Timer])

    def note(self, text: str) -> int:
        return len(text)

    async def pay(self, ctx: DurableContext) -> str:
        assert_type(ctx.call("payment", "charge", {"cents": 5}), Call[Any])
        assert_type(ctx.run("twice", twice, 5), Call[int])
        assert_type(await ctx.run("fetch", fetch, "x", times=2), str)
        assert_type(await ctx.sleep(timedelta(seconds=1)), None)
        assert_type(await perdure.wait_for(ctx.run("fetch", fetch, "x"), 5), str)
        assert_type(await perdure.wait_for(fetch("x"), timedelta(seconds=5)), str)
        return await fetch("x")


@durable.function
async def summarize(text: str, *, words: int = 10) -> str:
    return text[:words]


@durable.function(name="measured", retries=3)
def measured(text: str) -> int:
    return len(text)


def twice(number: int) -> int:
    return 2 * number


async def fetch(symbol: str, *, times: int = 1) -> str:
    return symbol * times


async def send_and_cancel() -> None:
    order = await TypedOrder.get_or_create("o1")
    await durable.send(order).expire("x")
    await durable.send(order, delay=timedelta(days=1), key="k").expire()
    await durable.call(durable.send(order, 5).note, "x")
    call = durable.call(order.expire, "x")
    assert_type(call.id, str | None)
    assert_type(await durable.cancel(call), bool)
    assert_type(await durable.cancel(order, "id", kill=True), bool)


async def main() -> None:
    cart = await TypedCart.get_or_create("u1")
    assert_type(cart, TypedCart)
    assert_type(cart.items, list[str])
    assert_type(cart.object_id, str)
    assert_type(cart.limit, int)
    assert_type(await cart.add("x", 2), dict[str, int])
    assert_type(await cart.add("x", quantity=2), dict[str, int])
    assert_type(await cart.pay(ctx, 5), str)
    assert_type(await cart.summary(), list[str])

    assert_type(TypedCart.get_or_create("u1"), Call[TypedCart])
    assert_type(durable.call(cart.total, 1.5), Call[float])
    assert_type(await durable.call(cart.total, factor=1.5), float)
    assert_type(await durable.call(cart.add, "x"), dict[str, int])
    assert_type(await asyncio.wait_for(durable.call(cart.add, "x"), 1), dict[str, int])
    assert_type(await asyncio.create_task(durable.call(cart.total, 1.5)), float)
    both = await asyncio.gather(TypedCart.get_or_create("a"), TypedOther.get_or_create("b"))
    assert_type(both, tuple[TypedCart, TypedOther])

    assert_type(durable.ref(TypedCart, "u1"), TypedCart)
    assert_type(durable.options(cart, key="k", timeout=None), TypedCart)
    assert_type(await durable.refresh(cart), TypedCart)
    assert_type(await durable.exists(TypedCart, "u1"), bool)
    assert_type(await durable.delete(cart), bool)
    assert_type(durable.partition(cart), int)
    async for each in durable.list(TypedCart, prefix="u", limit=5):
        assert_type(each, TypedCart)

    assert_type(await summarize("text", words=5), str)
    assert_type(summarize("text"), Call[str])
    assert_type(await measured("text"), int)
    assert_type(await durable.options(measured, key="k")("text"), int)


@tool
def lowest(city: str, days: int = 1) -> float:
    """Tell how cold it has been."""
    return float(len(city) * days)


@tool(step=False)
async def note(line: str) -> int:
    """Note something."""
    return (await summarize(line)).count(" ")


async def ask() -> None:
    agent = Agent(name="a", model="gpt-4o", temperature=0, tools=[lowest, note])
    assert_type(await agent.run("?"), str)
    messages: list[Any] = [{"role": "user", "content": "?"}]
    assert_type(await agent.stream(messages=messages, writable=get_writable()), dict[str, str])
    assert_type(lowest("x", days=2), float)
    assert_type(await note("x"), int)


def blocking() -> None:
    cart = sync.run(TypedCart.get_or_create, "u1")
    assert_type(cart, TypedCart)
    assert_type(sync.run(cart.add, "x", 2), dict[str, int])
