"""Memory: objects come and go, their state stays, on a node with room for few."""

from __future__ import annotations

import asyncio

from harness.world import Served

from perdure import DurableObject, durable
from perdure_node.core.limits import Limits


@durable.object
class Guest(DurableObject):
    def __init__(self, guest_id: str) -> None:
        super().__init__(guest_id)
        self.visits: list[int] = []
        self.large = b""

    async def visit(self, number: int) -> int:
        self.visits.append(number)
        self._memory = number
        return len(self.visits)

    async def remember(self) -> int | None:
        return getattr(self, "_memory", None)

    async def wait(self) -> int | None:
        self._memory = -1
        await gates[self.object_id].wait()
        return getattr(self, "_memory", None)

    async def grow(self, size: int) -> None:
        self.large = bytes(size)


gates: dict[str, asyncio.Event] = {}


def test_many_objects_on_disk_with_few_in_memory_have_the_right_contents(tmp_path):
    async def main():
        guests = [durable.ref(Guest, f"g{number}") for number in range(400)]
        await asyncio.gather(*(Guest.get_or_create(guest.object_id) for guest in guests))
        for turn in range(3):
            counts = await asyncio.gather(*(guest.visit(turn) for guest in guests))
            assert counts == [turn + 1] * len(guests)
        assert await asyncio.gather(*(guest.visit(3) for guest in guests)) == [4] * len(guests)

    async def again():
        for number in range(0, 400, 37):
            assert (await Guest.get_or_create(f"g{number}")).visits == [0, 1, 2, 3]

    world = Served(tmp_path / "data", Limits(activations_max=20))
    world.run(main)
    world.run(again)


def test_the_node_counts_what_is_resident_what_was_hit_loaded_and_passivated(tmp_path):
    async def main():
        for number in range(60):
            guest = await Guest.get_or_create(f"g{number}")
            await guest.visit(0)
        first = (await world.node.describe()).nodes[0].counters
        assert first.resident <= 10
        assert first.passivations >= 50
        last = durable.ref(Guest, "g59")
        await last.visit(1)
        await last.visit(2)
        second = (await world.node.describe()).nodes[0].counters
        assert second.hits >= first.hits + 2
        await durable.ref(Guest, "g0").visit(1)
        third = (await world.node.describe()).nodes[0].counters
        assert third.loads == second.loads + 1

    world = Served(tmp_path / "data", Limits(activations_max=10))
    world.run(main)


def test_the_least_recently_called_leaves_memory_first(tmp_path):
    async def main():
        guests = [await Guest.get_or_create(f"g{number}") for number in range(40)]
        for guest in guests:
            await guest.visit(7)
            await guests[0].visit(7)
        assert await guests[0].remember() == 7
        assert await guests[1].remember() is None

    Served(tmp_path / "data", Limits(activations_max=8)).run(main)


def test_bytes_bound_the_memory_too(tmp_path):
    async def main():
        for number in range(40):
            guest = await Guest.get_or_create(f"g{number}")
            await guest.visit(7)
            await guest.grow(100_000)
        assert await durable.ref(Guest, "g0").remember() is None
        # What is not in the store yet has to stay for a moment.
        async with asyncio.timeout(60):
            while (await world.node.describe()).nodes[0].counters.resident_bytes > 1_000_000:
                await guest.visit(7)

    world = Served(tmp_path / "data", Limits(activation_bytes_max=1_000_000))
    world.run(main)


def test_an_object_with_a_running_or_waiting_call_is_never_passivated(tmp_path):
    async def main():
        gates["busy"] = asyncio.Event()
        busy = await Guest.get_or_create("busy")
        running, waiting = busy.wait(), busy.remember()
        for number in range(50):
            await (await Guest.get_or_create(f"g{number}")).visit(0)
        gates["busy"].set()
        assert await running == -1
        assert await waiting == -1

    Served(tmp_path / "data", Limits(activations_max=5)).run(main)


def test_an_idle_object_is_passivated_and_loses_nothing(tmp_path):
    async def main():
        guest = await Guest.get_or_create("idle")
        await guest.visit(3)
        async with asyncio.timeout(60):
            while (await world.node.describe()).nodes[0].counters.resident:
                await asyncio.sleep(0.01)
        assert await guest.remember() is None
        assert guest.visits == [3]

    world = Served(tmp_path / "data", Limits(activation_idle_ms=50))
    world.run(main)


def test_listing_wakes_no_object(tmp_path):
    async def main():
        for number in range(30):
            await Guest.get_or_create(f"g{number:02}")
        before = (await world.node.describe()).nodes[0].counters
        found = [guest.object_id async for guest in durable.list(Guest)]
        after = (await world.node.describe()).nodes[0].counters
        assert found == [f"g{number:02}" for number in range(30)]
        assert (after.loads, after.resident) == (before.loads, before.resident)

    world = Served(tmp_path / "data", Limits(activations_max=5))
    world.run(main)


def test_asking_whether_it_exists_wakes_no_object(tmp_path):
    async def main():
        await Guest.get_or_create("g1")
        for number in range(10):
            await (await Guest.get_or_create(f"x{number}")).visit(0)
        before = (await world.node.describe()).nodes[0].counters
        assert await durable.exists(Guest, "g1")
        after = (await world.node.describe()).nodes[0].counters
        assert after.loads == before.loads

    world = Served(tmp_path / "data", Limits(activations_max=2))
    world.run(main)
