"""Coming into memory: `on_activate`, classes that have changed, values that nobody knows."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import pytest
from harness.world import Embedded, Served, World

from perdure import DurableObject, StateNotStorable, UnknownType, durable, values
from perdure.errors import Code
from perdure.frames import Encoding, Kind
from perdure.ids import ObjectKey
from perdure.runtime import current_client


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


gates: dict[str, asyncio.Event] = {}
"""What methods wait for; the node lives in the same loop as the test."""


@pytest.fixture(autouse=True)
def new_gates():
    gates.clear()


def gate(name: str) -> asyncio.Event:
    return gates.setdefault(name, asyncio.Event())


def define(name: str, **attributes: Any) -> Any:
    """Define a type anew, as the next version of a program or the next run of a cell does."""
    return durable.object(type(name, (DurableObject,), {"__module__": __name__, **attributes}))


def test_a_save_before_an_exception_keeps_the_migrated_state_as_migrated(world):
    def init(self, object_id):
        DurableObject.__init__(self, object_id)
        self.name = "Ada Lovelace"

    def migrate(cls, state, version):
        assert version == 1
        first, last = state.pop("name").split()
        return {**state, "first": first, "last": last}

    async def save_and_fail(self) -> None:
        self.first = "Augusta"
        await self.save()
        self.first = "Nobody"
        raise RuntimeError("undo")

    async def read(self) -> dict[str, Any]:
        return {"first": self.first, "last": self.last}

    async def create(cls):
        await cls.get_or_create("p")

    async def fail(cls):
        with pytest.raises(RuntimeError, match="undo"):
            await durable.ref(cls, "p").save_and_fail()

    async def look(cls):
        return await durable.ref(cls, "p").read()

    world.run(create, define("MigratedPerson", __init__=init))
    methods = {"save_and_fail": save_and_fail, "read": read}
    second = define("MigratedPerson", state_version=2, migrate=classmethod(migrate), **methods)
    world.run(fail, second)
    assert world.run(look, second) == {"first": "Augusta", "last": "Lovelace"}


@durable.object
class LightSleeper(DurableObject):
    """Wakes slowly, and sometimes not at all."""

    def __init__(self, sleeper_id: str) -> None:
        super().__init__(sleeper_id)
        self.words: list[str] = []
        self.woken = 0
        self.bad_wakes = 0
        self.slow = False

    async def on_activate(self) -> None:
        if self.slow:
            await gate("wake").wait()
        if bad_wakes:
            bad_wakes.pop()
            raise ValueError("cannot wake")
        self._index = set(self.words)
        self.woken += 1

    async def add(self, word: str) -> None:
        self.words.append(word)
        self._index.add(word)

    async def go_slowly(self) -> None:
        self.slow = True

    async def nothing(self) -> None:
        pass

    async def fail(self) -> None:
        raise RuntimeError("undo")

    @durable.shared
    async def has(self, word: str) -> bool:
        return word in self._index


bad_wakes: list[None] = []


def test_what_on_activate_changes_before_a_shared_call_is_committed_with_the_next_other_one(world):
    async def look():
        sleeper = await LightSleeper.get_or_create("s")
        assert not await sleeper.has("a")
        return sleeper.woken

    async def change():
        sleeper = await LightSleeper.get_or_create("s")
        assert not await sleeper.has("a")
        await sleeper.nothing()
        return sleeper.woken

    assert world.run(look) == 1
    assert world.run(change) == 2
    assert world.run(look) == 2


def test_shared_calls_that_wait_for_an_on_activate_that_fails_do_not_run_half_awake(world):
    async def begin():
        sleeper = await LightSleeper.get_or_create("s")
        await sleeper.add("a")
        await sleeper.go_slowly()

    async def look():
        sleeper = durable.ref(LightSleeper, "s")
        bad_wakes.append(None)
        first, second, third = (sleeper.has("a") for _ in range(3))
        while not gates:
            await asyncio.sleep(0)
        gate("wake").set()
        with pytest.raises(ValueError, match="cannot wake"):
            await first
        # It is woken again for those that waited.
        assert await asyncio.gather(second, third) == [True, True]

    world.run(begin)
    world.run(look)


@durable.object
class Reader(DurableObject):
    def __init__(self, reader_id: str) -> None:
        super().__init__(reader_id)
        self.calls_when_woken = False

    async def on_activate(self) -> None:
        if self.calls_when_woken:
            await durable.ref(LightSleeper, "s").nothing()

    async def call_when_woken(self) -> None:
        self.calls_when_woken = True

    @durable.shared
    async def read(self) -> tuple[bool, list[str], list[str]]:
        sleeper = durable.ref(LightSleeper, "s")
        there = await durable.exists(LightSleeper, "s")
        found = [each.object_id async for each in durable.list(LightSleeper)]
        return there, (await durable.refresh(sleeper)).words, found

    @durable.shared
    async def write(self, how: str) -> None:
        sleeper = durable.ref(LightSleeper, "s")
        if how == "call":
            await sleeper.add("by a shared method")
        elif how == "create":
            await LightSleeper.get_or_create("t")
        elif how == "delete":
            await durable.delete(sleeper)


@pytest.mark.parametrize("how", ["call", "create", "delete"])
def test_a_shared_method_reads_other_objects_and_does_nothing_to_them(world, how):
    async def main():
        await (await LightSleeper.get_or_create("s")).add("a")
        reader = await Reader.get_or_create("r")
        with pytest.raises(RuntimeError, match=r"Reader\.write, a @durable\.shared method"):
            await reader.write(how)
        assert await reader.read() == (True, ["a"], ["s"])

    world.run(main)


def test_on_activate_makes_no_calls(world):
    async def begin():
        await LightSleeper.get_or_create("s")
        await (await Reader.get_or_create("r")).call_when_woken()

    async def wake():
        with pytest.raises(RuntimeError, match=r"inside of Reader\.on_activate"):
            await durable.ref(Reader, "r").read()

    world.run(begin)
    world.run(wake)


class Mangled(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.shown = 0
        self.__secret = 0

    async def change(self) -> None:
        self.shown += 1
        self.__secret += 1

    async def secret(self) -> int:
        return self.__secret

    async def fail(self) -> None:
        self.__secret += 10
        raise RuntimeError("undo")


durable.object(Mangled)


def test_names_with_two_underscores_live_in_memory_only_too(world):
    async def main():
        mangled = await Mangled.get_or_create("m")
        await mangled.change()
        assert await mangled.secret() == 1
        with pytest.raises(RuntimeError, match="undo"):
            await mangled.fail()
        assert (await mangled.secret(), mangled.shown) == (0, 1)

    world.run(main)


def test_a_cell_run_again_replaces_the_class_of_objects_that_are_in_memory(world):
    async def count(self) -> int:
        self.n = getattr(self, "n", 0) + 1
        return self.n

    async def count_by_ten(self) -> int:
        self.n += 10
        return self.n

    async def main():
        first = define("Cell", count=count)
        old = await first.get_or_create("c")
        assert await old.count() == 1

        second = define("Cell", count=count_by_ten, reset=count)

        assert await old.count() == 11
        new = await second.get_or_create("c")
        assert (await new.count(), await new.reset()) == (21, 22)

    world.run(main)


def test_a_stored_value_whose_class_is_gone_fails_the_load_and_nothing_is_changed(world):
    @dataclasses.dataclass
    class Shelved:
        title: str

    async def put(self, title: str) -> None:
        self.shelved = Shelved(title)

    async def title(self) -> str:
        return self.shelved.title

    async def nothing(self) -> None:
        pass

    shelf = define("GoneShelf", put=put, title=title, nothing=nothing)

    async def fill():
        await (await shelf.get_or_create("s")).put("Ulysses")

    async def use():
        handle = durable.ref(shelf, "s")
        for _ in range(2):
            with pytest.raises(UnknownType, match="Shelved"):
                await handle.nothing()
        assert await durable.exists(shelf, "s")
        # Whoever wants to see it as JSON hears the same.
        key, started_s = ObjectKey("GoneShelf", "s"), time.monotonic()
        shown = await current_client().call(key, Kind.GET, "*", encoding=Encoding.JSON)
        assert shown.code == Code.UNKNOWN_TYPE
        assert time.monotonic() - started_s < 25

    async def read():
        assert await durable.ref(shelf, "s").title() == "Ulysses"

    durable.value(Shelved)
    world.run(fill)
    forget(Shelved)
    world.run(use)
    durable.value(Shelved)
    world.run(read)


@durable.object
class Careless(DurableObject):
    def __init__(self, careless_id: str) -> None:
        super().__init__(careless_id)
        if careless_id == "made so":
            self.state_version = 2

    async def set(self, name: str) -> None:
        self.kept = name
        setattr(self, name, 1)


@pytest.mark.parametrize(
    "name", ["save", "get_or_create", "on_activate", "migrate", "state_version"]
)
def test_a_reserved_name_is_no_state(world, name):
    async def main():
        careless = await Careless.get_or_create("c")
        with pytest.raises(StateNotStorable, match=rf"Careless\[c\]\.{name}: a reserved name"):
            await careless.set(name)
        await careless.set("fine")
        assert careless.kept == "fine"
        with pytest.raises(StateNotStorable, match="state_version: a reserved name"):
            await Careless.get_or_create("made so")
        assert not await durable.exists(Careless, "made so")

    world.run(main)


def forget(cls: type) -> None:
    """Be a process that does not have this class."""
    del values._registered[values._names.pop(cls)]
