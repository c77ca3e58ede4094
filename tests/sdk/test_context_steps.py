"""Steps of a method: asked for at the call, awaited like any call, refused where they cannot be."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest
from harness.loop import on_loop
from harness.recording_turn import RecordingTurn

from perdure import (
    BadArguments,
    Call,
    DurableContext,
    NonDeterministic,
    ServiceError,
    ServiceNotFound,
    ctx,
    durable,
)
from perdure.codec import encode


@durable.error
class StepSoldOut(Exception):
    pass


@durable.service("step_shop")
class StepShop:
    def __init__(self) -> None:
        self.sold = 0

    async def sell(self, item: str) -> dict:
        self.sold += 1
        return {"item": item, "sold": self.sold, "key": len(ctx.idempotency_key)}

    async def nothing(self) -> str:
        return "nothing given"

    async def fail(self, payload: None) -> None:
        raise LookupError("not here")


@pytest.fixture
def turn():
    with RecordingTurn().running() as made:
        yield made


async def ticks(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@on_loop
async def test_steps_are_asked_for_at_the_call_in_order_awaited_or_not(turn):
    def fetch() -> None:
        raise AssertionError("performed by the turn")

    before_ms = int(time.time() * 1000)
    ctx.call("payment", "charge", {"cents": 5})
    ctx.run("fetch", fetch)
    ctx.sleep(timedelta(seconds=5))

    call, run, sleep = turn.asks
    assert call == ("service", "payment", "charge", {"cents": 5})
    assert run[:2] == ("run", "fetch")
    assert sleep[0] == "sleep"
    assert before_ms + 5_000 <= sleep[1] <= before_ms + 35_000


@on_loop
async def test_a_step_may_be_awaited_again_and_again_and_gives_a_copy_each_time(turn):
    step = ctx.call("payment", "charge")
    turn.finish([1])

    first = await step
    first.append(2)

    assert isinstance(step, Call)
    assert await step == [1]
    assert await asyncio.create_task(step) == [1]


@on_loop
async def test_no_payload_is_something_else_than_none(turn):
    ctx.call("payment", "charge")
    ctx.call("payment", "charge", None)

    assert turn.asks == [("service", "payment", "charge"), ("service", "payment", "charge", None)]


@on_loop
async def test_the_function_of_a_step_gets_its_arguments(turn):
    ctx.run("add", lambda a, *, b: a + b, 1, b=2)

    [(_, name, function)] = turn.asks
    assert (name, function()) == ("add", 3)


@on_loop
async def test_a_sleep_gives_none_and_a_negative_one_is_over_now(turn):
    step = ctx.sleep(-5)
    turn.finish(None)

    assert await step is None
    assert turn.asks[0][1] <= time.time() * 1000 + 1


@pytest.mark.parametrize(
    "error",
    [
        ServiceError("payment", "charge", "LookupError", "gone"),
        ServiceNotFound("payment", "charge", ""),
        NonDeterministic("Cart[u1].pay", 1, "sleep", "run"),
    ],
)
@on_loop
async def test_a_step_that_failed_raises_its_error_at_each_await(turn, error):
    step = ctx.call("payment", "charge")
    turn.fail(error)

    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            await step
        assert raised.value.args == error.args


@on_loop
async def test_an_exception_of_a_step_is_raised_as_itself(turn):
    step = ctx.run("sell", len)
    turn.raise_in(StepSoldOut("tea"))

    with pytest.raises(StepSoldOut, match="tea"):
        await step


@on_loop
async def test_an_error_that_nobody_awaits_is_logged_by_the_name_of_the_step(turn, caplog):
    ctx.run("sell", len)
    turn.raise_in(StepSoldOut("tea"))
    turn.steps.clear()
    await ticks()
    gc.collect()

    [record] = [r for r in caplog.records if r.name == "perdure.call"]
    assert record.levelno == logging.ERROR
    assert record.message.startswith("ctx.run('sell') failed and nobody awaited it: StepSoldOut")


@on_loop
async def test_what_cannot_be_sent_is_refused_and_nothing_is_asked_for(turn):
    with pytest.raises(BadArguments, match=r"ctx.call\('payment', 'charge'\) payload\['on'\]"):
        ctx.call("payment", "charge", {"on": object()})
    with pytest.raises(TypeError, match="the name of a service is a str, not type"):
        ctx.call(StepShop, "sell")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"ctx.run takes a name and a function"):
        ctx.run(len, "x")  # type: ignore[arg-type,call-overload]
    with pytest.raises(TypeError, match=r"ctx.run\('x'\): 5 is no function"):
        ctx.run("x", 5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a delay is a timedelta or seconds, not str"):
        ctx.sleep("5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a number"):
        ctx.sleep(float("nan"))

    assert turn.asks == []


@on_loop
async def test_a_coroutine_in_the_place_of_a_function_is_explained(turn):
    async def fetch() -> None:
        raise AssertionError("never started")

    coroutine = fetch()
    with pytest.raises(TypeError, match="no function: give its arguments behind it"):
        ctx.run("fetch", coroutine)  # type: ignore[call-overload]
    coroutine.close()


@on_loop
async def test_where_the_turn_refuses_steps_its_error_passes_through():
    with RecordingTurn(refuses=True).running():
        for ask in (
            lambda: ctx.call("payment", "charge"),
            lambda: ctx.run("x", len),
            lambda: ctx.sleep(1),
            lambda: ctx.cancel("x"),
        ):
            with pytest.raises(RuntimeError, match="no steps here"):
                ask()


@on_loop
async def test_the_context_of_another_call_asks_for_nothing_here(turn):
    stale = RecordingTurn().context

    for ask in (
        lambda: stale.call("payment", "charge"),
        lambda: stale.run("x", len),
        lambda: stale.sleep(1),
        stale.timers,
    ):
        with pytest.raises(RuntimeError, match="is not running here"):
            ask()
    assert turn.asks == []


@on_loop
async def test_the_method_s_own_context_asks_as_ctx_does(turn):
    own: DurableContext = turn.context
    step = own.call("payment", "charge")
    turn.finish("paid")

    assert await step == "paid"


def test_now_is_decided_once_and_the_same_when_the_method_runs_again():
    with RecordingTurn().running() as first:
        times = [ctx.now(), first.context.now()]
    with RecordingTurn(values=first.values).running():
        again = [ctx.now(), ctx.now()]
    with RecordingTurn(values=[encode(datetime(2020, 1, 1, tzinfo=UTC))]).running():
        old = ctx.now()

    assert again == times
    assert times[0] <= times[1]
    assert old.year == 2020
    assert times[0].tzinfo is UTC


# Waits that a clock of the event loop ends.


@on_loop
async def test_asyncio_timeout_around_a_step_is_refused_when_it_ends_the_wait(turn):
    with pytest.raises(RuntimeError, match=r"ctx.call.* use perdure.wait_for"):
        async with asyncio.timeout(0.001):
            await ctx.call("payment", "charge")


@on_loop
async def test_asyncio_wait_for_around_a_step_is_refused_when_it_ends_the_wait(turn):
    with pytest.raises(RuntimeError, match=r"perdure.wait_for"):
        await asyncio.wait_for(ctx.run("x", len), 0.001)


@on_loop
async def test_a_timeout_is_seen_through_gather_and_tasks(turn):
    for wrap in (asyncio.gather, asyncio.create_task):
        with pytest.raises(RuntimeError, match=r"perdure.wait_for"):
            async with asyncio.timeout(30) as timeout:
                waiting = wrap(ctx.run("x", len))
                await ticks()
                timeout.reschedule(0)
                await waiting


@on_loop
async def test_a_step_that_is_done_in_time_may_be_inside_of_a_timeout(turn):
    step = ctx.run("x", len)
    turn.finish(5)

    async with asyncio.timeout(30):
        assert await step == 5
    assert await asyncio.wait_for(step, 30) == 5


@on_loop
async def test_a_wait_that_the_method_itself_cancels_is_just_cancelled(turn):
    step = ctx.run("x", len)
    task = asyncio.create_task(step)
    await ticks()
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    turn.finish(5)
    assert await step == 5


# At top level.


@on_loop
async def test_at_top_level_run_just_runs():
    made = object()

    async def later(value: int) -> int:
        await ticks(2)
        return value

    assert await ctx.run("now", lambda: made) is made
    assert await ctx.run("later", later, 5) == 5
    assert await ctx.run("awaitable", functools.partial(later, value=6)) == 6


@on_loop
async def test_at_top_level_run_raises_what_the_function_raises():
    error = StepSoldOut("tea")

    def fail() -> None:
        raise error

    async def fail_later() -> None:
        raise error

    for function in (fail, fail_later):
        with pytest.raises(StepSoldOut) as raised:
            await ctx.run("fail", function)
        assert raised.value is error


@on_loop
async def test_at_top_level_what_is_not_awaited_runs_all_the_same():
    done = []

    async def later() -> None:
        done.append(1)

    ctx.run("later", later)
    await ticks()

    assert done == [1]


@on_loop
async def test_at_top_level_a_python_service_is_called_here():
    first, second = await asyncio.gather(
        ctx.call("step_shop", "sell", "tea"), ctx.call("step_shop", "sell", "milk")
    )

    assert {first["item"], second["item"]} == {"tea", "milk"}
    assert {first["sold"], second["sold"]} == {1, 2}
    assert first["key"] > 0
    assert await ctx.call("step_shop", "nothing") == "nothing given"


@on_loop
async def test_at_top_level_a_service_fails_as_it_does_in_a_method():
    with pytest.raises(ServiceError, match="LookupError: not here"):
        await ctx.call("step_shop", "fail", None)
    with pytest.raises(ServiceNotFound, match=r"step_shop\.sel.*sell"):
        await ctx.call("step_shop", "sel", "tea")
    with pytest.raises(ServiceNotFound):
        await ctx.call("step_shopp", "sell", "tea")


@on_loop
async def test_at_top_level_a_configured_service_is_called_where_it_is(monkeypatch):
    server = await asyncio.start_server(_answer_paid, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("PERDURE_SERVICES_STEP_BANK_URL", f"http://127.0.0.1:{port}/v1")

    async with server:
        assert await ctx.call("step_bank", "charge", {"cents": 5}) == {"success": True}


async def _answer_paid(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/charge ")
    body = b'{"success": true}'
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    await writer.drain()
    writer.close()


@on_loop
async def test_at_top_level_a_sleep_says_where_it_works():
    with pytest.raises(RuntimeError, match=r"ctx.sleep works inside the methods .* asyncio.sleep"):
        ctx.sleep(1)
