"""One at a time: turns, chains of calls and shared methods, embedded and on a node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.world import Embedded, Served, World

from perdure import CallCycle, CallFailed, CallRejected, DurableObject, Overloaded, durable
from perdure_node.core.limits import Limits


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


class Doors:
    """Events that methods wait for; the node lives in the same loop as the test."""

    def __init__(self) -> None:
        self.open: dict[str, asyncio.Event] = {}
        self.inside: list[str] = []
        self.inside_max = 0

    def door(self, name: str) -> asyncio.Event:
        return self.open.setdefault(name, asyncio.Event())

    async def stay(self, name: str) -> None:
        self.inside.append(name)
        self.inside_max = max(self.inside_max, len(self.inside))
        await self.door(name).wait()
        self.inside.remove(name)

    async def until_inside(self, *names: str) -> None:
        while not set(names) <= set(self.inside):
            await asyncio.sleep(0)


doors = Doors()


@pytest.fixture(autouse=True)
def new_doors():
    doors.__init__()


@durable.object
class Desk(DurableObject):
    def __init__(self, desk_id: str) -> None:
        super().__init__(desk_id)
        self.log: list[str] = []
        self.value = 0

    async def add(self, amount: int = 1) -> int:
        value = self.value
        await asyncio.sleep(0)
        self.value = value + amount
        return self.value

    async def stay(self, name: str) -> None:
        self.log.append(f"{name} in")
        await doors.stay(name)
        self.log.append(f"{name} out")

    async def note(self, name: str) -> None:
        self.log.append(name)

    async def outer(self) -> int:
        self.value += 1
        await self.inner()
        return self.value

    async def inner(self) -> None:
        self.value += 10
        await self.save()

    async def outer_fails(self) -> None:
        await self.add(5)
        raise ValueError("both undone")

    async def pass_on(self, others: list[Desk]) -> int:
        self.value += 1
        if not others:
            return 0
        return 1 + await others[0].pass_on(others[1:])

    async def call_itself(self) -> int:
        return await (await Desk.get_or_create(self.object_id)).add()

    async def look_at_itself(self) -> list[str]:
        me = await Desk.get_or_create(self.object_id)
        assert await durable.exists(Desk, self.object_id)
        await durable.refresh(me)
        return me.log

    async def survive_the_cycle(self, others: list[Desk]) -> str:
        try:
            await self.pass_on([*others, durable.ref(Desk, self.object_id)])
        except CallCycle as error:
            return str(error)
        return "no cycle"

    async def use_everything(self) -> list[Any]:
        other = await Desk.get_or_create("other")
        await durable.options(other, key="k", timeout=5).add(3)
        await durable.options(other, key="k", timeout=5).add(3)
        found = [desk.object_id async for desk in durable.list(Desk, prefix="o")]
        return [
            found,
            other.value,
            await durable.exists(Desk, "nobody"),
            durable.partition(other) == durable.partition(durable.ref(Desk, "other")),
            await durable.call(other.read_at_once),
            await durable.delete(other),
            await durable.exists(Desk, "other"),
        ]

    async def create_and_fail(self) -> None:
        self.value = 99
        await (await Desk.get_or_create("created")).add(7)
        raise ValueError("later")

    @durable.shared
    async def read(self) -> int:
        return self.value

    @durable.shared
    async def read_slowly(self, name: str) -> int:
        await doors.stay(name)
        return self.value

    @durable.shared
    async def read_and_write(self) -> None:
        self.value = -1

    @durable.shared
    async def read_and_save(self) -> None:
        await self.save()

    @durable.shared
    def read_at_once(self) -> int:
        return self.value


def test_one_call_at_a_time_over_every_await_inside(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        await asyncio.gather(*(desk.add() for _ in range(100)))
        assert desk.value == 100
        first, second = desk.stay("a"), desk.stay("b")
        await doors.until_inside("a")
        doors.door("b").set()
        await (await Desk.get_or_create("another")).add()
        assert doors.inside == ["a"]
        doors.door("a").set()
        await asyncio.gather(first, second)
        assert desk.log == ["a in", "a out", "b in", "b out"]

    world.run(main)


def test_different_objects_run_concurrently(world):
    async def main():
        desks = [await Desk.get_or_create(f"d{number}") for number in range(5)]
        calls = [desk.stay(desk.object_id) for desk in desks]
        await doors.until_inside(*(desk.object_id for desk in desks))
        for desk in desks:
            doors.door(desk.object_id).set()
        await asyncio.gather(*calls)

    world.run(main)


def test_a_method_of_self_is_a_plain_call_in_the_same_turn_and_commit(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        assert await asyncio.wait_for(desk.outer(), 25) == 11
        with pytest.raises(ValueError, match="both undone"):
            await desk.outer_fails()
        assert await desk.read() == 11

    world.run(main)


def test_objects_call_each_other(world):
    async def main():
        desks = [await Desk.get_or_create(f"d{number}") for number in range(6)]
        assert await desks[0].pass_on(desks[1:]) == 5
        assert [await desk.read() for desk in desks] == [1] * 6

    world.run(main)


def test_a_call_into_its_own_chain_fails_at_once_and_names_the_chain(world):
    async def main():
        one, two, three = [await Desk.get_or_create(name) for name in "123"]
        with pytest.raises(CallCycle) as error:
            await asyncio.wait_for(one.pass_on([two, three, one]), 25)
        assert isinstance(error.value, CallFailed)
        text = "Desk[1].pass_on -> Desk[2].pass_on -> Desk[3].pass_on -> Desk[1].pass_on"
        assert text in str(error.value)
        assert [await desk.read() for desk in (one, two, three)] == [0, 0, 0]

    world.run(main)


def test_an_object_that_calls_itself_through_a_handle_gets_call_cycle(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        with pytest.raises(CallCycle, match=r"Desk\[d1\]\.call_itself -> Desk\[d1\]\.add"):
            await asyncio.wait_for(desk.call_itself(), 25)
        assert await desk.add() == 1

    world.run(main)


def test_a_call_cycle_can_be_caught_inside_like_any_exception(world):
    async def main():
        one, two = await Desk.get_or_create("1"), await Desk.get_or_create("2")
        assert "Desk[2].pass_on -> Desk[1].pass_on" in await one.survive_the_cycle([two])
        assert await one.read() == 1

    world.run(main)


def test_a_method_may_look_at_its_own_object_beside_the_mailbox(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        await desk.note("seen")
        assert await asyncio.wait_for(desk.look_at_itself(), 25) == ["seen"]

    world.run(main)


def test_inside_a_method_everything_of_durable_works_as_outside(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        assert await desk.use_everything() == [["other"], 3, False, True, 3, True, False]

    world.run(main)


def test_what_other_objects_have_done_is_not_undone_by_a_later_exception(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        with pytest.raises(ValueError, match="later"):
            await desk.create_and_fail()
        assert await desk.read() == 0
        assert (await Desk.get_or_create("created")).value == 7

    world.run(main)


def test_a_full_mailbox_answers_overloaded_and_the_others_run(tmp_path):
    async def main():
        desk = await Desk.get_or_create("d1")
        staying = desk.stay("a")
        await doors.until_inside("a")
        waiting = [durable.options(desk, timeout=10).note(str(number)) for number in range(12)]
        with pytest.raises(Overloaded) as error:
            await waiting[-1]
        assert isinstance(error.value, CallRejected)
        assert error.value.retry_after_s > 0
        doors.door("a").set()
        await staying
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        ran = [str(number) for number, outcome in enumerate(ended) if outcome is None]
        await durable.refresh(desk)
        assert [entry for entry in desk.log if entry.isdigit()] == ran
        assert len(ran) >= 5
        await desk.note("again")

    Served(tmp_path / "data", Limits(mailbox_calls_max=5)).run(main)


def test_shared_calls_run_together(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        calls = [desk.read_slowly(name) for name in "abc"]
        await doors.until_inside("a", "b", "c")
        for name in "cab":
            doors.door(name).set()
        assert await asyncio.gather(*calls) == [0, 0, 0]
        assert doors.inside_max == 3

    world.run(main)


def test_a_shared_call_keeps_its_place_behind_the_calls_before_it(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        desk.add(1)
        assert await desk.read() == 1
        desk.add(1)
        assert await desk.read_at_once() == 2

    world.run(main)


def test_a_shared_call_never_runs_beside_another_method(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        shared, exclusive, behind = desk.read_slowly("a"), desk.add(5), desk.read()
        await doors.until_inside("a")
        assert not any(call._arrival.future.done() for call in (exclusive, behind))
        doors.door("a").set()
        assert await asyncio.gather(shared, exclusive, behind) == [0, 5, 5]

    world.run(main)


@pytest.mark.parametrize("method", ["read_and_write", "read_and_save"])
def test_a_shared_method_that_changes_state_fails_and_is_undone(world, method):
    async def main():
        desk = await Desk.get_or_create("d1")
        await desk.add(3)
        with pytest.raises(Exception, match="shared"):
            await getattr(desk, method)()
        assert await desk.read() == 3
        assert await desk.add() == 4

    world.run(main)


def test_a_change_by_a_shared_method_fails_those_that_run_beside_it(world):
    async def main():
        desk = await Desk.get_or_create("d1")
        beside = desk.read_slowly("a")
        await doors.until_inside("a")
        with pytest.raises(Exception, match="shared"):
            await desk.read_and_write()
        doors.door("a").set()
        with pytest.raises(Exception, match=r".+"):
            await beside
        assert await desk.read() == 0

    world.run(main)
