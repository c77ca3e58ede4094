"""Waiting for rounds of a loop."""

from __future__ import annotations

import asyncio

from harness.loop import on_loop

from perdure_node.rounds import Rounds


async def rounds_until(done: asyncio.Event) -> int:
    """Count the rounds of the loop until something has happened."""
    count = 0
    while not done.is_set():
        await asyncio.sleep(0)
        count += 1
    return count


@on_loop
async def test_a_callback_waits_for_at_least_so_many_rounds() -> None:
    rounds, done = Rounds(asyncio.get_running_loop(), 5), asyncio.Event()
    rounds.after(done.set)
    assert 5 <= await rounds_until(done) <= 8


@on_loop
async def test_one_that_comes_later_waits_as_long() -> None:
    rounds = Rounds(asyncio.get_running_loop(), 5)
    first, second = asyncio.Event(), asyncio.Event()
    rounds.after(first.set)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rounds.after(second.set)
    assert 5 <= await rounds_until(second) <= 8
    assert first.is_set()


@on_loop
async def test_callbacks_come_in_the_order_in_which_they_were_asked_for() -> None:
    rounds, done, told = Rounds(asyncio.get_running_loop(), 2), asyncio.Event(), list[str]()
    rounds.after(lambda: told.append("a"))
    rounds.after(lambda: told.append("b"))
    rounds.after(done.set)
    await done.wait()
    assert told == ["a", "b"]


@on_loop
async def test_a_callback_may_ask_for_another() -> None:
    rounds, done = Rounds(asyncio.get_running_loop(), 3), asyncio.Event()
    rounds.after(lambda: rounds.after(done.set))
    assert 6 <= await rounds_until(done) <= 12


@on_loop
async def test_a_callback_that_raises_stops_nobody_else() -> None:
    loop = asyncio.get_running_loop()
    raised: list[object] = []
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    rounds, done = Rounds(loop, 1), asyncio.Event()

    def fail() -> None:
        raise ValueError("mine")

    rounds.after(fail)
    rounds.after(done.set)
    await asyncio.wait_for(done.wait(), 60.0)
    assert [str(error) for error in raised] == ["mine"]


@on_loop
async def test_without_anybody_who_waits_the_loop_has_nothing_to_do() -> None:
    loop = asyncio.get_running_loop()
    rounds, done = Rounds(loop, 1), asyncio.Event()
    rounds.after(done.set)
    await done.wait()
    await asyncio.sleep(0)
    assert not loop._ready  # type: ignore[attr-defined]
