"""What calls the echo server: calls of the same tick of the loop share a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from perdure.bodies import Request, pack_request
from perdure.frames import CallFrame, Encoding, Kind, pack_batch
from perdure.frames import unpack_answers as unpack_answer_frames
from perdure.grpc_transport import channel_options
from perdure.transport import MESSAGE_FRAMES_MAX
from perdure.wire.v1 import calls_pb2

TIME_LEFT_MS = 30_000

REQUEST = Request(
    int(Kind.CALL), bytes(16), 12_345, 0, [12_300], "BenchCounter", "bench-123", "add",
    int(Encoding.MSGPACK), b"\x92\x91\x01\x80", None, [1, 123], [], 0,
)  # fmt: skip
BODY = pack_request(REQUEST)
"""As large as that of a call that adds to a counter."""


class EchoClient:
    """Sends frames, and waits for them to come back."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._frames: list[CallFrame] = []
        self._open: dict[int, asyncio.Future[bytes]] = {}
        self._wake: asyncio.Future[None] | None = None

    def call(self, number: int) -> asyncio.Future[bytes]:
        self._number += 1
        self._frames.append(CallFrame(self._number, number % 16, TIME_LEFT_MS, BODY))
        answer = self._open[self._number] = self._loop.create_future()
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
        return answer

    async def write(self) -> None:
        while True:
            if not self._frames:
                self._wake = self._loop.create_future()
                await self._wake
            frames = self._frames[:MESSAGE_FRAMES_MAX]
            del self._frames[:MESSAGE_FRAMES_MAX]
            batch = calls_pb2.CallBatch(frames=pack_batch(frames))
            await self._stream.write(batch.SerializeToString())

    async def read(self) -> None:
        while isinstance(message := await self._stream.read(), bytes):
            frames = calls_pb2.AnswerBatch.FromString(message).frames
            for number, _, body in unpack_answer_frames(frames):
                self._open.pop(number).set_result(body)
        raise SystemExit("the echo server has ended the stream")


@asynccontextmanager
async def echo_client(address: str) -> AsyncIterator[EchoClient]:
    async with grpc.aio.insecure_channel(address, options=channel_options()) as channel:
        open_stream: Any = channel.stream_stream("/perdure.wire.v1.Calls/Session")
        client = EchoClient(stream := open_stream())
        tasks = [asyncio.ensure_future(work) for work in (client.write(), client.read())]
        try:
            yield client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            stream.cancel()
