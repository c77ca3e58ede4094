"""`durable.send`: calls whose result nobody waits for."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import time
from datetime import timedelta

import pytest
from harness.fake_transport import FakeTransport
from harness.loop import on_loop
from harness.recording_turn import RecordingTurn

from perdure import (
    BadArguments,
    BadKey,
    Call,
    DurableContext,
    DurableObject,
    ObjectNotFound,
    UnknownMethod,
    durable,
)
from perdure.bodies import pack_error, pack_reply, pack_request, unpack_request
from perdure.client import Client
from perdure.codec import decode
from perdure.errors import BadPayload, Code
from perdure.frames import Kind, encode


@durable.object
class SentParcel(DurableObject):
    weight = 5

    async def ship(self, to: str, *, fast: bool = False) -> str:
        """Ship it."""
        return to

    def total(self, ctx: DurableContext) -> int:
        return 1


@pytest.fixture
def parcel() -> SentParcel:
    return durable.ref(SentParcel, "p1")


@pytest.fixture
def transport(monkeypatch) -> FakeTransport:
    made = FakeTransport()
    clients: list[Client] = []

    def current_client() -> Client:
        if not clients:
            clients.append(Client(made))
        return clients[0]

    monkeypatch.setattr("perdure.sending.current_client", current_client)
    return made


@on_loop
async def test_a_send_travels_with_its_arguments_and_gives_none(parcel, transport):
    call = durable.send(parcel).ship("Rome", fast=True)
    await asyncio.sleep(0)
    [request] = transport.requests
    transport.answer(*transport.batches[0], body=pack_reply(b""))

    assert isinstance(call, Call)
    assert await call is None
    assert (request.kind, request.type, request.id) == (Kind.SEND, "SentParcel", "p1")
    assert (request.method, decode(request.arguments)) == ("ship", [["Rome"], {"fast": True}])
    assert (request.sequence, request.key, request.have, request.due_ms) == (1, None, None, 0)


@on_loop
async def test_a_send_that_nobody_awaits_is_sent(parcel, transport):
    durable.send(parcel).ship("Rome")
    await asyncio.sleep(0)

    assert transport.methods == ["ship"]


@on_loop
async def test_a_delay_is_a_time_of_the_wall_clock_and_none_or_less_is_at_once(parcel, transport):
    for delay in (60, timedelta(minutes=1), 0, -5, timedelta(-1)):
        durable.send(parcel, delay=delay).ship("Rome")
    await asyncio.sleep(0)

    first, second, *others = [request.due_ms for request in transport.requests]
    for due_ms in (first, second):
        assert abs(due_ms - time.time() * 1000 - 60_000) < 30_000
    assert others == [0, 0, 0]


@on_loop
async def test_a_key_goes_along_its_own_or_that_of_the_handle(parcel, transport):
    keyed = durable.options(parcel, key="of the handle")
    durable.send(parcel, key="its own").ship("Rome")
    durable.send(keyed).ship("Rome")
    durable.send(keyed, key="its own").ship("Rome")
    await asyncio.sleep(0)

    assert [r.key for r in transport.requests] == ["its own", "of the handle", "its own"]


@on_loop
async def test_a_send_that_is_refused_raises_where_it_is_awaited(parcel, transport):
    call = durable.send(parcel).ship("Rome")
    await asyncio.sleep(0)
    code, payload = pack_error(Code.OBJECT_NOT_FOUND, ("SentParcel", "p1"))
    transport.answer(*transport.batches[0], code=Code(code), body=pack_reply(payload))

    with pytest.raises(ObjectNotFound):
        await call


@on_loop
async def test_in_a_method_the_turn_sends(parcel):
    with RecordingTurn().running() as turn:
        call = durable.send(parcel, delay=60, key="k").ship("Rome")
        later = durable.send(parcel).total()
    turn.steps[0].get_loop()
    turn.finish(None)

    assert await call is None
    (kind, target, method, arguments, due_ms, key), other = turn.asks
    assert (kind, target, method, key) == ("send", "SentParcel[p1]", "ship", "k")
    assert arguments == [["Rome"], {}]
    assert abs(due_ms - time.time() * 1000 - 60_000) < 30_000
    assert other == ("send", "SentParcel[p1]", "total", b"", 0, None)
    assert "on its way" in repr(later)


@on_loop
async def test_where_a_method_may_not_send_the_error_passes_through(parcel):
    with RecordingTurn(refuses=True).running(), pytest.raises(RuntimeError, match="no steps here"):
        durable.send(parcel).ship("Rome")


@on_loop
async def test_a_send_of_a_sync_method_can_be_written_with_durable_call(parcel, transport):
    call = durable.call(durable.send(parcel).total)
    await asyncio.sleep(0)
    transport.answer(*transport.batches[0], body=pack_reply(b""))

    assert await call is None
    assert transport.methods == ["total"]


@on_loop
async def test_wrong_arguments_are_refused_and_nothing_is_sent(parcel, transport):
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'to'"):
        durable.send(parcel).ship()  # type: ignore[call-arg]
    with pytest.raises(BadArguments, match=r"SentParcel.ship\(\) argument to: object"):
        durable.send(parcel).ship(object())  # type: ignore[arg-type]
    await asyncio.sleep(0)

    assert transport.requests == []


def test_options_that_are_not_possible_are_refused_at_once(parcel):
    with pytest.raises(TypeError, match=r"durable.send takes a handle, not type"):
        durable.send(SentParcel)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="a delay is a timedelta or seconds, not str"):
        durable.send(parcel, delay="5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a number"):
        durable.send(parcel, delay=float("nan"))
    with pytest.raises(BadKey):
        durable.send(parcel, key="")


def test_it_looks_like_a_handle_with_methods_only(parcel):
    sender = durable.send(parcel)

    assert repr(sender) == "<send to <SentParcel 'p1'>>"
    assert dir(sender) == ["ship", "total"]
    assert sender.ship.__doc__ == "Ship it."
    assert str(inspect.signature(sender.ship)) == str(inspect.signature(parcel.ship))
    with pytest.raises(UnknownMethod, match="shp"):
        sender.shp  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(UnknownMethod, match="weight"):
        sender.weight  # noqa: B018
    with pytest.raises(AttributeError, match="cannot be set"):
        sender.weight = 5
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(sender)


@on_loop
async def test_without_a_loop_a_send_says_what_to_use(parcel):
    def send() -> None:
        durable.send(parcel).ship("Rome")

    with pytest.raises(RuntimeError, match=r"perdure.sync.run"):
        await asyncio.to_thread(send)


@on_loop
async def test_a_due_time_is_part_of_a_body_and_never_negative(parcel, transport):
    durable.send(parcel, delay=60).ship("Rome")
    await asyncio.sleep(0)
    [request] = transport.requests

    assert unpack_request(pack_request(request)).fields() == request.fields()
    with pytest.raises(BadPayload):
        unpack_request(encode([*request.fields()[:-1], -1]))
