"""State and commits: what is kept, what is undone, what is refused, embedded and on a node."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from harness.world import Embedded, Served, World

from perdure import (
    CallFailed,
    DurableObject,
    ResultNotStorable,
    ResultTooLarge,
    StateNotStorable,
    StateTooLarge,
    durable,
)


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


class VaultShade(Enum):
    LIGHT = "light"
    DARK = 2


class VaultLevel(IntEnum):
    LOW = 1


@dataclass
class VaultStop:
    name: str
    when: datetime
    tags: set[str] = field(default_factory=set)


class VaultModel(pydantic.BaseModel):
    price: Decimal
    stops: list[int] = []


class Text(str):
    __slots__ = ()


VaultNamed = namedtuple("VaultNamed", "a b")


@durable.object
class Vault(DurableObject):
    def __init__(self, vault_id: str) -> None:
        super().__init__(vault_id)
        self.value: Any = None
        self.items: list[Any] = [{"n": 0, "deep": [1]}]
        self.saved = 0

    async def put(self, value: Any) -> Any:
        self.value = value
        return value

    async def get(self) -> Any:
        return self.value

    async def change_without_save(self) -> None:
        self.items[0]["deep"].append(2)

    async def change_and_fail(self) -> None:
        self.items[0]["deep"].append(3)
        self.items.append("new")
        self.value = "changed"
        self.added = 1
        del self.saved
        raise KeyError("k")

    async def save_and_fail(self, suspend: bool) -> None:
        self.saved += 1
        self.items[0]["n"] = 1
        await self.save()
        if suspend:
            await asyncio.sleep(0)
        self.saved += 10
        self.items[0]["n"] = 2
        raise ValueError("after the save")

    async def catch(self) -> str:
        try:
            self.saved += 1
            raise ValueError
        except ValueError:
            return "caught"

    async def stay(self) -> None:
        self.saved += 1
        await self.save()
        await door.wait()
        self.saved += 1

    async def nothing(self) -> None:
        pass

    async def read(self) -> tuple[Any, Any, Any]:
        return self.items, self.saved, hasattr(self, "added")

    async def keep_function(self) -> None:
        self.value = "before"
        self.items[0]["cb"] = print

    async def keep(self, kind: str) -> None:
        self.value = "before"
        self.value = {
            "str subclass": Text("x"),
            "namedtuple": VaultNamed(1, 2),
            "int subclass": _Int(5),
            "surrogate": "\ud800",
            "generator": (i for i in ()),
            "local class": _local_instance(),
            "self": self,
        }[kind]

    async def return_function(self) -> Any:
        self.value = "undone"
        return [print]

    async def return_much(self, size: int) -> bytes:
        self.value = "undone"
        return b"x" * size


class _Int(int):
    pass


def _local_instance() -> object:
    @dataclass
    class Hidden:
        a: int

    return Hidden(1)


class _Door:
    def __init__(self) -> None:
        self._event: asyncio.Event | None = None

    async def wait(self) -> None:
        self._event = asyncio.Event()
        await self._event.wait()

    def open(self) -> None:
        assert self._event is not None
        self._event.set()


door = _Door()

VALUES: dict[str, Any] = {
    "None": None,
    "bool": True,
    "small int": 5,
    "negative int": -(2**63),
    "large int": 2**200,
    "float": 1.5,
    "infinity": -math.inf,
    "minus zero": -0.0,
    "str": "é\u0301 \0 日本",
    "empty": ["", b"", [], {}, (), set()],
    "bytes": b"\0\xff",
    "bytearray": bytearray(b"ab"),
    "list": [1, "a", [2.5]],
    "tuple": (1, (2, []), "a"),
    "dict": {"a": 1, "b": {"c": []}},
    "int keys": {1: "a", -1: "b", 2**80: "c"},
    "other keys": {None: 1, False: 2, 2.5: 3, b"x": 4, (1, "a"): 5, date(2024, 1, 2): 6},
    "enum and uuid keys": {VaultShade.DARK: 1, UUID(int=5): 2, Decimal("1.50"): 3},
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset({frozenset({1}), 2}),
    "dict of sets": {"2024-01-01": {"a", "b"}, "2024-01-02": set()},
    "naive datetime": datetime(2024, 1, 2, 3, 4, 5, 6),
    "datetime in UTC": datetime(2024, 1, 2, 3, tzinfo=UTC),
    "datetime with an offset": datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=5))),
    "datetime with a zone": datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Rome"), fold=1),
    "date": date(2024, 2, 29),
    "time": time(1, 2, 3, 4),
    "timedelta": timedelta(days=-1, microseconds=1),
    "Decimal": [Decimal("1.10"), Decimal("-0"), Decimal("Infinity")],
    "UUID": UUID(int=7),
    "Enum": [VaultShade.LIGHT, VaultShade.DARK, VaultLevel.LOW],
    "dataclass": VaultStop("a", datetime(2024, 1, 1), {"x"}),
    "pydantic model": VaultModel(price=Decimal("9.99"), stops=[1, 2]),
    "OrderedDict": OrderedDict(b=1, a=2),
    "Counter": Counter("aab"),
    "deque": deque([1, 2], maxlen=3),
    "defaultdict": defaultdict(list, {"a": [1]}),
}


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, VaultStop):
        return same(vars(one), vars(other))
    return bool(one == other) and repr(one) == repr(one)


def test_every_storable_type_comes_back_as_it_was_from_calls_handles_and_disk(world):
    async def put():
        for name, value in VALUES.items():
            vault = await Vault.get_or_create(name)
            assert same(await vault.put(value), value), name
            assert same(vault.value, value), name

    async def get():
        for name, value in VALUES.items():
            vault = await Vault.get_or_create(name)
            assert same(vault.value, value), name
            assert same(await vault.get(), value), name

    world.run(put)
    world.run(get)


def test_nan_and_the_order_of_a_dict_are_kept(world):
    async def put():
        vault = await Vault.get_or_create("v")
        await vault.put({"z": math.nan, "a": 1})

    async def get():
        value = await (await Vault.get_or_create("v")).get()
        assert math.isnan(value["z"])
        assert list(value) == ["z", "a"]

    world.run(put)
    world.run(get)


def test_what_changed_is_committed_at_the_end_of_every_method_save_or_not(world):
    async def change():
        await (await Vault.get_or_create("v")).change_without_save()

    async def read():
        assert (await Vault.get_or_create("v")).items == [{"n": 0, "deep": [1, 2]}]

    world.run(change)
    world.run(read)


def test_an_exception_undoes_to_the_last_commit_nested_containers_too(world):
    async def main():
        vault = await Vault.get_or_create("v")
        await vault.put("before")
        with pytest.raises(KeyError, match="k"):
            await vault.change_and_fail()
        assert (vault.value, vault.items, vault.saved) == ("before", [{"n": 0, "deep": [1]}], 0)
        assert await vault.read() == ([{"n": 0, "deep": [1]}], 0, False)
        await vault.change_without_save()
        assert vault.items == [{"n": 0, "deep": [1, 2]}]

    world.run(main)


@pytest.mark.parametrize("suspend", [False, True])
def test_what_was_saved_before_an_exception_stays_and_the_rest_is_undone(world, suspend):
    async def fail():
        vault = await Vault.get_or_create("v")
        with pytest.raises(ValueError, match="after the save"):
            await vault.save_and_fail(suspend)
        assert (vault.saved, vault.items[0]["n"]) == (1, 1)

    async def read():
        assert await (await Vault.get_or_create("v")).read() == ([{"n": 1, "deep": [1]}], 1, False)

    world.run(fail)
    world.run(read)


def test_an_exception_caught_inside_is_ordinary_python(world):
    async def main():
        vault = await Vault.get_or_create("v")
        assert await vault.catch() == "caught"
        assert vault.saved == 1

    world.run(main)


def test_a_save_is_a_commit_point_that_readers_may_see_while_other_calls_wait(world):
    async def main():
        vault = await Vault.get_or_create("v")
        staying, waiting = vault.stay(), vault.read()
        while (await durable.refresh(vault)).saved == 0:
            pass
        assert not waiting._arrival.future.done()
        door.open()
        await staying
        assert (await waiting)[1] == 2

    world.run(main)


def test_a_method_that_changed_nothing_leaves_the_version_as_it_is(world):
    async def main():
        vault = await Vault.get_or_create("v")
        await vault.nothing()
        before = vault._perdure_snapshot.version
        await vault.nothing()
        await vault.read()
        assert vault._perdure_snapshot.version == before

    world.run(main)


def test_a_value_that_cannot_be_stored_fails_the_call_by_its_path_and_is_undone(world):
    async def main():
        vault = await Vault.get_or_create("u1")
        await vault.put("kept")
        with pytest.raises(StateNotStorable) as error:
            await vault.keep_function()
        assert isinstance(error.value, CallFailed)
        assert "Vault[u1].items[0]['cb']" in str(error.value)
        assert "function" in str(error.value)
        assert await vault.get() == "kept"

    world.run(main)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("str subclass", "Text"),
        ("int subclass", "_Int"),
        ("namedtuple", "VaultNamed"),
        ("surrogate", "surrogate"),
        ("generator", "generator"),
        ("local class", r"Hidden.*@durable\.value"),
        ("self", "Vault"),
    ],
)
def test_the_list_of_types_is_closed_and_exact(world, kind, text):
    async def main():
        vault = await Vault.get_or_create("u1")
        await vault.put("kept")
        with pytest.raises(StateNotStorable, match=text):
            await vault.keep(kind)
        assert await vault.get() == "kept"

    world.run(main)


def test_a_result_that_cannot_be_sent_fails_the_call_before_its_commit(world):
    async def main():
        vault = await Vault.get_or_create("u1")
        with pytest.raises(ResultNotStorable, match=r"return_function.*\[0\].*function"):
            await vault.return_function()
        with pytest.raises(ResultTooLarge, match=r"Vault.*return_much"):
            await vault.return_much(5_000_000)
        assert await vault.get() is None
        assert len(await vault.return_much(1_000_000)) == 1_000_000

    world.run(main)


def test_arguments_and_results_are_always_copied(world):
    async def main():
        vault = await Vault.get_or_create("v")
        mine = {"list": [1]}
        call = vault.put(mine)
        mine["list"].append(2)
        result = await call
        result["list"].append(3)
        assert await vault.get() == {"list": [1]}

    world.run(main)


@durable.object(max_state_bytes=10_000)
class SmallVault(DurableObject):
    def __init__(self, vault_id: str) -> None:
        super().__init__(vault_id)
        self.text = ""

    async def grow(self, size: int) -> None:
        self.text = "x" * size


def test_state_over_its_limit_fails_the_call_with_a_clear_error(world):
    async def main():
        vault = await SmallVault.get_or_create("s")
        await vault.grow(9_000)
        with pytest.raises(StateTooLarge, match=r"SmallVault\[s\].*its limit is 10000") as error:
            await vault.grow(11_000)
        assert error.value.size_bytes > error.value.limit_bytes == 10_000
        assert len(vault.text) == 9_000
        await vault.grow(8_000)
        assert len(vault.text) == 8_000

    world.run(main)


@durable.object(persist="on_save")
class Lazy(DurableObject):
    def __init__(self, lazy_id: str) -> None:
        super().__init__(lazy_id)
        self.count = 0

    async def add(self) -> int:
        self.count += 1
        return self.count

    async def add_and_save(self) -> int:
        self.count += 1
        await self.save()
        return self.count

    async def fail(self) -> None:
        self.count += 100
        raise ValueError("undo")


def test_an_object_that_persists_on_save_keeps_its_work_over_an_exception_and_a_clean_end(world):
    async def work():
        lazy = await Lazy.get_or_create("l")
        await lazy.add()
        await lazy.add_and_save()
        await lazy.add()
        with pytest.raises(ValueError, match="undo"):
            await lazy.fail()
        assert await lazy.add() == 4

    async def read():
        assert await (await Lazy.get_or_create("l")).add() == 5

    world.run(work)
    world.run(read)
