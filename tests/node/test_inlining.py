"""Methods that never wait are known by their source."""

from __future__ import annotations

import asyncio
import functools
from asyncio import current_task
from collections.abc import Callable
from typing import Any

import pytest

from perdure import DurableContext, DurableObject, ctx
from perdure_node.inlining import Waits, waits_of


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any) -> Any:
        await asyncio.sleep(0)
        return await function(*args)

    return wrapper


class Sample(DurableObject):
    async def plain(self) -> int:
        return 1

    async def saves(self) -> None:
        self.n = 1
        await self.save()

    async def calls_itself(self) -> None:
        await self.saves()
        await self.calls_itself()

    async def sleeps(self) -> None:
        await asyncio.sleep(1)

    async def calls_one_that_sleeps(self) -> None:
        await self.sleeps()

    async def awaits_an_argument(self, other: Any) -> None:
        await other.saves()

    async def with_timeout(self) -> None:
        async with asyncio.timeout(1):
            pass

    async def comprehends(self, source: Any) -> list[int]:
        return [n async for n in source]

    async def defines_another(self) -> None:
        async def inner() -> None:
            await asyncio.sleep(1)

        self.task = inner

    async def steps(self, ctx: DurableContext) -> int:
        self.n = await ctx.call("some", "service") + await ctx.run("some", len, "text")
        await self.save()
        return self.n

    async def steps_of_the_running_call(self) -> None:
        await ctx.sleep(1)

    async def has_steps_made_elsewhere(self, context: DurableContext) -> None:
        await self.steps(context)

    async def asks_what_is_no_context(self, ctx: Any) -> None:
        await ctx.call("some", "service")

    async def waits_for_what_it_has(self, ctx: DurableContext) -> None:
        step = ctx.sleep(1)
        await step

    async def asks_for_its_task(self, ctx: DurableContext) -> object:
        await ctx.sleep(1)
        return asyncio.current_task()

    async def has_another_ask_for_its_task(self, ctx: DurableContext) -> None:
        await ctx.sleep(1)
        await ctx.run("task", lambda: [current_task()])

    async def imports(self, ctx: DurableContext) -> None:
        import json

        await ctx.run("text", json.dumps, 1)

    @decorated
    async def is_decorated(self) -> None:
        await self.save()


@pytest.mark.parametrize("name", ["plain", "saves", "calls_itself"])
def test_a_method_that_awaits_only_save_and_its_like_never_waits(name: str) -> None:
    assert waits_of(Sample, getattr(Sample, name)) is Waits.NEVER


@pytest.mark.parametrize("name", ["steps", "steps_of_the_running_call", "has_steps_made_elsewhere"])
def test_a_method_that_awaits_steps_of_its_context_too_waits_for_nothing_else(name: str) -> None:
    assert waits_of(Sample, getattr(Sample, name)) is Waits.FOR_STEPS


@pytest.mark.parametrize(
    "name",
    [
        "sleeps",
        "calls_one_that_sleeps",
        "awaits_an_argument",
        "with_timeout",
        "comprehends",
        "defines_another",
        "is_decorated",
        "asks_what_is_no_context",
        "waits_for_what_it_has",
        "asks_for_its_task",
        "has_another_ask_for_its_task",
        "imports",
    ],
)
def test_any_other_async_method_may_wait_for_anything(name: str) -> None:
    assert waits_of(Sample, getattr(Sample, name)) is Waits.AT_WILL
