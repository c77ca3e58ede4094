"""The shell around a session: one message a tick, answers to futures, an orderly end."""

from __future__ import annotations

import asyncio
import logging

import pytest
from harness.fake_transport import WELCOME, FakeTransport
from harness.loop import on_loop

from perdure.client import Client
from perdure.errors import Code, ConfigError, DeadlineExceeded
from perdure.frames import Kind
from perdure.ids import ObjectKey

CART = ObjectKey("Cart", "u1")


@on_loop
async def test_everything_called_in_one_tick_travels_together() -> None:
    transport = FakeTransport()
    client = Client(transport)

    for method in "abc":
        client.call(CART, Kind.CALL, method)
    await asyncio.sleep(0)

    assert [len(batch) for batch in transport.batches] == [3]
    assert transport.methods == ["a", "b", "c"]


@on_loop
async def test_callers_woken_by_one_message_call_again_in_one_message() -> None:
    transport = FakeTransport()
    client = Client(transport)

    async def caller() -> None:
        for _ in range(2):
            await client.call(CART, Kind.CALL, "add")

    callers = asyncio.gather(*[caller() for _ in range(10)])
    while not transport.batches:
        await asyncio.sleep(0)
    transport.echoes = True
    transport.answer(*transport.batches[0])
    await callers

    assert [len(batch) for batch in transport.batches] == [10, 10]


@on_loop
async def test_a_call_is_sent_though_nobody_awaits_it() -> None:
    transport = FakeTransport()
    client = Client(transport)

    client.call(CART, Kind.CALL, "add")
    await asyncio.sleep(0)

    assert transport.methods == ["add"]


@on_loop
async def test_giving_up_waiting_ends_neither_the_call_nor_the_client() -> None:
    transport = FakeTransport()
    client = Client(transport)
    future = client.call(CART, Kind.CALL, "add")
    await asyncio.sleep(0)

    future.cancel()
    transport.answer(*transport.batches[0])
    transport.echoes = True
    answer = await client.call(CART, Kind.CALL, "add")

    assert answer.code == Code.OK
    assert client.open_count == 0


@on_loop
async def test_calls_made_before_there_is_a_connection_are_sent_when_there_is() -> None:
    transport = FakeTransport(connects=False, echoes=True)
    client = Client(transport)
    future = client.call(CART, Kind.CALL, "add")
    await asyncio.sleep(0)
    assert transport.batches == []

    client.welcomed(WELCOME)

    assert (await future).code == Code.OK
    assert client.partition_count == 16


@on_loop
async def test_a_call_that_is_not_answered_ends_at_its_deadline() -> None:
    client = Client(FakeTransport())

    answer = await client.call(CART, Kind.CALL, "add", timeout_s=0.03)

    assert answer.code == Code.DEADLINE_EXCEEDED
    assert client.open_count == 0


@on_loop
async def test_a_deadline_passes_without_any_connection_too() -> None:
    client = Client(FakeTransport(connects=False))

    answer = await client.call(CART, Kind.CALL, "add", timeout_s=0.03)

    assert answer.code == Code.DEADLINE_EXCEEDED


@on_loop
async def test_an_answer_that_cannot_be_read_ends_its_call_and_no_other() -> None:
    transport = FakeTransport()
    client = Client(transport)
    bad, good = client.call(CART, Kind.CALL, "a"), client.call(CART, Kind.CALL, "b")
    await asyncio.sleep(0)
    first, second = transport.batches[0]

    transport.answer(first, body=b"\xc1")
    transport.answer(second)

    assert (await bad).code == Code.INTERNAL
    assert (await good).code == Code.OK


@on_loop
async def test_a_refused_call_is_sent_again_by_itself() -> None:
    transport = FakeTransport()
    client = Client(transport)
    future = client.call(CART, Kind.CALL, "add")
    await asyncio.sleep(0)
    transport.answer(*transport.batches[0], code=Code.DRAINING)

    transport.echoes = True

    assert (await future).code == Code.OK
    first, second = transport.requests
    assert first.fields() == second.fields()


@on_loop
async def test_closing_waits_for_calls_under_way_and_tells_of_their_answers() -> None:
    transport = FakeTransport()
    client = Client(transport)
    future = client.call(CART, Kind.CALL, "add")
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not closing.done()

    transport.answer(*transport.batches[0])
    await closing

    assert (await future).code == Code.OK
    assert [request.kind for request in transport.requests] == [Kind.CALL, Kind.CONFIRM]
    assert transport.requests[-1].confirmed == [1]
    assert transport.closed


@on_loop
async def test_closing_gives_up_in_the_end_and_says_so() -> None:
    transport = FakeTransport()
    client = Client(transport)
    future = client.call(CART, Kind.CALL, "add", timeout_s=None)

    await client.close(timeout_s=0.02)

    assert (await future).code == Code.DEADLINE_EXCEEDED
    assert client.open_count == 0


def test_calls_that_are_given_up_at_the_end_are_logged(caplog) -> None:
    async def leave() -> None:
        client = Client(FakeTransport())
        client.call(CART, Kind.CALL, "add", timeout_s=None)
        await client.close(timeout_s=0)

    with caplog.at_level(logging.WARNING, "perdure"):
        asyncio.run(leave())

    assert caplog.messages == ["closed with 1 calls unanswered: they may have run"]


@on_loop
async def test_a_closed_client_takes_no_calls() -> None:
    client = Client(FakeTransport())
    await client.close()

    with pytest.raises(RuntimeError, match="closed"):
        client.call(CART, Kind.CALL, "add")


@on_loop
async def test_a_client_that_can_never_connect_says_why_for_every_call() -> None:
    client = Client(FakeTransport(connects=False))
    future = client.call(CART, Kind.CALL, "add")

    client.fail(ConfigError("the directory is no directory"))

    with pytest.raises(ConfigError):
        await future
    with pytest.raises(ConfigError):
        client.call(CART, Kind.CALL, "add")
    with pytest.raises(ConfigError):
        await client.connected()


@on_loop
async def test_waiting_for_a_connection_ends_in_time_and_tells_what_is_wrong() -> None:
    client = Client(FakeTransport(connects=False))
    client.lost("no connection to there:1: refused")

    with pytest.raises(DeadlineExceeded, match="there:1: refused"):
        await client.connected(0.01)
