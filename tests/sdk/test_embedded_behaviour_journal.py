"""Methods with steps, as users write them: embedded and on a node."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any
from uuid import UUID

import pytest
from harness.world import Embedded, Served, World

import perdure
from perdure import BadArguments, DurableContext, DurableObject, KeyReused, ctx, durable


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


MADE: list[Any] = []
"""What steps have really done."""
GATES: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def nothing_made():
    MADE.clear()
    GATES.clear()


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def make(what: Any) -> Any:
    MADE.append(what)
    return what


async def make_later(what: Any) -> Any:
    await gate(what).wait()
    return make(what)


@durable.error
class OutOfPaper(Exception):
    pass


def run_out(copies: int) -> None:
    make("run out")
    raise OutOfPaper(f"{copies} copies left")


@durable.object
class Scribe(DurableObject):
    """Writes to itself and to others, in steps."""

    def __init__(self, scribe_id: str) -> None:
        super().__init__(scribe_id)
        self.lines: list[Any] = []

    async def write(self, line: Any) -> int:
        self.lines.append(line)
        return len(self.lines)

    async def write_later(self, line: Any) -> int:
        await gate(str(line)).wait()
        self.lines.append(line)
        return len(self.lines)

    @durable.shared
    async def read(self) -> list[Any]:
        return self.lines

    # Contexts.

    async def sign(self, ctx: DurableContext, name: str = "nobody") -> list[Any]:
        return [isinstance(ctx, DurableContext), name, ctx.call_id]

    async def sign_first(self, name: str, ctx: DurableContext | None = None) -> list[Any]:
        return [isinstance(ctx, DurableContext), name]

    async def sign_with_any(self, ctx) -> bool:
        return isinstance(ctx, DurableContext)

    async def compare_contexts(self, own: DurableContext) -> list[Any]:
        return [
            ctx.call_id == own.call_id,
            ctx.attempt == own.attempt == 1,
            ctx.idempotency_key == own.idempotency_key,
            await ctx.run("ambient", make, "ambient"),
            await self._helped(),
        ]

    async def _helped(self) -> str:
        return await ctx.run("helped", make, "in a helper")

    async def keys(self, own: DurableContext) -> tuple[str, str]:
        return own.idempotency_key, own.call_id

    async def ask_for_time(self, ctx: DurableContext) -> list[Any]:
        return [ctx.now(), ctx.uuid(), ctx.random()]

    # Steps.

    async def gather(self, ctx: DurableContext) -> list[Any]:
        return await asyncio.gather(
            ctx.run("a", make_later, "a"), ctx.run("b", make_later, "b"), ctx.run("c", make, "c")
        )

    async def gather_with_code_behind(self, ctx: DurableContext) -> list[Any]:
        async def one(name: str) -> None:
            self.lines.append(await ctx.run(name, make_later, name))
            self.lines.append(await ctx.run(f"after {name}", make, f"after {name}"))

        await asyncio.gather(one("a"), one("b"))
        return self.lines

    async def run_twice(self, ctx: DurableContext) -> list[Any]:
        return [await ctx.run("same", make, 1), await ctx.run("same", make, 2)]

    async def await_twice(self, ctx: DurableContext) -> bool:
        step = ctx.run("list", make, [1])
        first, second = await step, await step
        return first == second and first is not second

    async def forget_steps(self, ctx: DurableContext) -> str:
        ctx.run("forgotten", make_later, "forgotten")
        return "returned"

    async def step_raises(self, ctx: DurableContext) -> None:
        self.lines.append("before")
        await ctx.run("print", run_out, 3)

    async def step_raises_inside(self, ctx: DurableContext) -> str:
        try:
            await ctx.run("print", run_out, 3)
        except OutOfPaper as error:
            self.lines.append(str(error))
        return "caught"

    async def save_and_raise(self, ctx: DurableContext) -> None:
        self.lines.append("kept")
        await self.save()
        await ctx.run("step", make, "step")
        self.lines.append("undone")
        raise OutOfPaper("none left")

    async def raise_after_a_step(self, ctx: DurableContext) -> None:
        self.lines.append("undone")
        await ctx.run("step", make, "step")
        raise OutOfPaper("none left")

    async def step_gives_an_odd_thing(self, ctx: DurableContext) -> None:
        self.lines.append("undone")
        await ctx.run("odd", object)

    async def step_in_a_step(self, own: DurableContext) -> None:
        await own.run("outer", lambda: own.run("inner", make, "inner"))

    async def sleep(self, ctx: DurableContext, seconds: float) -> float:
        before = ctx.now()
        await ctx.sleep(dt.timedelta(seconds=seconds))
        return (ctx.now() - before).total_seconds()

    # Calls of others.

    async def pass_on(self, other: Scribe, line: str) -> int:
        self.lines.append(line)
        return await other.write(line)

    async def leave_open(self, other: Scribe, *lines: str) -> str:
        for line in lines:
            other.write_later(line)
        return "returned"

    async def create(self, ctx: DurableContext, name: str) -> list[Any]:
        made = await Scribe.get_or_create(name)
        await made.write("hello")
        await ctx.run("step", make, "step")
        return [made.lines, await durable.exists(Scribe, name), await durable.exists(Scribe, "no")]

    async def ask_name(self, other: Scribe) -> list[Any]:
        return await other.sign("asked")

    # Time.

    async def wait_in_vain(self, ctx: DurableContext) -> str:
        try:
            await perdure.wait_for(ctx.run("slow", make_later, "slow"), 0.005)
        except TimeoutError:
            gate("slow").set()
            return "too slow"
        return "in time"

    async def wait_in_time(self, ctx: DurableContext) -> str:
        return await perdure.wait_for(ctx.run("fast", make, "fast"), dt.timedelta(minutes=1))

    async def wait_as_asyncio_does(self, ctx: DurableContext) -> None:
        try:
            await asyncio.wait_for(ctx.run("slow", make_later, "slow"), 0.005)
        finally:
            gate("slow").set()


def test_a_context_may_be_left_out_given_or_none(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        assert (await scribe.sign())[:2] == [True, "nobody"]
        assert (await scribe.sign(ctx, "ada"))[:2] == [True, "ada"]
        assert (await scribe.sign(ctx=None, name="ada"))[:2] == [True, "ada"]
        assert (await scribe.sign("ada"))[:2] == [True, "ada"]
        assert await scribe.sign_first("ada", ctx) == await scribe.sign_first("ada")
        assert await scribe.sign_with_any()
        with pytest.raises(BadArguments):
            scribe.write(ctx)
        with pytest.raises(TypeError):
            scribe.sign("ada", "grace", "mary")

    world.run(main)


def test_the_ambient_ctx_is_the_method_s_own_in_helpers_too(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        assert await scribe.compare_contexts() == [True, True, True, "ambient", "in a helper"]

    world.run(main)


def test_the_idempotency_key_is_the_caller_s_or_the_call_id(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        key, call_id = await scribe.keys()
        assert key == call_id
        key, call_id = await durable.options(scribe, key="pay-789").keys()
        assert key == "pay-789" != call_id

    world.run(main)


def test_time_and_chance_are_there_in_a_method(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        first, second = await scribe.ask_for_time(), await scribe.ask_for_time()
        assert first[0] <= second[0]
        assert first[0].tzinfo is not None
        assert isinstance(first[1], UUID)
        assert first[1:] != second[1:]

    world.run(main)


def test_steps_are_asked_for_at_the_call_so_several_run_at_once(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        gathered = scribe.gather()
        await until(lambda: MADE == ["c"])
        gate("b").set()
        await until(lambda: MADE == ["c", "b"])
        gate("a").set()
        assert await gathered == ["a", "b", "c"]

    world.run(main)


def test_code_behind_each_of_several_steps_runs_in_the_order_of_their_results(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        ran = scribe.gather_with_code_behind()
        gate("b").set()
        await until(lambda: "after b" in MADE)
        gate("a").set()
        assert await ran == ["b", "after b", "a", "after a"]

    world.run(main)


def test_steps_of_one_name_are_two_steps(world):
    async def main():
        assert await (await Scribe.get_or_create("s1")).run_twice() == [1, 2]

    world.run(main)


def test_a_step_awaited_again_gives_a_copy_of_what_is_recorded(world):
    async def main():
        assert await (await Scribe.get_or_create("s1")).await_twice()
        assert MADE == [[1]]

    world.run(main)


def test_a_step_that_is_not_awaited_is_made_before_the_call_is_over(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        call = scribe.forget_steps()
        behind = scribe.write("behind")
        for _ in range(50):
            await asyncio.sleep(0)
        assert not call._arrival.future.done()
        gate("forgotten").set()
        assert await call == "returned"
        assert MADE == ["forgotten"]
        assert await behind == 1

    world.run(main)


def test_an_exception_of_a_step_reaches_the_caller_as_itself_and_undoes_the_call(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        with pytest.raises(OutOfPaper, match="3 copies left"):
            await scribe.step_raises()
        assert await scribe.read() == []
        assert MADE == ["run out"], "an exception is the step's result: it is not tried again"

    world.run(main)


def test_an_exception_of_a_step_can_be_caught_like_any_other(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        assert await scribe.step_raises_inside() == "caught"
        assert await scribe.read() == ["3 copies left"]

    world.run(main)


def test_an_exception_undoes_to_the_last_save_over_steps(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        with pytest.raises(OutOfPaper):
            await scribe.raise_after_a_step()
        assert await scribe.read() == []
        with pytest.raises(OutOfPaper):
            await scribe.save_and_raise()
        assert await scribe.read() == ["kept"]
        assert await scribe.write("usable") == 2

    world.run(main)


def test_what_a_step_gives_must_be_a_value(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        with pytest.raises(perdure.ResultNotStorable, match=r"Scribe\[s1\].*ctx\.run.*object"):
            await scribe.step_gives_an_odd_thing()
        assert await scribe.read() == []

    world.run(main)


def test_there_are_no_steps_inside_of_a_step(world):
    async def main():
        with pytest.raises(RuntimeError, match="is not running here"):
            await (await Scribe.get_or_create("s1")).step_in_a_step()

    world.run(main)


def test_a_sleep_is_never_over_early(world):
    async def main():
        assert 0.02 <= await (await Scribe.get_or_create("s1")).sleep(0.02) < 20

    world.run(main)


def test_the_same_key_gives_the_recorded_outcome_a_recorded_exception_too(world):
    async def main():
        scribe = durable.options(await Scribe.get_or_create("s1"), key="k")
        assert await scribe.run_twice() == await scribe.run_twice() == [1, 2]
        assert MADE == [1, 2]
        for _ in range(3):
            with pytest.raises(OutOfPaper, match="3 copies left"):
                await scribe.step_raises()
        assert MADE == [1, 2, "run out"]

    world.run(main)

    async def later():
        with pytest.raises(OutOfPaper, match="3 copies left"):
            await durable.options(durable.ref(Scribe, "s1"), key="k").step_raises()
        assert MADE == [1, 2, "run out"]

    world.run(later)


def test_the_same_key_with_other_arguments_is_an_error(world):
    async def main():
        scribe = durable.options(await Scribe.get_or_create("s1"), key="k")
        assert await scribe.sleep(0.001) >= 0.001
        with pytest.raises(KeyReused):
            await scribe.sleep(0.002)
        assert await scribe.write("another method") == 1

    world.run(main)


def test_two_calls_with_one_key_at_a_time_are_one(world):
    async def main():
        scribe = durable.options(await Scribe.get_or_create("s1"), key="k")
        calls = [scribe.gather() for _ in range(5)]
        gate("a").set()
        gate("b").set()
        assert await asyncio.gather(*calls) == [["a", "b", "c"]] * 5
        assert sorted(MADE) == ["a", "b", "c"]

    world.run(main)


def test_a_nested_call_has_an_id_of_its_own(world):
    async def main():
        one, two = await Scribe.get_or_create("s1"), await Scribe.get_or_create("s2")
        first, second = await one.ask_name(two), await one.ask_name(two)
        assert first[:2] == second[:2] == [True, "asked"]
        assert first[2] != second[2]

    world.run(main)


def test_calls_that_nobody_awaits_are_made_in_their_order_after_the_method_too(world):
    async def main():
        one, two = await Scribe.get_or_create("s1"), await Scribe.get_or_create("s2")
        assert await one.leave_open(two, "a", "b", "c") == "returned"
        for name in "cba":
            gate(name).set()
        while len(await two.read()) < 3:
            pass
        assert await two.read() == ["a", "b", "c"]

    world.run(main)


def test_in_a_method_one_may_create_and_look_and_go_on(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        assert await scribe.create("s2") == [["hello"], True, False]
        assert (await Scribe.get_or_create("s2")).lines == ["hello"]

    world.run(main)


def test_wait_for_ends_the_waiting_and_the_step_goes_on(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        assert await scribe.wait_in_vain() == "too slow"
        assert MADE == ["slow"]
        assert await scribe.wait_in_time() == "fast"

    world.run(main)


def test_the_clock_of_asyncio_around_a_step_is_refused_naming_wait_for(world):
    async def main():
        scribe = await Scribe.get_or_create("s1")
        with pytest.raises(RuntimeError, match=r"perdure\.wait_for"):
            await scribe.wait_as_asyncio_does()
        assert await scribe.write("usable") == 1

    world.run(main)
