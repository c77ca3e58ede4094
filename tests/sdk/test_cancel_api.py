"""`durable.cancel`: which call it means, when it is sent, and what it says."""

from __future__ import annotations

import asyncio

import pytest
from harness.fake_transport import WELCOME, FakeTransport
from harness.loop import on_loop
from harness.play_session import CART, Play
from harness.recording_turn import RecordingTurn

from perdure import DurableObject, ctx, durable
from perdure.bodies import pack_reply
from perdure.client import Client
from perdure.codec import decode, encode
from perdure.frames import Kind
from perdure.open_call import OpenCall
from perdure.session import SessionLimits


@durable.object
class CancelledJob(DurableObject):
    async def work(self) -> int:
        return 1


ID = "0" * 31 + "1:3:17"


@pytest.fixture
def job() -> CancelledJob:
    return durable.ref(CancelledJob, "j1")


@pytest.fixture
def transport(monkeypatch) -> FakeTransport:
    return use(monkeypatch, FakeTransport())


def use(monkeypatch, transport: FakeTransport, limits: SessionLimits | None = None):
    clients: list[Client] = []

    def current_client() -> Client:
        if not clients:
            clients.append(Client(transport, limits=limits))
        return clients[0]

    monkeypatch.setattr("perdure.remote.current_client", current_client)
    return transport


async def ticks(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def answer(transport: FakeTransport, kind: Kind, value: object) -> None:
    frames = [frame for batch in transport.batches for frame in batch]
    wanted = [f for f, r in zip(frames, transport.requests, strict=True) if r.kind == kind]
    transport.answer(*wanted, body=pack_reply(encode(value)))


@on_loop
async def test_a_call_knows_its_id_once_it_is_on_its_way(job, transport):
    call = job.work()
    before = call.id
    await ticks()
    [request] = transport.requests

    assert before is None
    session, _, sequence = call.id.split(":")
    assert (bytes.fromhex(session), int(sequence)) == (request.session, request.sequence)
    assert int(call.id.split(":")[1]) == transport.batches[0][0].partition
    answer(transport, Kind.CALL, 5)
    assert await call == 5
    assert call.id == f"{session}:{transport.batches[0][0].partition}:{sequence}"


@on_loop
async def test_reads_have_no_id(job, transport):
    call = durable.exists(CancelledJob, "j1")
    await ticks()

    assert call.id is None


@pytest.mark.parametrize(("kill", "method"), [(False, "cancel"), (True, "kill")])
@on_loop
async def test_a_cancel_goes_to_the_object_of_the_call_with_its_id(job, transport, kill, method):
    call = job.work()
    cancelling = asyncio.create_task(durable.cancel(call, kill=kill))
    await ticks()
    of_call, of_cancel = transport.requests
    answer(transport, Kind.CANCEL, True)

    assert await cancelling is True
    assert (of_cancel.kind, of_cancel.type, of_cancel.id) == (Kind.CANCEL, "CancelledJob", "j1")
    assert (of_cancel.method, decode(of_cancel.arguments)) == (method, call.id)
    assert (of_call.sequence, of_cancel.sequence, of_cancel.previous) == (1, 0, 0)


@on_loop
async def test_a_cancel_waits_until_the_call_has_its_id(job, monkeypatch):
    transport = use(monkeypatch, FakeTransport(connects=False))
    call = job.work()
    cancelling = asyncio.create_task(durable.cancel(call))
    await ticks()
    assert transport.requests == []
    transport.listener.welcomed(WELCOME)
    await ticks()

    assert [request.kind for request in transport.requests] == [Kind.CALL, Kind.CANCEL]
    answer(transport, Kind.CANCEL, False)
    assert await cancelling is False


@on_loop
async def test_a_call_that_was_never_sent_cannot_be_cancelled_any_more(job, monkeypatch):
    transport = use(monkeypatch, FakeTransport(connects=False))
    hurried = durable.options(job, timeout=0.001)
    call = hurried.work()
    cancelling = asyncio.create_task(durable.cancel(call))
    with pytest.raises(TimeoutError):
        await call

    assert await cancelling is False
    assert await durable.cancel(call) is False
    assert transport.requests == []


@on_loop
async def test_a_cancel_that_is_given_up_while_it_waits_does_no_harm(job, monkeypatch):
    transport = use(monkeypatch, FakeTransport(connects=False))
    call = job.work()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(durable.cancel(call), 0.001)
    transport.listener.welcomed(WELCOME)
    await ticks()

    assert [request.kind for request in transport.requests] == [Kind.CALL]


@on_loop
async def test_a_cancel_does_not_wait_for_the_calls_that_fill_the_way(job, monkeypatch):
    transport = use(monkeypatch, FakeTransport(), SessionLimits(sent_calls_max=1))
    first, second = job.work(), job.work()
    await ticks()
    cancelling = asyncio.create_task(durable.cancel(first))
    await ticks()

    assert [request.kind for request in transport.requests] == [Kind.CALL, Kind.CANCEL]
    answer(transport, Kind.CANCEL, True)
    assert await cancelling is True
    assert second.id is None


@on_loop
async def test_an_id_is_enough_together_with_the_handle(job, transport):
    cancelling = asyncio.create_task(durable.cancel(job, ID))
    await ticks()
    [request] = transport.requests
    answer(transport, Kind.CANCEL, True)

    assert await cancelling is True
    assert decode(request.arguments) == ID


@on_loop
async def test_in_a_method_the_turn_is_asked(job):
    with RecordingTurn().running() as turn:
        cancelling = asyncio.create_task(durable.cancel(job, ID, kill=True))
    await ticks()
    assert turn.asks == [("call", "CancelledJob[j1]", Kind.CANCEL, "kill", ID)]
    turn.finish(True)

    assert await cancelling is True


@on_loop
async def test_what_is_no_call_to_a_method_cannot_be_cancelled(job, transport):
    with pytest.raises(TypeError, match="cannot be cancelled"):
        await durable.cancel(durable.exists(CancelledJob, "j1"))
    with pytest.raises(TypeError, match="cannot be cancelled"), RecordingTurn().running():
        await durable.cancel(ctx.run("x", len))
    with pytest.raises(TypeError, match="cannot be cancelled"), RecordingTurn().running():
        await durable.cancel(job.work())


@on_loop
async def test_wrong_targets_are_refused(job, transport):
    with pytest.raises(TypeError, match="takes the id of the call too"):
        await durable.cancel(job)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="takes a handle, not str"):
        await durable.cancel(ID)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not all of them"):
        await durable.cancel(job.work(), ID)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="the id of a call is a str, not int"):
        await durable.cancel(job, 5)  # type: ignore[call-overload]
    for wrong in ("", "x", ID + "x", ID.replace("17", "0"), ID.upper() + "é"):
        with pytest.raises(ValueError, match="no id of a call"):
            await durable.cancel(job, wrong)


def test_a_cancel_is_not_numbered_and_may_be_sent_again() -> None:
    play = Play()
    play.call("a")
    play.call("end", kind=Kind.CANCEL)
    play.call("b")

    a, end, b = play.requests()
    assert [a.sequence, end.sequence, b.sequence] == [1, 0, 2]
    assert (end.previous, b.previous) == (0, 1)


def test_a_call_tells_when_it_gets_its_number() -> None:
    told = []
    play = Play()
    play.call("a").when_numbered = lambda: told.append("a")
    assert told == []
    play.requests()

    assert told == ["a"]
    assert OpenCall("t", Kind.CALL, CART).id is None
