"""A call on its way, driven in every way that asyncio has."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from collections.abc import Coroutine

import pytest
from harness.loop import on_loop

from perdure import CallRejected, Overloaded
from perdure.bodies import pack_error
from perdure.call import Call
from perdure.client import Answer
from perdure.codec import decode, encode
from perdure.errors import Code, code_of
from perdure.frames import Reply
from perdure.raised import pack_exception


def value(result: object) -> Answer:
    return Answer(Code.OK, Reply(encode(result), None, None))


def raised(error: Exception) -> Answer:
    payload = pack_exception(error, object="Cart[u1]", method="total", call_id="c1")
    return Answer(Code.RAISED, Reply(payload, None, None))


def refused(error) -> Answer:
    code, payload = pack_error(code_of(error), error.args)
    return Answer(code, Reply(payload, None, None))


def start(arrived=None) -> tuple[asyncio.Future[Answer], Call]:
    future = asyncio.get_running_loop().create_future()
    return future, Call("Cart.total()", future, lambda reply: decode(reply.payload), arrived)


async def ticks(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@on_loop
async def test_a_call_is_a_coroutine_and_awaiting_it_gives_the_result():
    future, call = start()
    future.set_result(value(5))

    assert isinstance(call, Coroutine)
    assert inspect.isawaitable(call)
    assert await call == 5


@on_loop
async def test_a_call_can_be_awaited_again_and_again_and_gives_a_copy_each_time():
    future, call = start()
    future.set_result(value([1]))

    first = await call
    first.append(2)

    assert await call == [1]


@on_loop
async def test_a_call_can_be_awaited_before_and_after_its_answer():
    future, call = start()
    asyncio.get_running_loop().call_soon(future.set_result, value(5))

    assert await call == 5
    assert await call == 5


@on_loop
async def test_wait_for_may_be_repeated_after_a_timeout():
    future, call = start()

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.001)
    assert not future.done()
    future.set_result(value(5))

    assert await asyncio.wait_for(call, 1) == 5


@on_loop
async def test_several_tasks_may_drive_one_call():
    future, call = start()
    first, second = asyncio.create_task(call), asyncio.create_task(call)
    await ticks()
    future.set_result(value(5))

    assert await first == await second == 5


@on_loop
async def test_gather_task_group_and_as_completed_take_calls():
    (one, first), (two, second) = start(), start()
    asyncio.get_running_loop().call_soon(one.set_result, value(1))
    asyncio.get_running_loop().call_soon(two.set_result, value(2))

    assert await asyncio.gather(first, second, first) == [1, 2, 1]
    assert sorted([await done for done in asyncio.as_completed([first, second])]) == [1, 2]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(first), group.create_task(second)]
    assert [task.result() for task in tasks] == [1, 2]


@on_loop
async def test_asyncio_wait_takes_tasks_made_of_calls():
    future, call = start()
    future.set_result(value(5))

    done, _ = await asyncio.wait({asyncio.create_task(call)})
    assert [task.result() for task in done] == [5]
    with pytest.raises(TypeError):
        await asyncio.wait({call})


@on_loop
async def test_cancelling_one_who_waits_leaves_the_others_and_the_call_alone():
    future, call = start()
    first, second = asyncio.create_task(call), asyncio.create_task(call)
    await ticks()

    first.cancel()
    await ticks()
    assert first.cancelled()
    assert not future.done()
    future.set_result(value(5))

    assert await second == 5
    assert await call == 5


@on_loop
async def test_a_task_cancelled_before_it_began_leaves_the_call_alone():
    future, call = start()
    task = asyncio.create_task(call)
    task.cancel()
    await ticks()
    future.set_result(value(5))

    assert task.cancelled()
    assert await call == 5


@on_loop
async def test_a_coroutine_that_awaits_a_call_can_be_awaited_by_hand():
    future, call = start()
    future.set_result(value(5))

    async def outer():
        return await call + await call

    assert await outer() == 10


@on_loop
async def test_closing_a_call_ends_only_the_waiting():
    future, call = start()
    call.send(None)
    call.close()
    call.close()
    future.set_result(value(5))

    assert await call == 5


@on_loop
async def test_each_await_of_a_failed_call_raises_a_fresh_copy_of_the_error():
    future, call = start()
    future.set_result(raised(ValueError("nope")))

    with pytest.raises(ValueError, match="nope") as first:
        await call
    with pytest.raises(ValueError, match="nope") as second:
        await call

    assert first.value is not second.value


@on_loop
async def test_an_error_of_ours_is_raised_as_its_class():
    future, call = start()
    future.set_result(refused(Overloaded("Cart[u1]", 0.5)))

    with pytest.raises(Overloaded) as error:
        await call

    assert isinstance(error.value, CallRejected)
    assert error.value.retry_after_s == 0.5


@pytest.mark.parametrize(
    "use",
    [
        bool,
        len,
        int,
        float,
        iter,
        list,
        lambda call: not call,
        lambda call: call < 5,
        lambda call: call < 5,
        lambda call: call + 1,
        lambda call: 1 + call,
        lambda call: call * 2.0,
        lambda call: -call,
        lambda call: call[0],
        lambda call: 1 in call,
        round,
        lambda call: "x" * call,
    ],
)
def test_a_call_taken_for_its_result_says_that_it_is_on_its_way(use):
    async def main():
        future, call = start()
        future.set_result(value(5))
        with pytest.raises(TypeError, match=r"Cart\.total\(\) is on its way: await it"):
            use(call)

    asyncio.run(main())


@on_loop
async def test_an_attribute_of_the_result_asked_of_the_call_says_so_too():
    _, call = start()

    with pytest.raises(AttributeError, match=r"Cart\.total\(\) is on its way, it has no 'append'"):
        call.append(1)


@on_loop
async def test_a_call_shows_what_it_is():
    future, call = start()
    assert repr(call) == "<Call Cart.total(), on its way>"
    future.set_result(value(5))
    assert repr(call) == "<Call Cart.total(), answered>"


@on_loop
async def test_what_the_answer_says_is_applied_once_though_nobody_awaits():
    seen = []
    future, call = start(seen.append)
    answer = value(5)
    future.set_result(answer)
    await ticks()
    assert seen == [answer]

    await call
    await call
    assert seen == [answer]


@on_loop
async def test_what_the_answer_says_is_applied_before_anybody_sees_the_result():
    seen = []
    future, call = start(seen.append)
    future.set_result(value(5))

    await call

    assert len(seen) == 1


@on_loop
async def test_what_the_answer_of_an_error_says_is_applied_too():
    seen = []
    future, call = start(seen.append)
    future.set_result(raised(ValueError()))
    with pytest.raises(ValueError):
        await call
    assert len(seen) == 1


@on_loop
async def test_an_error_that_nobody_awaits_is_logged(caplog):
    future, call = start()
    future.set_result(raised(ValueError("nope")))
    del call, future
    await ticks()
    gc.collect()

    [record] = caplog.records
    assert record.name == "perdure.call"
    assert record.levelno == logging.ERROR
    assert record.getMessage() == ("Cart.total() failed and nobody awaited it: ValueError: nope")


@on_loop
async def test_an_error_that_comes_when_the_call_is_forgotten_is_logged(caplog):
    future, call = start()
    del call
    future.set_result(refused(Overloaded("Cart[u1]", 0.5)))
    del future
    await ticks()
    gc.collect()

    assert ["Overloaded" in record.getMessage() for record in caplog.records] == [True]


@on_loop
async def test_an_error_that_was_awaited_is_not_logged(caplog):
    future, call = start()
    future.set_result(raised(ValueError("nope")))
    with pytest.raises(ValueError, match="nope"):
        await call
    del call, future
    await ticks()
    gc.collect()

    assert caplog.records == []


@on_loop
async def test_a_result_that_nobody_awaits_is_not_logged(caplog):
    future, call = start()
    future.set_result(value(5))
    del call, future
    await ticks()
    gc.collect()

    assert caplog.records == []


def test_a_call_that_ends_with_its_loop_leaves_no_noise(caplog):
    async def main():
        start()

    asyncio.run(main())
    gc.collect()

    assert caplog.records == []
