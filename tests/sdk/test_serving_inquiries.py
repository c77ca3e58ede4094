"""`Inspect`, `ListCalls` and `Decide` as a server takes them from anybody."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from harness.loop import on_loop
from harness.serving import EchoBackend, call_raw, reason_of, serving

from perdure.bodies import pack_error
from perdure.client import Answer
from perdure.codec import decode, encode
from perdure.errors import Code, NotOwner
from perdure.frames import Kind, Reply
from perdure.ids import ObjectKey
from perdure.wire.v1 import cluster_pb2

CALL_ID = f"{'ab' * 16}:3:17"


@dataclass
class Inspected(EchoBackend):
    asked: list[Any] = field(default_factory=list)

    async def inspect(self, target: ObjectKey) -> cluster_pb2.Inspection:
        self.asked.append(target)
        return cluster_pb2.Inspection(node="n1", partition=2, reachable=True)

    async def list_calls(self, asked: cluster_pb2.ListCallsRequest) -> cluster_pb2.CallPage:
        self.asked.append(asked)
        return cluster_pb2.CallPage(more=True, next="p")

    async def decide(self, target: ObjectKey, decision: int, name: str) -> bool:
        self.asked.append((target, decision, name))
        return True

    def check_owner(self, target: Any) -> None:
        if target.id == "theirs":
            raise NotOwner(1, 2)


def decide(decision: int, id: str = "a", name: str = "") -> bytes:
    request = cluster_pb2.DecideRequest(type="Cart", id=id, name=name)
    request.decision = decision  # type: ignore[assignment]
    return request.SerializeToString()


async def refused(address: str, method: str, message: bytes) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call_raw(address, f"Cluster/{method}", message)
    return caught.value.code(), reason_of(caught.value.trailing_metadata())


@on_loop
async def test_questions_and_decisions_reach_the_backend() -> None:
    backend = Inspected()
    asked = cluster_pb2.ListCallsRequest(parked_only=True, limit=5)
    retry = cluster_pb2.DECISION_RETRY_TIMER
    async with serving(backend) as (_, address):
        request = cluster_pb2.InspectRequest(type="Cart", id="a").SerializeToString()
        inspection = await call_raw(address, "Cluster/Inspect", request)
        page = await call_raw(address, "Cluster/ListCalls", asked.SerializeToString())
        decided = await call_raw(address, "Cluster/Decide", decide(retry, name="bill"))

    assert cluster_pb2.Inspection.FromString(inspection).node == "n1"
    assert cluster_pb2.CallPage.FromString(page).next == "p"
    assert cluster_pb2.Decided.FromString(decided).done
    key = ObjectKey("Cart", "a")
    assert backend.asked == [key, asked, (key, retry, "bill")]


@pytest.mark.parametrize("method", ["Inspect", "ListCalls", "Decide"])
@on_loop
async def test_what_is_no_message_is_malformed(method: str) -> None:
    async with serving(Inspected()) as (_, address):
        assert await refused(address, method, b"\xff\xff") == (
            grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED",
        )  # fmt: skip


@pytest.mark.parametrize(("type", "id"), [("", "a"), ("C\0", "a"), ("C" * 513, "a"), ("C", "")])
@on_loop
async def test_what_can_be_no_object_is_refused(type: str, id: str) -> None:
    backend = Inspected()
    request = cluster_pb2.InspectRequest(type=type, id=id).SerializeToString()
    async with serving(backend) as (_, address):
        assert (await refused(address, "Inspect", request))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert backend.asked == []


@pytest.mark.parametrize("decision", [0, 99])
@on_loop
async def test_a_decision_that_does_not_exist_is_refused(decision: int) -> None:
    backend = Inspected()
    async with serving(backend) as (_, address):
        assert (await refused(address, "Decide", decide(decision)))[1] == "MALFORMED"
    assert backend.asked == []


@pytest.mark.parametrize(
    ("decision", "how"),
    [(cluster_pb2.DECISION_CANCEL_CALL, "cancel"), (cluster_pb2.DECISION_KILL_CALL, "kill")],
)
@on_loop
async def test_a_call_is_cancelled_like_any_caller_would(decision: int, how: str) -> None:
    backend = Inspected()
    backend.client.answer = Answer(0, Reply(encode(True), None, None))
    async with serving(backend) as (_, address):
        message = decide(decision, name=CALL_ID)
        decided = await call_raw(address, "Cluster/Decide", message)

    assert cluster_pb2.Decided.FromString(decided).done
    [asked] = backend.client.asked
    assert (asked["kind"], asked["method"]) == (Kind.CANCEL, how)
    assert decode(asked["arguments"]) == CALL_ID


@on_loop
async def test_a_cancellation_that_fails_says_why() -> None:
    backend = Inspected()
    code, payload = pack_error(Code.NO_OWNER, (1,))
    backend.client.answer = Answer(code, Reply(payload, None, None))
    cancel = cluster_pb2.DECISION_CANCEL_CALL
    async with serving(backend) as (_, address):
        assert (await refused(address, "Decide", decide(cancel, name="x")))[1] == "MALFORMED"
        theirs = decide(cancel, "theirs", CALL_ID)
        assert (await refused(address, "Decide", theirs))[1] == "NOT_OWNER"
        assert (await refused(address, "Decide", decide(cancel, name=CALL_ID)))[1] == "NO_OWNER"
