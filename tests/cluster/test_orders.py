"""Orders whose node dies after each entry of their journals: charged once, shipped once.

`PERDURE_ORDERS=2000` makes more orders than are good for every run.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.lives import Lives, lives_of
from harness.orders import WitnessedOrder
from harness.witness import Witness, running_witness

import perdure
from perdure import durable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3_600)]

ORDERS = int(os.environ.get("PERDURE_ORDERS", "60"))
AT_A_TIME = 100
ENTRIES = 7
LIVES = [(2, False), (2, True), (5, False), (5, True), (7, False)]
"""The last entry of each life; True: the step has a result, which is not recorded."""
RESULTS = {5: "charge", 7: "ship"}
"""The last entries of records that say what a service has answered."""


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    with running_witness(tmp_path / "ledger") as running:
        yield running


@pytest.fixture
def lives(tmp_path: Path, witness: Witness) -> Iterator[Lives]:
    app = Path(__file__).parents[1] / "harness" / "orders.py"
    services = {"payment": witness.url, "shipping": witness.url}
    # Their deaths are counted in the midst of what would be compiled.
    with lives_of(app, tmp_path, services, from_sources=True) as lives:
        yield lives


def attempts(witness: Witness, method: str) -> Counter[tuple[str, str]]:
    """Return how often each order was attempted under each key."""
    entries = [entry for entry in witness.ledger() if entry["method"] == method]
    return Counter((entry["payload"]["order"], entry["key"]) for entry in entries)


def test_an_order_is_charged_and_shipped_once_whatever_entry_the_node_dies_after(
    lives: Lives, witness: Witness
) -> None:
    asyncio.run(process_all(lives, witness))


async def process_all(lives: Lives, witness: Witness) -> None:
    lives.begin()
    await perdure.connect(lives.address)
    calm = await WitnessedOrder.get_or_create("calm")
    assert await calm.process(7) == "shipped"
    wanted = calm.processing_steps
    assert len(wanted) == 3

    for first in range(0, ORDERS, AT_A_TIME):
        count = min(AT_A_TIME, ORDERS - first)
        await process_some([f"o{first + n}" for n in range(count)], lives, witness, wanted)

    charged = attempts(witness, "charge")
    shipped = attempts(witness, "ship")
    for made in (charged, shipped):
        assert len(made) == len({order for order, _ in made}) == ORDERS + 1, "one key each"
        # One that was being made when the node died is made again; one that was done is not.
        assert max(made.values()) <= 3
        assert {made.pop(calm) for calm in list(made) if calm[0] == "calm"} == {1}
        assert min(made.values()) >= 2, "no node has died between a result and its record"
    assert len(witness.effects()) == 2 * (ORDERS + 1)
    print(f"\n{ORDERS} orders, {sum(charged.values())} + {sum(shipped.values())} attempts")


async def process_some(ids: list[str], lives: Lives, witness: Witness, wanted: list[str]) -> None:
    """Process orders on a node that lives, and dies; let it live in the end."""
    orders = await asyncio.gather(*(WitnessedOrder.get_or_create(id) for id in ids))
    lives.kill()
    await asyncio.to_thread(lives.ended)
    calls = [durable.options(order, timeout=None).process(7) for order in orders]
    finished: dict[str, Counter[tuple[str, str]]] = {}
    for entry, result in LIVES:
        arguments = ("WitnessedOrder", entry, len(ids), ENTRIES, result)
        await lives.end_of("lockstep.die_after_entry", *arguments)
        if entry in RESULTS:
            finished[RESULTS[entry]] = attempts(witness, RESULTS[entry])
    lives.begin()
    assert await asyncio.gather(*calls) == ["shipped"] * len(ids)

    for method, made in finished.items():
        assert attempts(witness, method) == made, f"{method} was attempted after it was finished"
    for order in orders:
        await durable.refresh(order)
        assert order.processing_steps == wanted, order
