"""What `durable` offers for types and handles."""

from __future__ import annotations

import asyncio

import pytest
from harness.loop import on_loop
from harness.memory import MemoryObjects

from perdure import BadKey, DurableObject, ObjectNotFound, durable
from perdure.client import Answer
from perdure.context import current_turn
from perdure.errors import Code
from perdure.frames import Changes, Kind, Reply
from perdure.handle import Handle
from perdure.ids import ObjectKey, partition_of


@durable.object
class Shelf(DurableObject):
    def __init__(self, shelf_id: str) -> None:
        super().__init__(shelf_id)
        self.books = 0

    async def put(self, count: int = 1) -> int:
        self.books += count
        return self.books

    def total(self) -> int:
        return self.books


@durable.object
class OtherShelf(DurableObject):
    pass


@pytest.fixture
def objects():
    made = MemoryObjects()
    token = current_turn.set(made)
    yield made
    current_turn.reset(token)


async def ids(found) -> list[str]:
    return [handle.object_id async for handle in found]


@on_loop
async def test_exists_tells_from_creation_to_deletion(objects):
    assert await durable.exists(Shelf, "a") is False
    shelf = await Shelf.get_or_create("a")
    assert await durable.exists(Shelf, "a") is True
    assert await durable.exists(OtherShelf, "a") is False
    assert await durable.delete(shelf) is True
    assert await durable.exists(Shelf, "a") is False
    assert await durable.delete(shelf) is False


@on_loop
async def test_delete_takes_its_turn(objects):
    shelf = await Shelf.get_or_create("a")
    before, deleted, after = shelf.put(), durable.delete(shelf), shelf.put()

    with pytest.raises(ObjectNotFound):
        await after
    assert await before == 1
    assert await deleted is True


@on_loop
async def test_after_delete_get_or_create_begins_anew(objects):
    shelf = await Shelf.get_or_create("a")
    await shelf.put(5)
    await durable.delete(shelf)

    assert (await Shelf.get_or_create("a")).books == 0
    await shelf.put()
    assert shelf.books == 1


@on_loop
async def test_list_gives_handles_in_the_order_of_their_ids_over_all_partitions(objects):
    names = ["b", "a", "ab", "é", "z", "日本", "A", "\U0001f600", "\uffff"]
    for name in [*names, "z2", "z3", "z4", "z5", "z6", "z7"]:
        await Shelf.get_or_create(name)
    await OtherShelf.get_or_create("c")

    found = await ids(durable.list(Shelf))

    assert found == sorted([*names, "z2", "z3", "z4", "z5", "z6", "z7"], key=str.encode)


@on_loop
async def test_list_takes_a_prefix_and_a_limit(objects):
    for name in ["a1", "a2", "a3", "b1"]:
        await Shelf.get_or_create(name)

    assert await ids(durable.list(Shelf, prefix="a")) == ["a1", "a2", "a3"]
    assert await ids(durable.list(Shelf, prefix="a", limit=2)) == ["a1", "a2"]
    assert await ids(durable.list(Shelf, "b")) == ["b1"]
    assert await ids(durable.list(Shelf, "c")) == []
    assert await ids(durable.list(Shelf, limit=0)) == []


@on_loop
async def test_list_is_paged_and_its_handles_have_no_snapshot(objects):
    for number in range(9):
        await Shelf.get_or_create(f"s{number}")
    objects.sent.clear()

    async for shelf in durable.list(Shelf):
        assert type(shelf) is Handle
        break

    asked = [method for kind, _, method in objects.sent if kind is Kind.LIST]
    assert len(asked) < 9


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"prefix": 5}, TypeError),
        ({"limit": -1}, ValueError),
        ({"limit": 1.5}, ValueError),
        ({"limit": True}, ValueError),
    ],
)
def test_list_refuses_what_it_cannot_mean(options, error):
    with pytest.raises(error):
        durable.list(Shelf, **options)


@on_loop
async def test_refresh_brings_what_others_have_done(objects):
    mine, theirs = await Shelf.get_or_create("a"), await Shelf.get_or_create("a")
    await theirs.put(7)
    assert mine.books == 0

    await durable.refresh(mine)

    assert mine.books == 7


@on_loop
async def test_refresh_of_an_object_that_is_not_there_is_object_not_found(objects):
    with pytest.raises(ObjectNotFound):
        await durable.refresh(durable.ref(Shelf, "nobody"))


@on_loop
async def test_refresh_asks_again_when_a_later_answer_has_overtaken_it(objects):
    shelf = await Shelf.get_or_create("a")
    snapshot = shelf._perdure_snapshot
    epoch, number = snapshot.version
    overtaking = Answer(Code.OK, Reply(b"", [epoch, number + 1], Changes(False, {}, [], ["books"])))
    refreshing = asyncio.create_task(durable.refresh(shelf))
    await asyncio.sleep(0)
    snapshot.take(overtaking)
    await shelf.put()

    await refreshing

    assert shelf.books == 1
    assert [kind for kind, _, _ in objects.sent].count(Kind.GET) >= 2


@on_loop
async def test_ref_is_a_handle_without_a_round_trip(objects):
    shelf = durable.ref(Shelf, "a")
    assert objects.sent == []
    await Shelf.get_or_create("a")
    assert await shelf.put() == 1


def test_partition_is_computed_here(objects):
    shelf = durable.ref(Shelf, "a")

    assert durable.partition(shelf) == partition_of(ObjectKey("Shelf", "a"), 4)
    assert objects.sent == []


def test_partition_says_when_it_cannot_know_yet(objects):
    objects.partition_count = None
    with pytest.raises(RuntimeError, match="once something has been answered"):
        durable.partition(durable.ref(Shelf, "a"))


class Recorder(MemoryObjects):
    def call(self, target, kind, method="", **options):
        self.options = {"key": options.get("key"), "timeout_s": options.get("timeout_s")}
        return super().call(target, kind, method, **options)


@on_loop
async def test_options_make_another_handle_whose_calls_have_them():
    objects = Recorder()
    current_turn.set(objects)
    shelf = await Shelf.get_or_create("a")
    careful = durable.options(shelf, key="pay-789", timeout=5)

    assert careful is not shelf
    assert careful == shelf
    await careful.put()
    assert objects.options == {"key": "pay-789", "timeout_s": 5}
    await shelf.put()
    assert objects.options == {"key": None, "timeout_s": 30.0}
    await durable.options(shelf, timeout=None).put()
    assert objects.options == {"key": None, "timeout_s": None}


@on_loop
async def test_a_handle_and_the_one_with_options_show_the_same(objects):
    shelf = await Shelf.get_or_create("a")

    await durable.options(shelf, key="k").put(3)

    assert shelf.books == 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"key": ""}, BadKey),
        ({"key": "x" * 257}, BadKey),
        ({"key": "é" * 129}, BadKey),
        ({"key": "a\0"}, BadKey),
        ({"key": "\ud800"}, BadKey),
        ({"key": 5}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "5"}, TypeError),
        ({"timeout": True}, TypeError),
    ],
)
def test_options_refuse_what_they_cannot_mean(options, error):
    with pytest.raises(error):
        durable.options(durable.ref(Shelf, "a"), **options)


@on_loop
async def test_call_calls_a_method_of_a_handle(objects):
    shelf = await Shelf.get_or_create("a")

    assert await durable.call(shelf.put, 2) == 2
    assert await durable.call(shelf.put, count=3) == 5
    assert await durable.call(shelf.total) == 5


@pytest.mark.parametrize("method", [print, Shelf.total, "total", None])
def test_call_takes_a_method_of_a_handle_and_nothing_else(method):
    with pytest.raises(TypeError, match="takes a method of a handle"):
        durable.call(method)


@pytest.mark.parametrize(
    "use", [durable.delete, durable.partition, durable.options], ids=lambda f: f.__name__
)
def test_what_takes_a_handle_takes_nothing_else(use):
    with pytest.raises(TypeError, match=f"durable.{use.__name__} takes a handle, not str"):
        use("a")


@on_loop
async def test_refresh_takes_a_handle_and_nothing_else():
    with pytest.raises(TypeError, match=r"durable\.refresh takes a handle, not Shelf"):
        await durable.refresh(Shelf("a"))


@pytest.mark.parametrize("use", [durable.exists, durable.ref])
def test_what_takes_a_type_takes_decorated_classes_only(use):
    class ShelfWithoutDecorator(DurableObject):
        pass

    with pytest.raises(TypeError, match=r"decorate the class with @durable\.object"):
        use(ShelfWithoutDecorator, "a")
    with pytest.raises(TypeError, match=r"decorate the class with @durable\.object"):
        durable.list(ShelfWithoutDecorator)
    with pytest.raises(TypeError):
        use("Shelf", "a")
