"""Bad inputs, each with how it must be refused: the table of tests/cluster/test_bad_inputs.py."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from harness.raw import RawClient, request

from perdure.wire.v1 import calls_pb2

MIB = 1024 * 1024


@dataclass(frozen=True)
class Bad:
    """An input, and how it must be refused."""

    name: str
    send: Callable[[RawClient, str], Any]
    """Sends it, to the object of type Sink with the given id if to any."""
    status: str
    reason: str = ""
    """Empty: gRPC refuses it before Perdure sees it."""
    applied: str = "no"
    type: str = "Sink"
    """Of the object that it is sent to, which a node must own to say more than that it does not."""
    says: str = ""
    never_says: tuple[str, ...] = ("Traceback", ".py", "site-packages")


def call(method: str, arguments: Any = None, **more: Any) -> Callable[[RawClient, str], Any]:
    return lambda client, name: client.ask("Sink", name, method, arguments, **more)


def to(type: str, name: str | None = None, method: str = "echo") -> Callable[[RawClient, str], Any]:
    return lambda client, own: client.ask(type, own if name is None else name, method, [1])


def raw(message: bytes, **more: Any) -> Callable[[RawClient, str], Any]:
    return lambda client, _: client.send_bytes(message, **more)


def echo_bytes(**more: Any) -> Callable[[RawClient, str], Any]:
    return lambda client, name: client.send_bytes(
        request("Sink", name, "echo", [1]).SerializeToString(), **more
    )


def payload(encoding: int, data: bytes) -> Callable[[RawClient, str], Any]:
    """Arguments of any encoding, known or not."""

    def send(client: RawClient, name: str) -> Any:
        message = request("Sink", name, "echo")
        # A protobuf enum is open: any number travels.
        message.arguments.MergeFromString(b"\x08" + bytes([encoding]))
        message.arguments.data = data
        return client.send_bytes(message.SerializeToString())

    return send


def stream(message: bytes) -> Callable[[RawClient, str], Any]:
    def send(client: RawClient, _: str) -> Any:
        session = client.channel.stream_stream("/perdure.wire.v1.Calls/Session")
        return list(session(iter([message]), timeout=30.0, wait_for_ready=True))

    return send


def frames(data: bytes) -> bytes:
    batch = calls_pb2.CallBatch(frames=data)
    return batch.SerializeToString()


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def bomb(size: int) -> Callable[[RawClient, str], Any]:
    return lambda client, name: client.send_bytes(
        request("Sink", name, "echo", text=b'["' + b"0" * size + b'"]').SerializeToString(),
        compression=grpc.Compression.Gzip,
    )


def reused_key(arguments: Any) -> Callable[[RawClient, str], Any]:
    return lambda client, name: client.ask("TestCounter", name, "add", arguments, key=f"key-{name}")


def caller(method: str, *arguments: Any) -> Callable[[RawClient, str], Any]:
    """`$` in an argument stands for the object's id."""
    return lambda client, name: client.ask(
        "Caller", name, method, [str(a).replace("$", name) for a in arguments]
    )


def dive(depth: int) -> Callable[[RawClient, str], Any]:
    return lambda client, name: client.ask("Caller", name, "dive", [depth])


INVALID = "INVALID_ARGUMENT"
EXHAUSTED = "RESOURCE_EXHAUSTED"

JSON = calls_pb2.ENCODING_JSON
MSGPACK = calls_pb2.ENCODING_MSGPACK
UNKNOWN_ENUM = '[{"$enum": ["Nothing", "X"]}]'
DEEP = b"\x91" * 100 + b"\xc0"

TABLE = [
    Bad("random bytes", raw(b"\xff\xfe\xfd\x00\x01"), INVALID, "MALFORMED"),
    Bad("half a message", raw(b"\x0a\x10Sink"), INVALID, "MALFORMED"),
    Bad("a text", raw(b"GET / HTTP/1.1\r\n\r\n"), INVALID, "MALFORMED"),
    #
    Bad("no such service", raw(b"", path="/no.Such/Call"), "UNIMPLEMENTED"),
    Bad("no such rpc", raw(b"", path="/perdure.wire.v1.Calls/Nope"), "UNIMPLEMENTED"),
    Bad("an older version", raw(b"", path="/perdure.wire.v0.Calls/Call"), "UNIMPLEMENTED"),
    #
    Bad("unknown type", to("Nothing"), "NOT_FOUND", "UNKNOWN_TYPE", type="Nothing"),
    Bad(
        "misspelt type",
        to("Snik"),
        "NOT_FOUND",
        "UNKNOWN_TYPE",
        type="Snik",
        says="did you mean 'Sink'",
    ),
    Bad("type of other case", to("sink"), "NOT_FOUND", "UNKNOWN_TYPE", type="sink"),
    #
    *(
        Bad(
            f"method {name or 'without a name'}", call(name, [1]), "UNIMPLEMENTED", "UNKNOWN_METHOD"
        )
        for name in (
            *("nope", "_private", "__class__", "__init__", "entered", "object_id", "save"),
            *("get_or_create", "on_activate", "_perdure_id", ""),
        )
    ),
    *(
        Bad(
            f"method {name} of a counter",
            to("TestCounter", method=name),
            "UNIMPLEMENTED",
            "UNKNOWN_METHOD",
        )
        for name in ("doubled", "static", "of_class", "value")
    ),
    #
    Bad("empty type", to("", "x"), INVALID, "BAD_KEY"),
    Bad("empty id", to("Sink", ""), INVALID, "BAD_KEY"),
    Bad("id of 513 bytes", to("Sink", "x" * 513), INVALID, "BAD_KEY"),
    Bad("id of 257 letters, 514 bytes", to("Sink", "é" * 257), INVALID, "BAD_KEY"),
    Bad("id with NUL", to("Sink", "a\0b"), INVALID, "BAD_KEY"),
    Bad(
        "id that is no UTF-8",
        raw(b"\x0a\x04Sink\x12\x02\xff\xfe\x22\x04echo"),
        INVALID,
        "BAD_KEY",
    ),
    #
    Bad("missing argument", call("typed", []), INVALID, "BAD_ARGUMENTS", says="number"),
    Bad("extra argument", call("typed", [1, "x", 3]), INVALID, "BAD_ARGUMENTS"),
    Bad("unknown name", call("typed", {"number": 1, "colour": "red"}), INVALID, "BAD_ARGUMENTS"),
    Bad("text for a number", call("typed", ["one"]), INVALID, "BAD_ARGUMENTS"),
    Bad("number for a text", call("typed", [1, 2]), INVALID, "BAD_ARGUMENTS"),
    Bad("a class that nobody knows", call("echo", text=UNKNOWN_ENUM), INVALID, "BAD_ARGUMENTS"),
    Bad("arguments that are a number", call("typed", text="3"), INVALID, "BAD_ARGUMENTS"),
    #
    Bad("nested 65 deep", call("echo", text=f"[{nested(65)}]"), INVALID, "TOO_DEEP"),
    Bad("nested 5,000 deep", call("echo", text=f"[{nested(5_000)}]"), INVALID, "TOO_DEEP"),
    Bad("nested 500,000 deep", call("echo", text=f"[{nested(500_000)}]"), INVALID, "TOO_DEEP"),
    Bad("objects 70 deep", call("echo", text='[{"a":' * 35 + "1" + "}]" * 35), INVALID, "TOO_DEEP"),
    #
    Bad("message of 5 MiB", call("echo", ["x" * 5 * MIB]), EXHAUSTED, "MESSAGE_TOO_LARGE"),
    Bad("message of 30 MiB", call("echo", ["x" * 30 * MIB]), EXHAUSTED),
    Bad(
        "5 MiB of unknown field",
        raw(b"\xfa\x01\x80\x80\xc0\x02" + bytes(5 * MIB)),
        EXHAUSTED,
        "MESSAGE_TOO_LARGE",
    ),
    #
    Bad("8 MiB in a few KiB", bomb(8 * MIB), EXHAUSTED),
    Bad("50 MiB in a few KiB", bomb(50 * MIB), EXHAUSTED),
    Bad("200 MB of zeros", bomb(200_000_000), EXHAUSTED),
    #
    Bad("a header of 9 KiB", echo_bytes(metadata=[("x-big", "v" * 9 * 1024)]), EXHAUSTED),
    Bad("a header of 60 KiB", echo_bytes(metadata=[("x-big", "v" * 60 * 1024)]), EXHAUSTED),
    Bad("400 headers", echo_bytes(metadata=[(f"x-{i}", "v" * 40) for i in range(400)]), EXHAUSTED),
    #
    Bad("state over its limit", call("keep", [100_000]), EXHAUSTED, "STATE_TOO_LARGE"),
    Bad("state just over it", call("keep", [64 * 1024]), EXHAUSTED, "STATE_TOO_LARGE"),
    Bad("result of 5 MiB", call("big_result", [5 * MIB]), EXHAUSTED, "RESULT_TOO_LARGE"),
    Bad("result of 50 MiB", call("big_result", [50 * MIB]), EXHAUSTED, "RESULT_TOO_LARGE"),
    Bad(
        "state that is a function", call("unstorable"), "FAILED_PRECONDITION", "STATE_NOT_STORABLE"
    ),
    Bad(
        "result that is a function",
        call("unstorable_result"),
        "FAILED_PRECONDITION",
        "RESULT_NOT_STORABLE",
    ),
    #
    *(
        Bad(f"JSON with {name}", call("echo", text=text), INVALID, "MALFORMED")
        for name, text in (
            ("NaN", "[NaN]"),
            ("-Infinity", "[-Infinity]"),
            ("an overflow to infinity", "[1e400]"),
            ("10,000 digits", f"[{'9' * 10_000}]"),
            ("10,000 digits in a marker", f'[{{"$int": "{"9" * 10_000}"}}]'),
            ("a lone surrogate", '["\\ud800"]'),
            ("bytes that are no UTF-8", b'["\xff"]'),
            ("a repeated key", '[{"a": 1, "a": 2}]'),
            ("bad base64", '[{"$bytes": "*"}]'),
            ("half a text", '["abc'),
            ("nothing but a space", " "),
        )
    ),
    Bad("an unknown encoding", payload(9, b"[1]"), INVALID, "CODEC_NOT_ALLOWED"),
    Bad("a pickle", payload(77, pickle.dumps([1])), INVALID, "CODEC_NOT_ALLOWED"),
    Bad("a pickle for JSON", payload(JSON, pickle.dumps([1])), INVALID, "MALFORMED"),
    Bad("a pickle for MessagePack", payload(MSGPACK, pickle.dumps([1])), INVALID, "MALFORMED"),
    Bad("half of MessagePack", payload(MSGPACK, b"\x92\x91"), INVALID, "MALFORMED"),
    Bad(
        "an unknown extension", payload(MSGPACK, b"\x92\x91\xd4\x63\x00\x80"), INVALID, "MALFORMED"
    ),
    Bad("MessagePack 100 deep", payload(MSGPACK, b"\x92" + DEEP + b"\x80"), INVALID, "TOO_DEEP"),
    #
    Bad("a stream of random bytes", stream(b"\xff\xfe\xfd"), INVALID, "MALFORMED"),
    Bad("frames that are no MessagePack", stream(frames(b"\xc1")), INVALID, "MALFORMED"),
    Bad("a frame of two fields", stream(frames(b"\x91\x92\x01\x02")), INVALID, "MALFORMED"),
    Bad("a billion frames", stream(frames(b"\xdd\x40\x00\x00\x00")), INVALID, "MALFORMED"),
    #
    Bad("empty key", call("echo", [1], key=""), INVALID, "BAD_IDEMPOTENCY_KEY"),
    Bad("key of 257 bytes", call("echo", [1], key="k" * 257), INVALID, "BAD_IDEMPOTENCY_KEY"),
    Bad("key of 1 MB", call("echo", [1], key="k" * 1_000_000), INVALID, "BAD_IDEMPOTENCY_KEY"),
    #
    *(
        Bad(f"key used with {arguments}", reused_key(arguments), "ALREADY_EXISTS", "KEY_REUSED")
        for arguments in ([2], {"amount": 3}, [-1])
    ),
    #
    *(
        Bad(
            f"deadline of {seconds} s",
            call("echo", [1], timeout_s=seconds),
            "DEADLINE_EXCEEDED",
            applied="",
        )
        for seconds in (-0.001, -1.0, -1e9)
    ),
    #
    Bad("a call to itself", caller("call_self"), "FAILED_PRECONDITION", "CALL_CYCLE", says=" -> "),
    Bad(
        "there and back",
        caller("call_and_back", "$-b"),
        "FAILED_PRECONDITION",
        "CALL_CYCLE",
        says=".call_and_back -> ",
    ),
    Bad("back and there", caller("call_back", "$-b"), "FAILED_PRECONDITION", "CALL_CYCLE"),
    Bad("65 calls inside one another", dive(65), EXHAUSTED, "CALL_DEPTH"),
    Bad("80 calls inside one another", dive(80), EXHAUSTED, "CALL_DEPTH"),
    Bad("150 calls inside one another", dive(150), EXHAUSTED, "CALL_DEPTH"),
    #
    *(
        Bad(
            f"a known error of {len(item)} letters",
            call("known_error", [item]),
            "INTERNAL",
            "HANDLER_FAILED",
        )
        for item in ("", "teapot", "x" * 5_000)
    ),
    #
    Bad("an error of no known class", call("unknown_error"), "INTERNAL", "HANDLER_FAILED"),
    Bad("a built-in error", call("built_in_error"), "INTERNAL", "HANDLER_FAILED"),
]
