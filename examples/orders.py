"""An order is charged once and shipped once, whatever dies in between.

    python examples/orders.py

`process` is a call with steps: `ctx.call`, the call of another object and every `save()` that the
method outlives are written to the object's journal. After a crash the method runs again, on the
node that has the object next, and without any client: what is in the journal is answered from
there, and the rest is done. Nobody has to ask for that, and nothing is charged twice.

A service is outside of Perdure: it is asked at least once, always with the same key, and its
answer is recorded once. What it does once for each key has happened once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from perdure import DurableContext, DurableObject, ServiceError, ctx, durable


@dataclass
class OrderLine:
    sku: str
    quantity: int
    price: Decimal


@durable.service("payment_service")
class PaymentService:
    """Stands for a bank. A bank would keep the receipts where they outlive this process."""

    def __init__(self) -> None:
        self.receipts: dict[str, str] = {}

    async def charge(self, payload: dict[str, Any]) -> dict[str, Any]:
        if payload["amount"] > 1_000:
            # An answer as any other: it is recorded, and nothing is tried again.
            return {"success": False, "reason": "over the limit of the card"}
        if payload["amount"] <= 0:
            # So is an exception, which the method gets as `ServiceError`.
            raise ValueError("nothing to charge")
        # The key is that of the step: for a second attempt it is the same.
        receipt = self.receipts.setdefault(ctx.idempotency_key, f"receipt {payload['order']}")
        return {"success": True, "receipt": receipt}


@durable.object
class Stock(DurableObject):
    def __init__(self, sku: str) -> None:
        super().__init__(sku)
        self.left = 1_000_000

    async def take(self, quantity: int) -> bool:
        if quantity > self.left:
            return False
        self.left -= quantity
        return True


@durable.object
class PaidOrder(DurableObject):
    def __init__(self, order_id: str) -> None:
        super().__init__(order_id)
        self.status = "created"
        self.lines: list[OrderLine] = []
        self.receipt: str | None = None

    async def add(self, sku: str, quantity: int, price: Decimal) -> Decimal:
        if self.status != "created":
            raise ValueError(f"the order is {self.status}")
        self.lines.append(OrderLine(sku, quantity, price))
        return self.total()

    async def process(self, ctx: DurableContext) -> str:
        if self.status != "created":
            return self.status
        self.status = "charging"
        await self.save()

        payload = {"order": self.object_id, "amount": self.total()}
        try:
            paid = await ctx.call("payment_service", "charge", payload)
        except ServiceError as error:
            paid = {"success": False, "reason": error.message}
        if not paid["success"]:
            self.status = f"not paid: {paid['reason']}"
            return self.status
        self.receipt = paid["receipt"]
        self.status = "packing"
        await self.save()

        for line in self.lines:
            # A call of another object is made once, too: its id is in the journal.
            stock = await Stock.get_or_create(line.sku)
            if not await stock.take(line.quantity):
                self.status = f"waiting for {line.sku}"
                return self.status
        self.status = "shipped"
        await self.save()
        return self.status

    def total(self) -> Decimal:
        return sum((line.quantity * line.price for line in self.lines), Decimal(0))


async def main() -> None:
    orders = [order async for order in durable.list(PaidOrder)]
    for order in orders:
        # Whatever was interrupted goes on by itself. This call waits for it.
        print(order, "is", await order.process(ctx))

    order = await PaidOrder.get_or_create(f"order-{len(orders) + 1:03}")
    await order.add("teapot", 1, Decimal("24.90"))
    await order.add("cup", 6, Decimal("4.50"))
    print(order, "is", await order.process(ctx), "with", order.receipt)

    # A second click is the same call.
    click = durable.options(order, key="click-1")
    print("clicked twice:", await asyncio.gather(click.process(ctx), click.process(ctx)))

    dear = await PaidOrder.get_or_create(f"order-{len(orders) + 2:03}")
    await dear.add("harpsichord", 1, Decimal(12_500))
    print(dear, "is", await dear.process(ctx))


if __name__ == "__main__":
    asyncio.run(main())
