"""Methods that never wait are known by their source."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from perdure import DurableObject
from perdure_node.inlining import never_waits


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

    @decorated
    async def is_decorated(self) -> None:
        await self.save()


@pytest.mark.parametrize("name", ["plain", "saves", "calls_itself"])
def test_a_method_that_awaits_only_save_and_its_like_never_waits(name: str) -> None:
    assert never_waits(Sample, getattr(Sample, name))


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
    ],
)
def test_any_other_async_method_may_wait(name: str) -> None:
    assert not never_waits(Sample, getattr(Sample, name))
