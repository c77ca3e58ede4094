"""Unary calls against a real gRPC server on loopback."""

import asyncio
import json

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from harness.serving import EchoBackend, call_raw, details_of, serving

from perdure import values
from perdure.bodies import pack_error
from perdure.client import Answer
from perdure.errors import KINDS, Code, DiskFull, NotOwner, PerdureError
from perdure.frames import Encoding, Kind, Reply
from perdure.ids import ObjectKey
from perdure.raised import pack_exception
from perdure.serving.limits import ServerLimits
from perdure.serving.status import Refusal
from perdure.serving.unary import answer_call
from perdure.wire.v1 import calls_pb2

JSON = calls_pb2.ENCODING_JSON
MSGPACK = calls_pb2.ENCODING_MSGPACK


@values.register
class OutOfTea(Exception):
    """Travels by its name."""


class Secret(Exception):
    """Does not."""


def message(**changes) -> bytes:
    fields = {"type": "Counter", "id": "a", "method": "add"} | changes
    return calls_pb2.CallRequest(**fields).SerializeToString()


def payload(data: bytes, encoding: int = JSON) -> calls_pb2.Payload:
    return calls_pb2.Payload(encoding=encoding, data=data)


def served(test, backend=None, limits: ServerLimits | None = None) -> EchoBackend:
    """Run `test(address)` against a server."""
    backend = backend or EchoBackend()

    async def run() -> None:
        async with serving(backend, limits) as (_, address):
            await test(address)

    asyncio.run(asyncio.wait_for(run(), 300))
    return backend


async def refusal(address: str, body: bytes, method: str = "Calls/Call", **options):
    """Return status, reason, applied and text of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call_raw(address, method, body, **options)
    error = caught.value
    info = details_of(error.trailing_metadata())
    assert info is not None
    assert info.domain == "perdure"
    return error.code().name, info.reason, info.metadata["applied"], error.details()


def answering(code: int, body: bytes) -> EchoBackend:
    backend = EchoBackend()
    backend.client.answer = Answer(code, Reply(body, None, None))
    return backend


def test_a_call_is_made_by_the_backends_client_and_its_result_is_answered() -> None:
    async def test(address: str) -> None:
        body = message(arguments=payload(b"[1]"), idempotency_key="k")
        answer = calls_pb2.CallAnswer.FromString(await call_raw(address, "Calls/Call", body))

        assert answer.result == payload(b"42")

    backend = answering(Code.OK, b"42")
    served(test, backend)

    (asked,) = backend.client.asked
    assert 29 < asked.pop("timeout_s") < 30
    assert asked == {
        "target": ObjectKey("Counter", "a"),
        "kind": Kind.CALL,
        "method": "add",
        "arguments": b"[1]",
        "encoding": Encoding.JSON,
        "key": "k",
    }


def test_without_arguments_a_call_is_json_and_passes_none() -> None:
    async def test(address: str) -> None:
        answer = calls_pb2.CallAnswer.FromString(await call_raw(address, "Calls/Call", message()))
        assert answer.result == payload(b"null")

    (asked,) = served(test).client.asked
    assert (asked["encoding"], asked["arguments"], asked["key"]) == (Encoding.JSON, b"[]", None)


def test_messagepack_is_answered_in_messagepack() -> None:
    async def test(address: str) -> None:
        body = message(arguments=payload(b"", MSGPACK))
        answer = calls_pb2.CallAnswer.FromString(await call_raw(address, "Calls/Call", body))
        assert answer.result == payload(b"null", MSGPACK)

    (asked,) = served(test).client.asked
    assert (asked["encoding"], asked["arguments"]) == (Encoding.MSGPACK, b"\x92\x90\x80")


def test_every_operation_reaches_the_client_as_its_kind() -> None:
    operations = {
        calls_pb2.OPERATION_GET_OR_CREATE: Kind.GET_OR_CREATE,
        calls_pb2.OPERATION_GET: Kind.GET,
        calls_pb2.OPERATION_EXISTS: Kind.EXISTS,
        calls_pb2.OPERATION_DELETE: Kind.DELETE,
    }

    async def test(address: str) -> None:
        for operation in operations:
            await call_raw(address, "Calls/Call", message(operation=operation, method=""))

    asked = served(test).client.asked
    assert [a["kind"] for a in asked] == list(operations.values())


BAD_REQUESTS = {
    "no protobuf": (b"\xff\xff", "MALFORMED"),
    "half a message": (message()[:-2], "MALFORMED"),
    "a string where a message belongs": (b"\x2a\x01\xff", "MALFORMED"),
    "no type": (message(type=""), "BAD_KEY"),
    "a type with NUL": (message(type="a\0b"), "BAD_KEY"),
    "a long type": (message(type="é" * 257), "BAD_KEY"),
    "a type of no UTF-8": (b"\x0a\x02\xff\xfe" + message(type=""), "BAD_KEY"),
    "no id": (message(id=""), "BAD_KEY"),
    "an id with NUL": (message(id="\0"), "BAD_KEY"),
    "a long id": (message(id="x" * 513), "BAD_KEY"),
    "a long id of few characters": (message(id="😀" * 129), "BAD_KEY"),
    "an id of no UTF-8": (message(id="") + b"\x12\x01\x80", "BAD_KEY"),
    "an id that is half a surrogate pair": (message(id="") + b"\x12\x03\xed\xa0\x80", "BAD_KEY"),
    "an operation that there is not": (message(operation=99), "MALFORMED"),
    "arguments for a read": (
        message(operation=2, method="", arguments=payload(b"[]")),
        "BAD_ARGUMENTS",
    ),
    "a method for a read": (message(operation=2), "BAD_ARGUMENTS"),
    "bytes of no encoding": (message(arguments=payload(b"[]", 0)), "CODEC_NOT_ALLOWED"),
    "an encoding that there is not": (message(arguments=payload(b"", 7)), "CODEC_NOT_ALLOWED"),
    "an empty key": (message(idempotency_key=""), "BAD_IDEMPOTENCY_KEY"),
    "a long key": (message(idempotency_key="x" * 257), "BAD_IDEMPOTENCY_KEY"),
    "a key of no UTF-8": (message() + b"\x32\x01\xff", "BAD_IDEMPOTENCY_KEY"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_request_that_is_wrong_in_itself_is_refused_before_any_call(name: str) -> None:
    body, reason = BAD_REQUESTS[name]

    async def test(address: str) -> None:
        status, got, applied, _ = await refusal(address, body)
        assert (status, got, applied) == ("INVALID_ARGUMENT", reason, "no")
        await call_raw(address, "Calls/Call", message())

    assert len(served(test).client.asked) == 1


def test_ids_are_kept_byte_for_byte() -> None:
    ids = ["e\u0301", "\u00e9", " ", "a/b", "\u202e", "x" * 512, "😀" * 128]

    async def test(address: str) -> None:
        for id in ids:
            await call_raw(address, "Calls/Call", message(id=id))

    assert [asked["target"].id for asked in served(test).client.asked] == ids


def test_a_long_method_name_is_unknown_and_not_echoed_whole() -> None:
    async def test(address: str) -> None:
        status, reason, applied, text = await refusal(address, message(method="m" * 100_000))
        assert (status, reason, applied) == ("UNIMPLEMENTED", "UNKNOWN_METHOD", "no")
        assert len(text) < 200

    served(test)


def test_a_message_over_the_limit_is_refused_with_details() -> None:
    async def test(address: str) -> None:
        body = message(arguments=payload(b"x" * (4 << 20)))
        status, reason, applied, _ = await refusal(address, body)
        assert (status, reason, applied) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", "no")
        room = (4 << 20) - len(message(arguments=payload(b""))) - 8
        await call_raw(address, "Calls/Call", message(arguments=payload(b"x" * room)))

    served(test)


def test_a_message_that_grpc_itself_refuses_harms_nobody() -> None:
    async def test(address: str) -> None:
        for compression in (None, grpc.Compression.Gzip):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call_raw(address, "Calls/Call", bytes(50 << 20), compression=compression)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await call_raw(address, "Calls/Call", message())

    served(test)


def test_metadata_over_the_limit_is_refused() -> None:
    async def test(address: str) -> None:
        for size in (8_200, 20_000, 100_000):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call_raw(address, "Calls/Call", message(), metadata=[("x", "y" * size)])
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await call_raw(address, "Calls/Call", message(), metadata=[("x", "y" * 7_000)])

    served(test)


def test_a_method_of_the_service_that_there_is_not_is_unimplemented() -> None:
    async def test(address: str) -> None:
        for method in ("Calls/Cal", "Callz/Call", "Calls/"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call_raw(address, method, message())
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    served(test)


@pytest.mark.parametrize("code", KINDS)
def test_every_error_has_its_status_reason_and_applied(code: Code) -> None:
    kind = KINDS[code]
    if code is Code.RAISED:
        return
    number, body = pack_error(code, _args_of(kind.error))

    async def test(address: str) -> None:
        status, reason, applied, _ = await refusal(address, message())
        assert (status, reason, applied) == (kind.status, code.name, kind.applied)

    served(test, answering(number, body))


def _args_of(error: type[PerdureError]) -> list[object]:
    """Return arguments that an error class takes."""
    if error is DiskFull:
        return [1.5]
    for args in (
        [],
        ["x"],
        [1],
        ["x", 1],
        ["x", "y"],
        [1, 2],
        [1, "x"],
        ["x", 1, 2],
        ["x", "y", "z"],
        ["x", 1, "y", "z"],
        ["x", "y", "z", "w"],
    ):
        try:
            str(error(*args))
        except Exception:
            continue
        return args
    raise AssertionError(error)


def test_an_overloaded_server_says_when_to_come_again() -> None:
    async def test(address: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_raw(address, "Calls/Call", message())
        metadata = caught.value.trailing_metadata()
        info = details_of(metadata)
        assert info is not None
        assert info.metadata["retry_after_ms"] == "250"
        status = Status.FromString(dict(metadata)["grpc-status-details-bin"])
        retry = RetryInfo()
        detail: AnyMessage = status.details[1]
        assert detail.Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() == 250
        assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]

    served(test, answering(*pack_error(Code.BACKPRESSURE, ["Counter[a]", 0.25])))


def test_a_node_that_does_not_own_the_object_says_so_with_its_epoch() -> None:
    class Elsewhere(EchoBackend):
        def check_owner(self, target) -> None:
            raise NotOwner(5, 7)

    async def test(address: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_raw(address, "Calls/Call", message())
        info = details_of(caught.value.trailing_metadata())
        assert info is not None
        assert info.reason == "NOT_OWNER"
        assert (info.metadata["partition"], info.metadata["epoch"]) == ("5", "7")

    assert served(test, Elsewhere()).client.asked == []


def _raised(error: Exception) -> EchoBackend:
    body = pack_exception(error, object="Counter[a]", method="add", call_id="call-7")
    return answering(Code.RAISED, body)


def test_an_exception_of_the_users_shows_an_error_id_and_nothing_else() -> None:
    for error in (Secret("password 1234"), ValueError("password 1234"), KeyError("password 1234")):

        async def test(address: str) -> None:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call_raw(address, "Calls/Call", message())
            error = caught.value
            info = details_of(error.trailing_metadata())
            assert info is not None
            assert error.code() is grpc.StatusCode.INTERNAL
            assert info.reason == "HANDLER_FAILED"
            assert dict(info.metadata) == {"applied": "no", "error_id": "call-7"}
            assert "call-7" in (error.details() or "")
            assert b"1234" not in b"".join(
                v if isinstance(v, bytes) else v.encode() for _, v in error.trailing_metadata()
            )
            assert "1234" not in (error.details() or "")

        served(test, _raised(error))


def test_an_exception_that_travels_by_name_shows_its_class_and_message() -> None:
    async def test(address: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_raw(address, "Calls/Call", message())
        info = details_of(caught.value.trailing_metadata())
        assert info is not None
        assert info.reason == "HANDLER_FAILED"
        assert (info.metadata["class"], info.metadata["message"]) == ("OutOfTea", "no more")
        assert caught.value.details() == "OutOfTea: no more"

    served(test, _raised(OutOfTea("no more")))


def test_a_text_too_long_for_metadata_is_cut() -> None:
    for text in ("x" * 100_000, "😀" * 30_000, "\ud800"):

        async def test(address: str) -> None:
            status, reason, _, _ = await refusal(address, message())
            assert (status, reason) == ("INTERNAL", "HANDLER_FAILED")

        served(test, _raised(OutOfTea(text)))


def test_a_bug_in_the_server_shows_an_error_id_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(EchoBackend):
        def check_owner(self, target) -> None:
            raise RuntimeError("secret")

    async def test(address: str) -> None:
        status, reason, applied, text = await refusal(address, message())
        assert (status, reason, applied) == ("INTERNAL", "INTERNAL", "unknown")
        assert "secret" not in text
        assert text.split()[2].rstrip(";") in caplog.text

    served(test, Broken())


def test_a_missing_deadline_is_the_default_and_an_absurd_one_is_cut() -> None:
    async def test(address: str) -> None:
        for timeout in (None, 1_000.0, 10.0**9):
            await call_raw(address, "Calls/Call", message(), timeout=timeout)

    waits = [asked["timeout_s"] for asked in served(test).client.asked]
    assert 20 < waits[0] <= 30
    assert 900 < waits[1] <= 1_000
    assert 84_000 < waits[2] <= 86_400


def test_a_deadline_that_has_passed_is_not_run() -> None:
    backend = EchoBackend()
    for time_left in (0.0, -1.0, 0.001):
        with pytest.raises(Refusal) as caught:
            asyncio.run(answer_call(message(), time_left, backend, ServerLimits()))

        assert caught.value.status is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (caught.value.reason, caught.value.applied) == ("DEADLINE_EXCEEDED", "no")
    assert backend.client.asked == []


def test_a_deadline_that_passes_before_the_call_is_sent_is_not_run() -> None:
    async def test(address: str) -> None:
        for _ in range(20):
            with pytest.raises(grpc.aio.AioRpcError):
                await call_raw(address, "Calls/Call", message(), timeout=0.0)
        await call_raw(address, "Calls/Call", message())

    assert len(served(test).client.asked) == 1


def test_describe_and_list_answer_as_the_backend_says() -> None:
    from perdure.wire.v1 import cluster_pb2

    async def test(address: str) -> None:
        described = cluster_pb2.Description.FromString(
            await call_raw(address, "Cluster/Describe", b"")
        )
        assert (described.cluster_id, described.partition_count) == ("c", 16)
        assert described.version

        ask = cluster_pb2.ListRequest(partition=3, type="Counter", prefix="p", limit=2)
        listed = cluster_pb2.ListAnswer.FromString(
            await call_raw(address, "Cluster/List", ask.SerializeToString())
        )
        assert (list(listed.ids), listed.more) == (["p0", "p1"], True)

        ask.limit = 5_000_000
        listed = cluster_pb2.ListAnswer.FromString(
            await call_raw(address, "Cluster/List", ask.SerializeToString())
        )
        assert len(listed.ids) == 1_000

    served(test)


def test_describe_list_health_and_reflection_refuse_what_is_malformed() -> None:
    async def test(address: str) -> None:
        for method in ("Cluster/Describe", "Cluster/Map", "Cluster/List"):
            status, reason, _, _ = await refusal(address, b"\xff", method)
            assert (status, reason) == ("INVALID_ARGUMENT", "MALFORMED")
        async with grpc.aio.insecure_channel(address) as channel:
            for method in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"):
                calls = {"Check": channel.unary_unary, "Watch": channel.unary_stream}
                call = calls[method.rpartition("/")[2]](method)(b"\xff")
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            reflect = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            )(iter([b"\xff"]))
            assert await reflect.code() is grpc.StatusCode.INVALID_ARGUMENT

    served(test)


def test_health_and_reflection_answer_their_own_clients() -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async def run() -> None:
        async with (
            serving(EchoBackend()) as (server, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", "perdure.wire.v1.Calls"):
                ask = health_pb2.HealthCheckRequest(service=service)
                assert (await health.Check(ask)).status == health_pb2.HealthCheckResponse.SERVING
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

            await server.drain("n1")

            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            unknown = health_pb2.HealthCheckRequest(service="nobody")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await health.Check(unknown)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND

            reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            )
            answer = await reflect.read()
            names = {service.name for service in answer.list_services_response.service}
            assert {"perdure.wire.v1.Calls", "perdure.wire.v1.Cluster"} <= names

    asyncio.run(asyncio.wait_for(run(), 300))


def test_json_results_pass_through_unread() -> None:
    text = json.dumps({"a": [1, {"$set": []}]}).encode()

    async def test(address: str) -> None:
        answer = calls_pb2.CallAnswer.FromString(await call_raw(address, "Calls/Call", message()))
        assert answer.result.data == text

    served(test, answering(Code.OK, text))
