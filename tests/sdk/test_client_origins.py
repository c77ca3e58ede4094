"""Calls that leave a partition, through a client on its event loop."""

from __future__ import annotations

import asyncio
import time

import pytest
from harness.fake_transport import FakeTransport
from harness.loop import on_loop

from perdure.client import Client
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import CallId, ObjectKey, partition_session_id

CART = ObjectKey("Cart", "u1")
HERE = partition_session_id("c", 7)
THERE = partition_session_id("c", 8)


def leave(client: Client, sequence: int, session: bytes = HERE):
    origin = CallId(session, 3, sequence)
    return client.call(CART, Kind.CALL, f"m{sequence}", timeout_s=None, origin=origin)


@on_loop
async def test_the_outcome_stays_at_the_target_until_it_is_confirmed() -> None:
    transport = FakeTransport(echoes=True)
    client = Client(transport)
    first = leave(client, 1)
    assert (await first).code == Code.OK
    assert first.call_id == CallId(HERE, 3, 1)

    await leave(client, 2)
    client.confirm(CallId(HERE, 3, 1))
    await leave(client, 3)

    assert [request.confirmed for request in transport.requests] == [[0], [0], [1]]
    assert {frame.partition for batch in transport.batches for frame in batch} == {3}
    await client.close()


@on_loop
async def test_a_confirmation_is_told_even_if_no_call_follows() -> None:
    told = asyncio.Event()

    class Heard(FakeTransport):
        def send(self, frames) -> None:
            super().send(frames)
            if self.requests[-1].kind == Kind.CONFIRM:
                told.set()

    client = Client(Heard(echoes=True))
    await leave(client, 1)

    client.confirm(CallId(HERE, 3, 1))

    await asyncio.wait_for(told.wait(), 60)
    await client.close()


@on_loop
async def test_a_call_that_is_confirmed_without_an_answer_is_cancelled() -> None:
    transport = FakeTransport()
    client = Client(transport)
    future = leave(client, 1)

    client.confirm(CallId(HERE, 3, 1))
    client.confirm(CallId(HERE, 3, 1))

    assert future.cancelled()
    await client.close()
    assert transport.methods == []
    assert transport.requests[-1].confirmed == [1]


@on_loop
async def test_a_partition_goes_on_where_another_process_has_left_it() -> None:
    transport = FakeTransport()
    client = Client(transport)
    client.resume_origin(HERE, 3, 5, [2, 4])

    for sequence in (4, 2):
        leave(client, sequence)
    await asyncio.sleep(0)

    sent = transport.requests
    assert [(r.sequence, r.previous, r.confirmed) for r in sent] == [
        (2, 0, [1, 3, 3]),
        (4, 2, [1, 3, 3]),
    ]
    with pytest.raises(ValueError, match="here already"):
        client.resume_origin(HERE, 3, 5, [2, 4])
    await client.close()


@on_loop
async def test_a_partition_that_leaves_gets_no_answers_that_it_could_note() -> None:
    client = Client(FakeTransport())
    gone, stays = leave(client, 1), leave(client, 1, THERE)
    await asyncio.sleep(0)

    client.leave_origin(HERE)

    assert gone.cancelled()
    assert not stays.done()
    client.resume_origin(HERE, 3, 2, [1])
    again = leave(client, 1)
    await client.close()
    assert again.cancelled()
    assert stays.cancelled()


@on_loop
async def test_a_client_that_closes_does_not_wait_for_calls_that_go_on_elsewhere() -> None:
    client = Client(FakeTransport())
    future = leave(client, 1)
    started = time.monotonic()

    await client.close()

    assert future.cancelled()
    assert time.monotonic() - started < 9
