"""Defining objects: what a class is to Perdure, embedded and on a node."""

from __future__ import annotations

import asyncio
import gc
from datetime import datetime

import pytest
from harness.world import Embedded, Served, World

from perdure import DurableContext, DurableObject, StateNotStorable, UnknownMethod, ctx, durable
from perdure.codec import decode, encode
from perdure.objects import find_type


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


@durable.object
class OrderProcessor(DurableObject):
    def __init__(self, order_id: str):
        super().__init__(order_id)
        self.order_id = order_id
        self.status = "created"
        self.items = []
        self.tags = set()
        self.by_day = {}
        self.created_at = datetime.now()

    async def add_item(self, item_id: str, quantity: int, price: float) -> dict:
        self.items.append({"item_id": item_id, "quantity": quantity, "price": price})
        self.tags.add(item_id)
        self.by_day.setdefault(self.created_at.date(), set()).add(item_id)
        return {"count": len(self.items)}

    async def process_payment(self, ctx: DurableContext, success: bool = True) -> dict:
        self.status = "processing_payment"
        await self.save()
        self.status = "payment_complete" if success else "payment_failed"
        await self.save()
        return {"success": success, "call": ctx.call_id}

    def total(self) -> float:
        return sum(self._line(item) for item in self.items)

    def _line(self, item) -> float:
        return item["quantity"] * item["price"]

    @durable.shared
    async def summary(self) -> dict:
        return {"status": self.status, "items": len(self.items)}


def test_the_class_of_the_programming_model_runs_as_written(world):
    async def first():
        order = await OrderProcessor.get_or_create("o1")
        assert (order.order_id, order.status, order.items) == ("o1", "created", [])
        assert await order.add_item("apple", 2, 1.5) == {"count": 1}
        assert await order.total() == 3.0
        assert (await order.process_payment())["success"]
        assert (await order.process_payment(ctx, True))["success"]
        assert await order.summary() == {"status": "payment_complete", "items": 1}
        return order.created_at

    async def second(created_at):
        order = await OrderProcessor.get_or_create("o1")
        assert order.created_at == created_at
        assert order.tags == {"apple"}
        assert order.by_day == {created_at.date(): {"apple"}}
        assert await order.summary() == {"status": "payment_complete", "items": 1}

    world.run(second, world.run(first))


def test_private_methods_are_never_callable_from_outside(world):
    async def main():
        order = await OrderProcessor.get_or_create("o1")
        with pytest.raises(AttributeError):
            await order._line({"quantity": 1, "price": 1})

    world.run(main)


@durable.object
class Stamp(DurableObject):
    made = 0

    def __init__(self, stamp_id: str) -> None:
        super().__init__(stamp_id)
        Stamp.made += 1
        self.number = Stamp.made
        self.kept = "default"
        self.dropped = "default"

    async def change(self) -> None:
        self.kept = "changed"
        del self.dropped

    async def read(self) -> dict:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    async def later(self, name: str, value: int) -> None:
        setattr(self, name, value)
        setattr(self, f"_{name}", value)

    async def memory_only(self) -> int | None:
        return getattr(self, "_count", None)


def test_state_of_init_is_committed_before_get_or_create_returns(world):
    async def create():
        return (await Stamp.get_or_create("s1")).number

    async def read():
        stamp = await Stamp.get_or_create("s1")
        return stamp.number, (await stamp.read())["number"]

    number = world.run(create)
    assert world.run(read) == (number, number)


def test_concurrent_creators_make_one_object(world):
    async def main():
        handles = await asyncio.gather(*(Stamp.get_or_create("s1") for _ in range(10)))
        assert len({handle.number for handle in handles}) == 1

    world.run(main)


def test_stored_attributes_are_laid_over_the_defaults_and_a_deleted_one_stays_deleted(world):
    async def change():
        stamp = await Stamp.get_or_create("s1")
        await stamp.change()

    async def read():
        stamp = await Stamp.get_or_create("s1")
        assert stamp.kept == "changed"
        assert not hasattr(stamp, "dropped")
        state = await stamp.read()
        assert (state["kept"], "dropped" in state) == ("changed", False)

    world.run(change)
    world.run(read)


def test_an_attribute_is_state_wherever_it_is_assigned_and_underscores_are_memory_only(world):
    async def assign():
        stamp = await Stamp.get_or_create("s1")
        await stamp.later("count", 5)
        assert await stamp.memory_only() == 5

    async def read():
        stamp = await Stamp.get_or_create("s1")
        assert stamp.count == 5
        assert await stamp.memory_only() is None

    world.run(assign)
    world.run(read)


@durable.object
class Indexed(DurableObject):
    def __init__(self, indexed_id: str) -> None:
        super().__init__(indexed_id)
        self.words: list[str] = []
        self.activations = 0
        self.bad = False

    async def on_activate(self) -> None:
        if self.bad:
            raise ValueError("cannot rebuild")
        self._index = {word: place for place, word in enumerate(self.words)}
        self.activations += 1

    async def add(self, word: str) -> None:
        self._index[word] = len(self.words)
        self.words.append(word)

    async def place(self, word: str) -> int:
        return self._index[word]

    async def fail(self) -> None:
        self._index.clear()
        raise RuntimeError("undo")

    async def spoil(self) -> None:
        self.bad = True


def test_on_activate_rebuilds_what_is_in_memory_only_and_its_state_is_committed(world):
    async def write():
        indexed = await Indexed.get_or_create("i1")
        await indexed.add("a")
        await indexed.add("b")
        assert await indexed.place("b") == 1
        return indexed.activations

    async def read():
        indexed = await Indexed.get_or_create("i1")
        assert await indexed.place("b") == 1
        return indexed.activations

    before = world.run(write)
    assert world.run(read) == before + 1


def test_an_undo_drops_what_is_in_memory_only_and_on_activate_runs_again(world):
    async def main():
        indexed = await Indexed.get_or_create("i1")
        await indexed.add("a")
        activations = indexed.activations
        with pytest.raises(RuntimeError, match="undo"):
            await indexed.fail()
        assert await indexed.place("a") == 0
        assert indexed.activations == activations + 1

    world.run(main)


def test_an_exception_of_on_activate_fails_the_call(world):
    async def spoil():
        await (await Indexed.get_or_create("i1")).spoil()

    async def call():
        indexed = await Indexed.get_or_create("i1")
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot rebuild"):
                await indexed.place("a")

    world.run(spoil)
    world.run(call)


@durable.object
class Tree(DurableObject):
    def __init__(self, tree_id: str) -> None:
        super().__init__(tree_id)
        self.left: list[int] = []
        self.right: list[int] = []

    async def alias(self) -> None:
        self.left = self.right = [1]

    async def grow(self) -> None:
        self.left.append(2)


def test_state_is_a_tree_aliasing_is_not_kept_over_a_reload(world):
    async def alias():
        await (await Tree.get_or_create("t1")).alias()

    async def grow():
        tree = await Tree.get_or_create("t1")
        await tree.grow()
        assert (tree.left, tree.right) == ([1, 2], [1])

    world.run(alias)
    world.run(grow)


def define(name: str, **attributes):
    """Define a type anew, as the next version of a program does."""

    async def touch(self) -> None:
        pass

    async def read(self) -> dict:
        return dict(vars(self))

    methods = {"touch": touch, "read": read, "__module__": __name__}
    return durable.object(type(name, (DurableObject,), methods | attributes))


def test_a_new_attribute_gets_its_default_and_is_committed_with_the_next_call(world):
    draws = iter(range(100))

    def second_init(self, object_id):
        DurableObject.__init__(self, object_id)
        self.drawn = next(draws)

    async def create(cls):
        await cls.get_or_create("e1")

    async def touch(cls):
        grown = await cls.get_or_create("e1")
        await grown.touch()
        return grown.drawn

    async def read(cls):
        return (await cls.get_or_create("e1")).drawn

    world.run(create, define("Grown"))
    grown = define("Grown", __init__=second_init)
    drawn = world.run(touch, grown)
    assert world.run(read, grown) == drawn
    assert world.run(touch, grown) == drawn


def test_an_unknown_stored_attribute_is_kept(world):
    def first_init(self, object_id):
        DurableObject.__init__(self, object_id)
        self.old = "old"

    def second_init(self, object_id):
        DurableObject.__init__(self, object_id)
        self.new = "new"

    async def create(cls):
        await cls.get_or_create("k1")

    async def touch(cls):
        return await (await cls.get_or_create("k1")).read()

    world.run(create, define("Kept", __init__=first_init))
    assert world.run(touch, define("Kept", __init__=second_init)) == {"old": "old", "new": "new"}
    kept = world.run(touch, define("Kept", __init__=first_init))
    assert kept == {"old": "old", "new": "new"}


def test_migrate_runs_when_the_stored_version_is_lower_and_once_only(world):
    runs = []

    def init(self, object_id):
        DurableObject.__init__(self, object_id)
        self.name = "Ada Lovelace"

    def second_init(self, object_id):
        DurableObject.__init__(self, object_id)
        self.first, self.last = "", ""

    def migrate(cls, state, version):
        runs.append(version)
        first, last = state.pop("name").split()
        return {**state, "first": first, "last": last}

    async def create(cls):
        await cls.get_or_create("m1")

    async def touch(cls):
        migrated = await cls.get_or_create("m1")
        await migrated.touch()
        return await migrated.read()

    world.run(create, define("Person", __init__=init))
    second = define("Person", __init__=second_init, state_version=2, migrate=classmethod(migrate))
    assert world.run(touch, second) == {"first": "Ada", "last": "Lovelace"}
    assert world.run(touch, second) == {"first": "Ada", "last": "Lovelace"}
    assert runs == [1]


def test_state_of_a_later_version_fails_the_load_and_nothing_is_changed(world):
    async def create(cls):
        await cls.get_or_create("v1")

    async def touch(cls):
        with pytest.raises(Exception, match="version 3"):
            await durable.ref(cls, "v1").touch()

    async def read(cls):
        await durable.ref(cls, "v1").touch()

    world.run(create, define("Versioned", state_version=3))
    world.run(touch, define("Versioned", state_version=2))
    world.run(read, define("Versioned", state_version=3))


@durable.object
class Shadowed(DurableObject):
    LIMIT = 7

    def total(self) -> int:
        return 1

    async def shadow(self) -> None:
        self.total = 5

    async def override(self) -> None:
        self.LIMIT = 8


def test_a_state_attribute_named_as_a_method_is_not_storable(world):
    async def main():
        shadowed = await Shadowed.get_or_create("x")
        with pytest.raises(StateNotStorable, match=r"Shadowed.*total.*is a method"):
            await shadowed.shadow()
        assert await shadowed.total() == 1

    world.run(main)


def test_class_attributes_are_constants_until_the_object_has_its_own(world):
    async def main():
        shadowed = await Shadowed.get_or_create("x")
        assert shadowed.LIMIT == 7
        await shadowed.override()
        assert shadowed.LIMIT == 8

    world.run(main)


@durable.object(name="Named.Otherwise")
class NamedClass(DurableObject):
    async def who(self) -> str:
        return self.object_id


def test_a_type_is_known_by_the_name_it_was_given(world):
    async def main():
        assert await (await NamedClass.get_or_create("n1")).who() == "n1"
        assert repr(durable.ref(NamedClass, "n1")) == "<Named.Otherwise 'n1'>"

    world.run(main)


def test_one_id_of_two_types_is_two_objects(world):
    async def main():
        stamp, tree = await Stamp.get_or_create("same"), await Tree.get_or_create("same")
        await stamp.later("count", 1)
        assert not hasattr(tree, "count")
        assert stamp != tree

    world.run(main)


def test_a_subclass_inherits_methods_and_is_a_type_of_its_own(world):
    async def main():
        base, child = await Parent.get_or_create("p"), await Child.get_or_create("p")
        assert await base.name() == "parent p"
        assert await child.name() == "child of parent p"
        with pytest.raises(UnknownMethod):
            base.only_child()
        assert await child.only_child() == 1

    world.run(main)


@durable.object
class Parent(DurableObject):
    async def name(self) -> str:
        return f"parent {self.object_id}"


@durable.object
class Child(Parent):
    async def name(self) -> str:
        return f"child of {await super().name()}"

    def only_child(self) -> int:
        return 1


def test_handles_to_objects_of_a_type_defined_anew_use_the_new_methods(world):
    async def create(cls):
        await cls.get_or_create("r1")

    async def call(cls):
        return await durable.ref(cls, "r1").version()

    async def version(self) -> int:
        return 2

    world.run(create, define("Redefined"))
    redefined = define("Redefined", version=version)
    assert world.run(call, redefined) == 2
    assert find_type("Redefined").cls is redefined
    gc.collect()
    assert decode(encode(durable.ref(redefined, "r1"))) == durable.ref(redefined, "r1")
