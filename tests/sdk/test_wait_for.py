"""`perdure.wait_for`: in a method a race with a durable clock, at top level asyncio's own."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from harness.loop import on_loop
from harness.recording_turn import RecordingTurn

import perdure
from perdure import ctx


@pytest.fixture
def turn():
    with RecordingTurn().running() as made:
        yield made


async def asked(turn: RecordingTurn, count: int) -> None:
    while len(turn.asks) < count:
        await asyncio.sleep(0)


def in_time(awaitable) -> asyncio.Task:
    return asyncio.create_task(perdure.wait_for(awaitable, timedelta(minutes=1)))


@on_loop
async def test_a_step_that_is_first_gives_its_result(turn):
    waiting = in_time(ctx.run("x", len))
    await asked(turn, 2)
    assert [ask[0] for ask in turn.asks] == ["run", "sleep"]
    turn.finish(5, step=1)

    assert await waiting == 5


@on_loop
async def test_a_step_that_is_first_raises_its_error(turn):
    waiting = in_time(ctx.run("x", len))
    await asked(turn, 2)
    turn.raise_in(LookupError("gone"), step=1)

    with pytest.raises(LookupError, match="gone"):
        await waiting


@on_loop
async def test_when_the_clock_is_first_the_step_goes_on(turn):
    step = ctx.run("x", len)
    waiting = in_time(step)
    await asked(turn, 2)
    turn.finish(None, step=2)

    with pytest.raises(TimeoutError):
        await waiting
    turn.finish(5, step=1)
    assert await step == 5


@on_loop
async def test_the_clock_is_asked_for_even_when_the_step_is_done(turn):
    step = ctx.run("x", len)
    turn.finish(5)

    assert await perdure.wait_for(step, 1) == 5
    assert [ask[0] for ask in turn.asks] == ["run", "sleep"]


@on_loop
async def test_a_coroutine_of_steps_is_cancelled_when_the_clock_is_first(turn):
    cleaned_up = []

    async def two_steps() -> None:
        try:
            await ctx.run("a", len)
        finally:
            cleaned_up.append(len(turn.asks))

    waiting = in_time(two_steps())
    await asked(turn, 2)
    assert [ask[0] for ask in turn.asks] == ["sleep", "run"]
    turn.finish(None, step=1)

    with pytest.raises(TimeoutError):
        await waiting
    assert cleaned_up == [2]


@on_loop
async def test_a_wait_that_is_cancelled_cancels_what_it_waits_for(turn):
    cancelled = []

    async def two_steps() -> None:
        try:
            await ctx.run("a", len)
        except asyncio.CancelledError:
            cancelled.append("a")
            raise

    waiting = in_time(two_steps())
    await asked(turn, 2)
    waiting.cancel()
    await asyncio.wait({waiting})

    assert waiting.cancelled()
    await asyncio.sleep(0)
    assert cancelled == ["a"]


@on_loop
async def test_without_a_time_there_is_no_clock(turn):
    step = ctx.run("x", len)
    turn.finish(5)

    assert await perdure.wait_for(step, None) == 5
    assert len(turn.asks) == 1


@on_loop
async def test_where_there_are_no_steps_nothing_is_begun():
    async def never() -> None:
        raise AssertionError("begun")

    with RecordingTurn(refuses=True).running(), pytest.raises(RuntimeError, match="no steps"):
        await perdure.wait_for(never(), 1)


@on_loop
async def test_a_time_that_is_none_is_refused(turn):
    async def never() -> None:
        raise AssertionError("begun")

    with pytest.raises(TypeError, match="a delay is a timedelta or seconds"):
        await perdure.wait_for(never(), "1")  # type: ignore[arg-type]


@on_loop
async def test_at_top_level_it_is_that_of_asyncio():
    assert await perdure.wait_for(asyncio.sleep(0, 5), timedelta(minutes=1)) == 5
    with pytest.raises(TimeoutError):
        await perdure.wait_for(asyncio.Event().wait(), timedelta(milliseconds=1))
