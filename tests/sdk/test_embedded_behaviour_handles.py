"""Handles, end to end: embedded and on a node."""

from __future__ import annotations

import asyncio
import gc
import pickle

import pytest
from harness.world import Embedded, Served, World

from perdure import (
    BadArguments,
    DeadlineExceeded,
    DurableObject,
    KeyReused,
    NotLoaded,
    ObjectNotFound,
    UnknownMethod,
    durable,
)


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


@durable.object
class Page(DurableObject):
    def __init__(self, page_id: str) -> None:
        super().__init__(page_id)
        self.page_views = 0
        self.log: list[str] = []
        self.friend: Page | None = None

    async def add(self, entry: str) -> int:
        self.log.append(entry)
        return len(self.log)

    async def view(self) -> int:
        self.page_views += 1
        return self.page_views

    async def read(self) -> list[str]:
        return self.log

    async def wait(self, entry: str) -> None:
        gate = gate_of(self.object_id)
        self.log.append(f"{entry} begins")
        await self.save()
        await gate.wait()
        self.log.append(f"{entry} ends")

    async def befriend(self, friend: Page) -> Page:
        self.friend = friend
        return friend

    async def view_friend(self) -> int:
        return await self.friend.view()

    async def grow(self, name: str, size: int) -> None:
        setattr(self, name, "x" * size)

    async def fail(self) -> None:
        self.page_views = -1
        await self.save()
        raise ValueError("after the save")


gates: dict[str, asyncio.Event] = {}


def gate_of(name: str) -> asyncio.Event:
    """Return the event that `Page.wait` waits for; the node lives in the same loop."""
    return gates.setdefault(name, asyncio.Event())


@pytest.fixture(autouse=True)
def new_gates():
    gates.clear()


async def logged(page: Page, entry: str) -> None:
    """Return when an entry has been saved, by reading beside the method that runs."""
    while entry not in page.log:
        await durable.refresh(page)


def test_get_or_create_creates_once_and_durably(world):
    async def create():
        await (await Page.get_or_create("p1")).view()

    async def again():
        assert (await Page.get_or_create("p1")).page_views == 1

    world.run(create)
    world.run(again)


def test_a_call_is_sent_at_the_call_and_order_is_the_order_of_calls(world):
    async def main():
        page = await Page.get_or_create("p1")
        calls = [page.add(str(number)) for number in range(50)]
        assert await calls[-1] == 50
        assert await asyncio.gather(*reversed(calls)) == list(range(50, 0, -1))
        assert await page.read() == [str(number) for number in range(50)]

    world.run(main)


def test_a_call_works_with_everything_that_asyncio_has(world):
    async def main():
        page = await Page.get_or_create("p1")
        call = page.view()
        assert await call == await call == 1
        assert await asyncio.wait_for(page.view(), 60) == 2
        assert await asyncio.create_task(page.view()) == 3
        assert await asyncio.gather(page.view(), page.view()) == [4, 5]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(page.view())
        assert task.result() == 6

    world.run(main)


def test_a_call_that_is_never_awaited_is_executed(world):
    async def call():
        page = await Page.get_or_create("p1")
        page.add("never awaited")
        gc.collect()

    async def read():
        assert await (await Page.get_or_create("p1")).read() == ["never awaited"]

    world.run(call)
    world.run(read)


def test_an_error_that_nobody_retrieves_is_logged(world, caplog):
    async def main():
        page = await Page.get_or_create("p1")
        page.fail()
        await page.view()
        gc.collect()

    world.run(main)
    gc.collect()
    messages = [r.getMessage() for r in caplog.records if r.name == "perdure.call"]
    assert messages == ["Page.fail() failed and nobody awaited it: ValueError: after the save"]


def test_an_attribute_is_the_value_as_of_the_last_answer_of_this_handle(world):
    async def main():
        mine, theirs = await Page.get_or_create("p1"), await Page.get_or_create("p1")
        await theirs.view()
        await theirs.add("theirs")
        assert (mine.page_views, mine.log) == (0, [])
        await mine.view()
        assert (mine.page_views, mine.log) == (2, ["theirs"])
        assert theirs.page_views == 1

    world.run(main)


def test_a_handle_reads_its_own_writes_and_never_goes_back_in_time(world):
    async def main():
        page = await Page.get_or_create("p1")
        seen = []

        async def view():
            written = await page.view()
            assert page.page_views >= written
            seen.append(page.page_views)

        await asyncio.gather(*(view() for _ in range(30)))
        assert seen == sorted(seen)

    world.run(main)


def test_an_error_brings_changes_too(world):
    async def main():
        page = await Page.get_or_create("p1")
        with pytest.raises(ValueError, match="after the save"):
            await page.fail()
        assert page.page_views == -1

    world.run(main)


def test_values_are_copies(world):
    async def main():
        page = await Page.get_or_create("p1")
        entries = ["a"]
        result = await page.add(entries[0])
        page.log.append("mine")
        read = await page.read()
        read.append("mine too")
        assert result == 1
        assert page.log == await page.read() == ["a"]

    world.run(main)


def test_an_attribute_over_16_kib_raises_not_loaded_and_refresh_loads_it(world):
    async def main():
        page = await Page.get_or_create("p1")
        await page.grow("large", 17_000)
        with pytest.raises(NotLoaded, match=r"Page\[p1\]\.large.*durable\.refresh"):
            _ = page.large
        assert page.page_views == 0
        await durable.refresh(page)
        assert len(page.large) == 17_000
        await page.view()
        assert len(page.large) == 17_000
        await page.grow("large", 18_000)
        with pytest.raises(NotLoaded):
            _ = page.large
        await page.grow("large", 10)
        assert page.large == "x" * 10

    world.run(main)


def test_what_passes_64_kib_in_all_is_left_out(world):
    async def main():
        page = await Page.get_or_create("p1")
        for number in range(6):
            await page.grow(f"part{number}", 15_000)
        fresh = await Page.get_or_create("p1")
        loaded = 0
        for number in range(6):
            try:
                loaded += len(getattr(fresh, f"part{number}"))
            except NotLoaded:
                continue
        assert loaded == 4 * 15_000
        assert fresh.page_views == 0
        await durable.refresh(fresh)
        assert [len(getattr(fresh, f"part{number}")) for number in range(6)] == [15_000] * 6

    world.run(main)


def test_state_cannot_be_set_from_outside(world):
    async def main():
        page = await Page.get_or_create("p1")
        with pytest.raises(AttributeError, match="state changes in methods only"):
            page.page_views = 5
        assert await page.view() == 1

    world.run(main)


def test_unknown_methods_and_wrong_arguments_raise_at_once(world):
    async def main():
        page = await Page.get_or_create("p1")
        with pytest.raises(UnknownMethod, match="did you mean 'view'"):
            page.veiw()
        with pytest.raises(AttributeError):
            page._view()
        with pytest.raises(BadArguments, match="missing 1 required positional argument"):
            page.add()
        with pytest.raises(TypeError):
            page.add("a", "b")

    world.run(main)


def test_a_handle_in_state_or_as_an_argument_travels_as_a_reference(world):
    async def main():
        page, friend = await Page.get_or_create("p1"), await Page.get_or_create("p2")
        assert await page.befriend(friend) == friend
        assert isinstance(page.friend, Page)
        assert await page.view_friend() == 1
        assert await page.friend.view() == 2

    async def later():
        page = await Page.get_or_create("p1")
        assert await page.view_friend() == 3
        assert page.friend == durable.ref(Page, "p2")

    world.run(main)
    world.run(later)


def test_only_get_or_create_creates(world):
    async def main():
        nobody = durable.ref(Page, "nobody")
        with pytest.raises(ObjectNotFound):
            await nobody.view()
        with pytest.raises(ObjectNotFound):
            await durable.refresh(nobody)
        assert not await durable.exists(Page, "nobody")

    world.run(main)


def test_exists_delete_list_refresh_and_partition_do_what_their_names_say(world):
    async def main():
        names = [f"user:{number:03}" for number in range(30)] + ["other"]
        pages = await asyncio.gather(*(Page.get_or_create(name) for name in names))
        found = [page async for page in durable.list(Page, prefix="user:")]
        assert [page.object_id for page in found] == names[:30]
        assert [p.object_id async for p in durable.list(Page, limit=2)] == ["other", "user:000"]
        assert await found[3].view() == 1
        assert await durable.exists(Page, "other")
        assert await durable.delete(pages[-1]) is True
        assert await durable.delete(pages[-1]) is False
        assert not await durable.exists(Page, "other")
        assert [p.object_id async for p in durable.list(Page, prefix="o")] == []
        assert len({durable.partition(page) for page in pages}) > 1

    world.run(main)


def test_delete_takes_its_turn_and_what_comes_after_begins_anew(world):
    async def main():
        page = await Page.get_or_create("p1")
        before, deleted, behind = page.view(), durable.delete(page), page.view()
        with pytest.raises(ObjectNotFound):
            await behind
        assert (await before, await deleted) == (1, True)
        again = await Page.get_or_create("p1")
        assert again.page_views == 0
        assert await page.view() == 1
        assert page.page_views == 1

    async def later():
        assert (await Page.get_or_create("p1")).page_views == 1

    world.run(main)
    world.run(later)


def test_a_deletion_is_durable(world):
    async def delete():
        await durable.delete(await Page.get_or_create("p1"))

    async def look():
        assert not await durable.exists(Page, "p1")

    world.run(delete)
    world.run(look)


def test_get_or_create_and_refresh_wait_for_no_method(world):
    async def main():
        page = await Page.get_or_create("p1")
        running = page.wait("slow")
        await logged(page, "slow begins")
        beside = await Page.get_or_create("p1")
        assert beside.log == ["slow begins"]
        assert await durable.exists(Page, "p1")
        gate_of("p1").set()
        await running
        assert page.log == ["slow begins", "slow ends"]

    world.run(main)


def test_a_key_makes_two_calls_one_and_counts_per_object_and_method(world):
    async def first():
        page, other = await Page.get_or_create("p1"), await Page.get_or_create("p2")
        keyed = durable.options(page, key="pay-789")
        assert await keyed.add("once") == 1
        assert await keyed.add("once") == 1
        assert await keyed.add(entry="once") == 1
        assert await keyed.view() == 1
        assert await durable.options(other, key="pay-789").add("once") == 1
        with pytest.raises(KeyReused, match="pay-789"):
            await keyed.add("another")
        assert await page.read() == ["once"]

    async def second():
        page = await Page.get_or_create("p1")
        assert await durable.options(page, key="pay-789").add("once") == 1
        assert await page.read() == ["once"]

    world.run(first)
    world.run(second)


def test_a_deadline_ends_the_waiting_and_not_the_method(world):
    async def main():
        page = await Page.get_or_create("p1")
        timeout_s = 0.2
        while not page.log:  # It has not begun in time, where the machine is busy.
            with pytest.raises(DeadlineExceeded) as error:
                await durable.options(page, timeout=timeout_s).wait("slow")
            await durable.refresh(page)
            timeout_s *= 2
        assert isinstance(error.value, TimeoutError)
        gate_of("p1").set()
        assert await page.read() == ["slow begins", "slow ends"]

    world.run(main)


def test_a_caller_that_gives_up_does_not_cancel_the_method(world):
    async def main():
        page = await Page.get_or_create("p1")
        call = page.wait("slow")
        await logged(page, "slow begins")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.05)
        task = asyncio.create_task(call)
        await asyncio.sleep(0)
        task.cancel()
        gate_of("p1").set()
        assert await page.read() == ["slow begins", "slow ends"]
        assert await call is None

    world.run(main)


def test_ids_are_kept_byte_for_byte(world):
    names = sorted(["é", "e\u0301", " ", "a/b", "x" * 512, "日本" * 85], key=str.encode)

    async def create():
        for name in names:
            assert (await Page.get_or_create(name)).object_id == name
            await durable.ref(Page, name).view()

    async def read():
        assert [page.object_id async for page in durable.list(Page)] == names
        for name in names:
            assert (await Page.get_or_create(name)).page_views == 1

    world.run(create)
    world.run(read)


def test_a_pickled_handle_is_the_same_object_elsewhere(world):
    async def create():
        page = await Page.get_or_create("p1")
        await page.view()
        return pickle.dumps(page)

    async def use(data):
        page = pickle.loads(data)
        assert await page.view() == 2
        assert page.page_views == 2

    world.run(use, world.run(create))
