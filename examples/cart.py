"""A shopping cart: dataclasses as state, and an order that is placed once.

    python examples/cart.py

`checkout` is called twice with one key, as a browser does when its user clicks twice: the
second call gets the answer of the first.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from decimal import Decimal

from perdure import DurableObject, durable


@dataclass
class Line:
    name: str
    quantity: int
    price: Decimal


@dataclass(frozen=True)
class Order:
    number: int
    lines: tuple[Line, ...]
    total: Decimal


@durable.object
class ShoppingCart(DurableObject):
    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.lines: dict[str, Line] = {}
        self.orders: list[Order] = []

    async def add(self, item: str, name: str, price: Decimal, quantity: int = 1) -> int:
        line = self.lines.setdefault(item, Line(name, 0, price))
        line.quantity += quantity
        await self.save()
        return line.quantity

    async def remove(self, item: str) -> None:
        self.lines.pop(item, None)
        await self.save()

    def total(self) -> Decimal:
        return sum((line.price * line.quantity for line in self.lines.values()), Decimal(0))

    async def checkout(self) -> Order:
        if not self.lines:
            raise ValueError("the cart is empty")
        order = Order(len(self.orders) + 1, tuple(self.lines.values()), self.total())
        self.orders.append(order)
        self.lines.clear()
        await self.save()
        return order


async def main() -> None:
    cart = await ShoppingCart.get_or_create("user_123")
    await cart.add("sku-1", "teapot", Decimal("24.90"))
    await cart.add("sku-2", "cup", Decimal("4.50"), quantity=6)
    print("total:", await durable.call(cart.total))

    click = durable.options(cart, key=f"click-{uuid.uuid4()}")
    first = await click.checkout()
    second = await click.checkout()
    assert first == second
    print(f"order {first.number} of {first.total}; orders in all: {len(click.orders)}")


if __name__ == "__main__":
    asyncio.run(main())
