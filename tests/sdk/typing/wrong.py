"""Code that type checkers must refuse: each line that says so, and no other."""

from __future__ import annotations

from perdure import DurableContext, DurableObject, ctx, durable


@durable.object
class WrongCart(DurableObject):
    def __init__(self, cart_id: str) -> None:
        super().__init__(cart_id)
        self.items: list[str] = []

    async def add(self, item: str, quantity: int = 1) -> dict[str, int]:
        return {item: quantity}

    def total(self, factor: float) -> float:
        return len(self.items) * factor

    async def pay(self, ctx: DurableContext, amount: int) -> str:
        return f"{amount}"


async def main() -> None:
    cart = await WrongCart.get_or_create("u1")
    await WrongCart.get_or_create(5)  # refused
    await cart.add(5)  # refused
    await cart.add("x", "two")  # refused
    await cart.add()  # refused
    await cart.add("x", amount=2)  # refused
    await cart.remove("x")  # refused
    await cart.pay(5, 5)  # refused
    await cart.total(1.5)  # refused
    print(cart.itmes)  # refused

    await durable.call(cart.total, "x")  # refused
    await durable.call(cart.total)  # refused
    await durable.call(cart.add, 5)  # refused
    text: str = await durable.call(cart.total, 1.5)  # refused
    number: int = await cart.add("x")  # refused
    print(durable.call(cart.total, 1.5) + 1)  # refused
    print(text, number)

    await durable.exists("WrongCart", "u1")  # refused
    durable.options(cart, key=5)  # refused
    durable.ref(int, "u1")  # refused
    print(ctx.call_idd)  # refused
    await durable.send(cart).add(5)  # refused
    durable.send("cart").add("x")  # refused
    durable.send(cart, delay="soon").add("x")  # refused
    await durable.cancel(cart)  # refused
    await ctx.run("add", len, 5)  # refused
    await ctx.run(len, "x")  # refused
    await ctx.sleep("1")  # refused
    ctx.after("soon", cart.add)  # refused
    ctx.every(5, cart.add)  # refused


@durable.object(persist="never")  # refused
class WrongPersist(DurableObject):
    pass
