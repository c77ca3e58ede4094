"""A backend that answers by itself, raw gRPC clients, and servers on loopback for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from perdure.bodies import Request, pack_reply, pack_request
from perdure.client import Answer, Client
from perdure.frames import AnswerFrame, CallFrame, Reply, pack_batch, unpack_answers
from perdure.partition_map import PartitionMap
from perdure.serving.backend import AnswerSink, Description
from perdure.serving.limits import ServerLimits
from perdure.serving.server import Server
from perdure.transport import Welcome
from perdure.wire.v1 import calls_pb2

SESSION = b"s" * 16


@dataclass
class FakeClient:
    """Answers unary calls from `answer`, and remembers how it was asked."""

    answer: Answer = field(default_factory=lambda: Answer(0, Reply(b"null", None, None)))
    asked: list[dict[str, Any]] = field(default_factory=list)

    def call(self, target: Any, kind: Any, method: str = "", **options: Any) -> Any:
        self.asked.append({"target": target, "kind": kind, "method": method, **options})
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.set_result(self.answer)
        return future


@dataclass
class EchoBackend:
    """Answers each call with its own body, or keeps it in `kept` when `keeps` is set."""

    says: Welcome | None = field(default_factory=lambda: Welcome("c", 16, "echo", {}))
    keeps: bool = False
    kept: list[tuple[CallFrame, AnswerSink]] = field(default_factory=list)
    received: list[list[CallFrame]] = field(default_factory=list)
    client: Any = field(default_factory=FakeClient)
    on_receive: Callable[[], None] | None = None

    def welcome(self) -> Welcome | None:
        return self.says

    def check_owner(self, target: Any) -> None:
        pass

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        self.received.append(frames)
        for frame in frames:
            if self.keeps:
                self.kept.append((frame, sink))
            elif frame.number:
                sink.send((frame.number, 0, frame.body))
        if self.on_receive is not None:
            self.on_receive()

    async def describe(self) -> Description:
        return Description("c", 16, "echo", "node")

    def partition_map(self) -> PartitionMap:
        return PartitionMap("c", 16, "echo", "node")

    async def list(
        self, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[list[str], bool]:
        ids = [f"{prefix}{n}" for n in range(limit)]
        return [id for id in ids if id > after], True


@asynccontextmanager
async def serving(
    backend: Any, limits: ServerLimits | None = None, port: int = 0
) -> AsyncIterator[tuple[Server, str]]:
    """Serve a backend on loopback; gives the server and its address."""
    server = Server(backend, limits)
    port = await server.start(f"127.0.0.1:{port}")
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.close(0)


class RawSession:
    """One `Calls.Session` stream without any SDK behind it."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self.stream = self._channel.stream_stream("/perdure.wire.v1.Calls/Session")()

    async def __aenter__(self) -> RawSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stream.cancel()
        await self._channel.close()

    async def send(self, *frames: CallFrame) -> None:
        await self.send_raw(calls_pb2.CallBatch(frames=pack_batch(frames)).SerializeToString())

    async def send_raw(self, message: bytes) -> None:
        await self.stream.write(message)

    async def read(self) -> calls_pb2.AnswerBatch | None:
        """Return the next message; None when the server has ended the stream with OK."""
        message = await self.stream.read()
        if message is grpc.aio.EOF:
            return None
        return calls_pb2.AnswerBatch.FromString(message)

    async def welcome(self) -> calls_pb2.Welcome:
        batch = await self.read()
        assert batch is not None
        assert batch.HasField("welcome")
        return batch.welcome

    async def answers(self, count: int) -> list[AnswerFrame]:
        """Return so many answers; welcomes between them are left out."""
        frames: list[AnswerFrame] = []
        while len(frames) < count:
            batch = await self.read()
            assert batch is not None
            if batch.frames:
                frames.extend(unpack_answers(batch.frames))
        return frames

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end of the stream, and return how it ended: code and reason."""
        with suppress(grpc.aio.AioRpcError):
            while await self.read() is not None:
                pass
        code = await self.stream.code()
        return code, reason_of(await self.stream.trailing_metadata())


def details_of(metadata: Any) -> ErrorInfo | None:
    """Return the ErrorInfo of trailing metadata."""
    for key, value in metadata or ():
        if key == "grpc-status-details-bin":
            info = ErrorInfo()
            Status.FromString(value).details[0].Unpack(info)
            return info
    return None


def reason_of(metadata: Any) -> str:
    info = details_of(metadata)
    return "" if info is None else info.reason


async def call_raw(address: str, method: str, message: bytes, **options: Any) -> bytes:
    """Make one unary gRPC call with raw bytes."""
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        return await channel.unary_unary(f"/perdure.wire.v1.{method}")(message, **options)


def request(**changes: Any) -> bytes:
    """Return a packed Request."""
    fields: dict[str, Any] = {
        "kind": 0,
        "session": SESSION,
        "sequence": 1,
        "previous": 0,
        "confirmed": [0],
        "type": "Counter",
        "id": "a",
        "method": "add",
        "encoding": 1,
        "arguments": b"[]",
        "key": None,
        "have": None,
        "chain": [],
        "due_ms": 0,
    }
    return pack_request(Request(**{**fields, **changes}))


def reply(payload: bytes = b"") -> bytes:
    return pack_reply(payload)


__all__ = [
    "SESSION",
    "Client",
    "EchoBackend",
    "FakeClient",
    "RawSession",
    "call_raw",
    "details_of",
    "reason_of",
    "reply",
    "request",
    "serving",
]
