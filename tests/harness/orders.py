"""An order that is paid for and shipped by services outside, with saves in between."""

from __future__ import annotations

from perdure import DurableContext, DurableObject, durable


@durable.object
class WitnessedOrder(DurableObject):
    """One run of `process` has seven entries in three records: save and ask; result, save and ask;
    result and end."""

    def __init__(self, order_id: str) -> None:
        super().__init__(order_id)
        self.status = "new"
        self.processing_steps: list[str] = []

    async def process(self, ctx: DurableContext, amount: int) -> str:
        self.processing_steps.append("begun")
        await self.save()
        paid = await ctx.call("payment", "charge", {"order": self.object_id, "amount": amount})
        self.status = "paid"
        self.processing_steps.append(f"paid {paid['echo']['amount']}")
        await self.save()
        shipped = await ctx.call("shipping", "ship", {"order": self.object_id})
        self.status = "shipped"
        self.processing_steps.append(f"shipped {bool(shipped['receipt'])}")
        await self.save()
        return self.status
