"""A handle: what it shows, what it sends, and what kind of Python value it is."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
from dataclasses import dataclass

import pytest
from harness.loop import on_loop
from harness.memory import MemoryObjects

from perdure import (
    BadArguments,
    BadObjectId,
    DurableContext,
    DurableObject,
    NotLoaded,
    ObjectNotFound,
    StateNotStorable,
    UnknownMethod,
    UnknownType,
    ctx,
    durable,
)
from perdure.codec import decode, encode
from perdure.context import current_turn
from perdure.frames import Kind
from perdure.handle import Handle, reference


@dataclass
class BasketLine:
    item: str
    quantity: int


@durable.error
class HandleSoldOut(Exception):
    pass


@durable.object
class Basket(DurableObject):
    """What customers put things into."""

    LIMIT = 3

    def __init__(self, basket_id: str) -> None:
        super().__init__(basket_id)
        self.items: list[BasketLine] = []
        self.note = ""
        self.friend: Basket | None = None
        self._index = {}

    async def add(self, item: str, quantity: int = 1) -> int:
        """Put something in."""
        self.items.append(BasketLine(item, quantity))
        return len(self.items)

    def total(self) -> int:
        return sum(line.quantity for line in self.items)

    async def fail(self, text: str) -> None:
        self.note = "about to fail"
        await self.save()
        raise HandleSoldOut(text)

    async def pay(self, ctx: DurableContext, amount: int = 1) -> str:
        return f"{ctx.call_id}: {amount}"

    async def befriend(self, other: Basket) -> str:
        self.friend = other
        return other.object_id

    async def total_of(self, other: Basket) -> int:
        return await durable.call(other.total)

    async def grow(self, size: int) -> None:
        self.large = "x" * size

    async def shrink(self) -> None:
        del self.large

    async def shadow(self) -> None:
        self.total = 5

    async def echo(self, value):
        return value

    def _secret(self) -> None: ...

    @property
    def first(self) -> str:
        return self.items[0].item

    @property
    def size(self) -> int:
        return len(self.large)

    @property
    def by_index(self) -> str:
        return self._index["x"]

    @staticmethod
    def static() -> None: ...


@pytest.fixture
def objects():
    made = MemoryObjects()
    token = current_turn.set(made)
    yield made
    current_turn.reset(token)


@on_loop
async def test_get_or_create_makes_an_object_once(objects):
    first = await Basket.get_or_create("u1")
    await first.add("apple")
    second = await Basket.get_or_create("u1")

    assert second.items == [BasketLine("apple", 1)]


@on_loop
async def test_an_attribute_is_the_value_as_of_the_last_answer(objects):
    basket = await Basket.get_or_create("u1")
    assert basket.items == []

    call = basket.add("apple", 2)
    assert basket.items == []
    await call

    assert basket.items == [BasketLine("apple", 2)]


@on_loop
async def test_an_answer_brings_what_others_have_changed(objects):
    mine, theirs = await Basket.get_or_create("u1"), await Basket.get_or_create("u1")
    await theirs.add("pear")

    await mine.echo(None)

    assert mine.items == [BasketLine("pear", 1)]


@on_loop
async def test_an_answer_that_nobody_awaits_is_seen_all_the_same(objects):
    basket = await Basket.get_or_create("u1")
    basket.add("apple")
    await basket.echo(None)
    assert basket.items == [BasketLine("apple", 1)]


@on_loop
async def test_an_error_brings_what_was_saved_before_it(objects):
    basket = await Basket.get_or_create("u1")

    with pytest.raises(HandleSoldOut, match="sorry"):
        await basket.fail("sorry")

    assert basket.note == "about to fail"


@on_loop
async def test_values_read_from_a_handle_are_copies(objects):
    basket = await Basket.get_or_create("u1")
    basket.items.append("mine alone")
    assert basket.items == []


@on_loop
async def test_a_deleted_attribute_is_gone_from_the_handle(objects):
    basket = await Basket.get_or_create("u1")
    await basket.grow(10)
    assert basket.large == "x" * 10
    await basket.shrink()
    with pytest.raises(AttributeError, match="no attribute of that name"):
        _ = basket.large


@on_loop
async def test_an_attribute_over_16_kib_is_not_loaded_and_the_others_are(objects):
    basket = await Basket.get_or_create("u1")
    await basket.grow(20_000)

    with pytest.raises(NotLoaded, match=r"await durable\.refresh\(handle\)"):
        _ = basket.large
    with pytest.raises(NotLoaded):
        hasattr(basket, "large")
    with pytest.raises(NotLoaded):
        getattr(basket, "large", None)
    with pytest.raises(NotLoaded):
        _ = basket.size
    assert basket.note == ""


@on_loop
async def test_refresh_loads_everything_however_large(objects):
    basket = await Basket.get_or_create("u1")
    await basket.grow(100_000)

    assert await durable.refresh(basket) is basket

    assert basket.large == "x" * 100_000
    assert basket.size == 100_000


@on_loop
async def test_a_handle_cannot_be_written(objects):
    basket = await Basket.get_or_create("u1")

    with pytest.raises(AttributeError, match=r"note cannot be set from outside"):
        basket.note = "mine"
    with pytest.raises(AttributeError, match=r"note cannot be deleted from outside"):
        del basket.note
    with pytest.raises(AttributeError):
        basket.object_id = "other"


@on_loop
async def test_an_unknown_name_is_an_attribute_error_with_a_hint_and_nothing_is_sent(objects):
    basket = await Basket.get_or_create("u1")
    objects.sent.clear()

    with pytest.raises(UnknownMethod, match="did you mean 'total'"):
        basket.totla()
    with pytest.raises(AttributeError, match="did you mean 'items'"):
        _ = basket.itmes
    assert not hasattr(basket, "last_page")
    assert objects.sent == []


@pytest.mark.parametrize("name", ["_secret", "_index", "_repr_html_", "__len__", "__getstate"])
def test_names_with_an_underscore_are_attribute_errors_at_once(objects, name):
    with pytest.raises(AttributeError):
        getattr(durable.ref(Basket, "u1"), name)


@pytest.mark.parametrize("name", ["static", "save", "get_or_create", "on_activate"])
def test_what_is_not_callable_is_not_on_a_handle(objects, name):
    async def main():
        basket = await Basket.get_or_create("u1")
        with pytest.raises(AttributeError):
            getattr(basket, name)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda b: b.add(), r"Basket\.add\(\) missing 1 required positional argument: 'item'"),
        (lambda b: b.add("x", 1, 2), r"Basket\.add\(\) takes"),
        (lambda b: b.add("x", amount=1), r"unexpected keyword argument 'amount'"),
        (lambda b: b.add("x", quantty=1), r"[Dd]id you mean 'quantity'"),
        (lambda b: b.add("x", item="y"), r"multiple values for argument 'item'"),
        (lambda b: b.add(lambda: 1), r"Basket\.add\(\) argument item: function cannot be sent"),
        (lambda b: b.echo({"a": [1, print]}), r"argument value\['a'\]\[1\]: .*cannot be sent"),
        (lambda b: b.echo(value={1, object()}), r"argument value.*object"),
        (lambda b: b.echo(ctx), r"argument value.* cannot be sent"),
        (lambda b: b.pay(1, 2, 3), r"Basket\.pay\(\) takes"),
        (lambda b: b.pay(ctx=5), r"takes a DurableContext as 'ctx', or nothing"),
    ],
)
def test_wrong_arguments_are_a_type_error_at_once_and_nothing_is_sent(objects, call, text):
    basket = durable.ref(Basket, "u1")

    with pytest.raises(BadArguments, match=text) as error:
        call(basket)

    assert isinstance(error.value, TypeError)
    assert objects.sent == []


@on_loop
async def test_calls_take_their_place_when_they_are_made(objects):
    basket = await Basket.get_or_create("u1")
    first, second, third = basket.add("a"), basket.add("b"), basket.add("c")

    assert [await third, await first, await second] == [3, 1, 2]
    assert [line.item for line in basket.items] == ["a", "b", "c"]


@on_loop
async def test_a_call_that_nobody_awaits_is_made(objects):
    basket = await Basket.get_or_create("u1")
    basket.add("apple")
    gc.collect()
    assert await basket.total() == 1


@on_loop
async def test_giving_up_the_waiting_does_not_cancel_the_method(objects):
    basket = await Basket.get_or_create("u1")
    call = basket.add("apple")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0)
    assert await call == 1
    assert await basket.total() == 1


@on_loop
async def test_the_context_may_be_passed_or_left_out(objects):
    basket = await Basket.get_or_create("u1")

    texts = [
        await basket.pay(),
        await basket.pay(ctx),
        await basket.pay(ctx=ctx),
        await basket.pay(ctx, 1),
        await basket.pay(1),
        await basket.pay(None, amount=1),
    ]

    assert all(text.endswith(": 1") for text in texts)
    assert len(set(texts)) == len(texts)


@on_loop
async def test_a_handle_travels_as_a_reference(objects):
    basket, other = await Basket.get_or_create("u1"), await Basket.get_or_create("u2")
    await other.add("pear", 4)

    assert await basket.befriend(other) == "u2"
    assert basket.friend == other
    assert await basket.total_of(other) == 4
    assert await basket.echo({"who": [other]}) == {"who": [other]}
    assert await basket.friend.total() == 4


@on_loop
async def test_a_call_to_an_object_that_is_not_there_is_object_not_found(objects):
    with pytest.raises(ObjectNotFound, match=r"Basket\.get_or_create\('nobody'\) makes one"):
        await durable.ref(Basket, "nobody").total()


@on_loop
async def test_an_attribute_of_a_method_s_name_fails_the_call(objects):
    basket = await Basket.get_or_create("u1")
    with pytest.raises(StateNotStorable, match=r"Basket\.total: is a method"):
        await basket.shadow()
    assert await basket.total() == 0


@on_loop
async def test_class_attributes_and_properties_are_read_here(objects):
    basket = await Basket.get_or_create("u1")
    await basket.add("apple")
    objects.sent.clear()

    assert basket.LIMIT == 3
    assert basket.first == "apple"
    with pytest.raises(AttributeError, match="_index"):
        _ = basket.by_index
    assert objects.sent == []


def test_a_handle_without_a_snapshot_says_so(objects):
    basket = durable.ref(Basket, "u1")

    with pytest.raises(NotLoaded, match=r"Basket\[u1\]\.items"):
        _ = basket.items
    with pytest.raises(NotLoaded, match=r"Basket\[u1\]\.first"):
        _ = basket.first
    assert basket.LIMIT == 3


@on_loop
async def test_the_first_answer_gives_a_handle_without_a_snapshot_the_whole_state(objects):
    await (await Basket.get_or_create("u1")).add("apple")
    basket = durable.ref(Basket, "u1")

    await basket.echo(None)

    assert basket.items == [BasketLine("apple", 1)]
    assert basket.note == ""


def test_handles_are_equal_when_type_and_id_are(objects):
    one, same, other = (durable.ref(Basket, i) for i in ("u1", "u1", "u2"))

    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "u1"
    assert one in [same]
    assert len({one, same, other}) == 2


def test_a_handle_is_an_instance_of_its_class_and_its_type_is_handle(objects):
    basket = durable.ref(Basket, "u1")

    assert isinstance(basket, Basket)
    assert isinstance(basket, DurableObject)
    assert type(basket) is Handle
    assert basket.__class__ is Basket
    assert basket
    assert repr(basket) == "<Basket 'u1'>"
    assert basket.object_id == "u1"


@on_loop
async def test_pickle_and_deepcopy_carry_the_reference_and_copy_the_snapshot_too(objects):
    basket = await Basket.get_or_create("u1")
    await basket.add("apple")

    for other in (pickle.loads(pickle.dumps(basket)), copy.deepcopy({"k": basket})["k"]):
        assert other == basket
        assert type(other) is Handle
        with pytest.raises(NotLoaded):
            _ = other.items
    assert copy.copy(basket).items == [BasketLine("apple", 1)]


@on_loop
async def test_a_copied_snapshot_goes_its_own_way(objects):
    basket = await Basket.get_or_create("u1")
    copied = copy.copy(basket)
    await basket.add("apple")
    assert copied.items == []
    assert await copied.total() == 1
    assert copied.items == [BasketLine("apple", 1)]


def test_a_method_of_a_handle_looks_like_a_coroutine_function(objects):
    basket = durable.ref(Basket, "u1")

    assert str(inspect.signature(basket.add)) == "(item: 'str', quantity: 'int' = 1) -> 'int'"
    assert str(inspect.signature(basket.pay)) == "(amount: 'int' = 1) -> 'str'"
    assert basket.add.__doc__ == "Put something in."
    assert basket.add.__name__ == "add"
    assert inspect.iscoroutinefunction(basket.add)
    assert inspect.iscoroutinefunction(basket.total)
    assert callable(basket.add)


def test_dir_lists_what_can_be_called_and_read(objects):
    names = dir(durable.ref(Basket, "u1"))

    assert {"add", "total", "first", "LIMIT", "object_id"} <= set(names)
    assert not {name for name in names if name.startswith("_")}


def test_a_reference_to_a_type_that_nobody_knows_fails_when_it_is_used():
    unknown = decode(encode([reference("NoSuchTypeHere", "u1")]))[0]

    assert repr(unknown) == "<NoSuchTypeHere 'u1'>"
    assert unknown == reference("NoSuchTypeHere", "u1")
    with pytest.raises(UnknownType, match="NoSuchTypeHere"):
        unknown.add()


@pytest.mark.parametrize(
    ("object_id", "error"),
    [
        ("", BadObjectId),
        ("a\0b", BadObjectId),
        ("x" * 513, BadObjectId),
        ("é" * 257, BadObjectId),
        ("\ud800", BadObjectId),
        (5, TypeError),
        (None, TypeError),
        (b"x", TypeError),
        (type("Name", (str,), {})("x"), TypeError),
    ],
)
def test_an_id_is_exactly_a_str_of_at_most_512_bytes(objects, object_id, error):
    for use in (Basket.get_or_create, lambda i: durable.ref(Basket, i)):
        with pytest.raises(error):
            use(object_id)
    assert objects.sent == []


@on_loop
async def test_ids_are_kept_byte_for_byte(objects):
    for object_id in ("é", "e\u0301", " ", "x" * 512, "日本", "A/b:c[d]"):
        assert (await Basket.get_or_create(object_id)).object_id == object_id
    assert len({target for kind, target, _ in objects.sent if kind is Kind.GET_OR_CREATE}) == 6


def test_a_call_where_no_loop_runs_is_a_runtime_error_that_names_sync_run():
    with pytest.raises(RuntimeError, match=r"perdure\.sync\.run"):
        durable.ref(Basket, "u1").total()
    with pytest.raises(RuntimeError, match=r"perdure\.sync\.run"):
        Basket.get_or_create("u1")
