"""Arguments, results and contexts between caller and object: embedded and on a node."""

from __future__ import annotations

from typing import Any

import pytest
from harness.world import Embedded, Served, World

from perdure import CallCycle, DurableContext, DurableObject, KeyReused, StateTooLarge, ctx, durable


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


@durable.object
class Tray(DurableObject):
    """Looks like a container from inside."""

    def __init__(self, tray_id: str) -> None:
        super().__init__(tray_id)
        self.things: list[Any] = []
        self.blobs: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self.things)

    def __iter__(self) -> Any:
        return iter(self.things)

    def __contains__(self, thing: object) -> bool:
        return thing in self.things

    def __call__(self) -> str:
        return "called"

    async def put(self, thing: int, into: list[int] = []) -> list[int]:  # noqa: B006
        into.append(thing)
        self.things = into
        return into

    async def typed(self, number: int, flag: bool, names: list[str] | None = None) -> Any:
        return number, flag, names

    async def tag(self, *tags: str, **more: int) -> int:
        self.things.append((tags, more))
        return len(self.things)

    async def take_in(self, things: list[Any]) -> list[Any]:
        things.append("theirs")
        self.things = things
        return self.things

    async def hand_over(self, other: Tray) -> tuple[list[Any], list[Any]]:
        self.things = ["mine"]
        result = await other.take_in(self.things)
        result.append("mine again")
        return self.things, result

    async def outer(self, ctx: DurableContext, note: str) -> list[str]:
        return [note, ctx.call_id, await self.inner(ctx, "plain"), await self.ambient()]

    async def inner(self, ctx: DurableContext, note: str) -> str:
        return f"{note} {ctx.call_id}"

    async def ambient(self) -> str:
        return ctx.call_id

    async def delete_itself(self) -> None:
        await durable.delete(durable.ref(Tray, self.object_id))

    async def grow(self, number: int, size: int) -> None:
        self.blobs[number] = bytes(size)
        setattr(self, f"blob{number}", bytes(size))


def test_values_from_python_are_not_checked_against_annotations(world):
    async def main():
        tray: Any = await Tray.get_or_create("t")
        assert await tray.typed("five", 1) == ("five", 1, None)
        assert await tray.typed(True, None, None) == (True, None, None)
        assert type((await tray.typed(True, 1))[0]) is bool

    world.run(main)


def test_a_default_is_a_fresh_value_for_each_call(world):
    async def main():
        tray = await Tray.get_or_create("t")
        assert await tray.put(1) == [1]
        assert await tray.put(2) == [2]
        assert await tray.put(3, [0]) == [0, 3]
        assert await tray.put(4) == [4]

    world.run(main)


def test_a_key_compares_named_arguments_without_their_order(world):
    async def main():
        tray = durable.options(await Tray.get_or_create("t"), key="k")
        assert await tray.tag("a", x=1, y=2) == 1
        assert await tray.tag("a", y=2, x=1) == 1
        with pytest.raises(KeyReused):
            await tray.tag("a", x=1)
        assert len(tray.things) == 1

    world.run(main)


def test_arguments_and_results_between_objects_are_copies_too(world):
    async def main():
        tray, other = await Tray.get_or_create("t"), await Tray.get_or_create("o")
        assert await tray.hand_over(other) == (["mine"], ["mine", "theirs", "mine again"])
        await durable.refresh(other)
        assert other.things == ["mine", "theirs"]

    world.run(main)


def test_a_context_passed_on_inside_is_plain_python_and_the_ambient_one_is_the_same(world):
    async def main():
        tray: Any = await Tray.get_or_create("t")
        for call in (tray.outer("x"), tray.outer(ctx, "x"), tray.outer(None, note="x")):
            note, call_id, inner, ambient = await call
            assert (note, inner, ambient) == ("x", f"plain {call_id}", call_id)

    world.run(main)


def test_a_handle_has_no_operators_of_its_class_and_is_always_true(world):
    async def main():
        tray: Any = await Tray.get_or_create("t")
        assert bool(tray) is True
        for use in (len, iter, lambda handle: 1 in handle, lambda handle: handle()):
            with pytest.raises(TypeError):
                use(tray)

    world.run(main)


def test_an_object_cannot_delete_itself_while_it_waits(world):
    async def main():
        tray = await Tray.get_or_create("t")
        with pytest.raises(CallCycle, match=r"Tray\[t\]\.delete_itself -> Tray\[t\]"):
            await tray.delete_itself()
        assert await durable.exists(Tray, "t")

    world.run(main)


def test_state_is_limited_to_4_mib_unless_the_type_says_otherwise(world):
    async def main():
        tray = await Tray.get_or_create("t")
        await tray.grow(0, 1 << 20)
        with pytest.raises(StateTooLarge, match=r"Tray\[t\].*its limit is 4194304"):
            await tray.grow(1, 3 << 19)
        await tray.grow(1, 1 << 19)

    world.run(main)
