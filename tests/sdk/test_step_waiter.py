"""What a task waits for while it waits for a step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from harness.loop import on_loop

from perdure.step_waiter import StepWaiter
from perdure.waiting import may_wait

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@on_loop
async def test_a_task_that_is_woken_goes_on_at_once_and_as_itself() -> None:
    loop, log = asyncio.get_running_loop(), list[object]()
    waiter = StepWaiter(loop=loop)

    async def wait() -> None:
        WHO.set("the method")
        await waiter
        log.extend([WHO.get(), asyncio.current_task() is task])

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    woken = loop.create_future()

    def wake() -> None:
        waiter.wake()
        log.append("woken")
        woken.set_result(None)

    loop.call_soon(wake)
    await woken
    assert log == ["the method", True, "woken"]
    await task


@on_loop
async def test_a_task_whose_waiter_gets_a_result_goes_on_when_the_loop_comes_round() -> None:
    loop, log = asyncio.get_running_loop(), list[str]()
    waiter = StepWaiter(loop=loop)

    async def wait() -> None:
        await waiter
        log.append("on")

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    waiter.set_result(None)
    log.append("set")
    await task
    assert log == ["set", "on"]


@on_loop
async def test_a_task_can_be_cancelled_while_it_waits() -> None:
    waiter = StepWaiter(loop=asyncio.get_running_loop())

    async def wait() -> None:
        await waiter

    task = asyncio.get_running_loop().create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiter.cancelled()
    assert not waiter.timed_out


@on_loop
async def test_a_callback_that_was_taken_back_is_not_called() -> None:
    waiter, called = StepWaiter(loop=asyncio.get_running_loop()), list[str]()

    def first(_: Any) -> None:
        called.append("first")

    def second(_: Any) -> None:
        called.append("second")

    waiter.add_done_callback(first)
    waiter.add_done_callback(second)
    assert waiter.remove_done_callback(first) == 1
    waiter.set_result(None)
    await asyncio.sleep(0)
    assert called == ["second"]


async def returns(number: int) -> int:
    return number


async def defines_one_that_waits() -> object:
    async def inner() -> None:
        await asyncio.sleep(0)

    return inner


async def awaits() -> None:
    await asyncio.sleep(0)


async def iterates(numbers: AsyncIterator[int]) -> None:
    async for _ in numbers:
        pass


async def comprehends(numbers: AsyncIterator[int]) -> list[int]:
    return [number async for number in numbers]


async def enters(lock: asyncio.Lock) -> None:
    async with lock:
        pass


async def generates() -> AsyncIterator[int]:
    yield 1


class Callable:
    async def __call__(self) -> None:
        pass


@pytest.mark.parametrize("function", [returns, defines_one_that_waits])
def test_a_function_that_awaits_nothing_never_waits(function: Any) -> None:
    assert not may_wait(function)


@pytest.mark.parametrize(
    "function", [awaits, iterates, comprehends, enters, generates, len, Callable(), lambda: None]
)
def test_any_other_function_may_wait(function: Any) -> None:
    assert may_wait(function)
