"""Orders that are fulfilled by a workflow over objects: every item is taken from the stock once.

    python examples/order_fulfillment.py

The workflow gets or creates objects and calls them. Each call is a step: its result is in the
run's journal, and a call that was on its way when a node died is the same call afterwards. So no
item is taken twice, and no order is forgotten half-way. `await order_fulfillment_workflow(data)`
starts a run and waits for its result.
"""

from __future__ import annotations

import asyncio
from typing import Any

from perdure import (
    DurableObject,
    FatalError,
    durable,
    get_step_metadata,
    get_workflow_metadata,
    step,
    workflow,
)


@durable.object
class OrderProcessor(DurableObject):
    """One order, and how far it is."""

    def __init__(self, order_id: str) -> None:
        super().__init__(order_id)
        self.status = "new"
        self.items: dict[str, int] = {}

    async def add_item(self, sku: str, quantity: int) -> int:
        self.items[sku] = self.items.get(sku, 0) + quantity
        return sum(self.items.values())

    async def finish(self, status: str) -> str:
        self.status = status
        return f"{self.object_id} is {status}"


@step(retries=5, backoff=0.2)
async def ship(order_id: str, items: dict[str, int]) -> str:
    """Stands for a carrier. It is told the step's id, and ships once for each."""
    if not items:
        raise FatalError("nothing to ship")
    return f"parcel {get_step_metadata().step_id[-8:]} for {order_id}"


@workflow
async def order_fulfillment_workflow(order_data: dict[str, Any]) -> dict[str, Any]:
    order = await OrderProcessor.get_or_create(order_data["id"])
    for item in order_data["items"]:
        await order.add_item(item["sku"], item["quantity"])
    try:
        await ship(order_data["id"], {i["sku"]: i["quantity"] for i in order_data["items"]})
    except FatalError as error:
        return {"status": await order.finish(f"refused: {error}")}
    # An approval would be a hook here, and a deadline a `perdure.sleep`, of days if need be.
    status = await order.finish("shipped")
    return {"status": status, "run": get_workflow_metadata().workflow_name}


async def main() -> None:
    apples = {"id": "order-1", "items": [{"sku": "apple", "quantity": 3}]}
    nothing: dict[str, Any] = {"id": "order-2", "items": []}
    for result in await asyncio.gather(
        order_fulfillment_workflow(apples), order_fulfillment_workflow(nothing)
    ):
        print(result["status"])


if __name__ == "__main__":
    asyncio.run(main())
