"""One `Calls.Session` stream: calls in, answers out, many to a message.

Invariants:
  * One task reads and one task writes: gRPC breaks a stream that two tasks write.
  * Answers wait for the writer in a buffer that has a bound. A client that does not read
    loses its stream, not its calls: their answers are kept where they ran, and the client
    asks for them on its next stream.
  * The first message out is the welcome, and it holds no frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from perdure.bodies import pack_error, pack_reply
from perdure.errors import BadPayload, Code, Overloaded, PerdureError, TooLarge, code_of
from perdure.frames import AnswerFrame, CallFrame, pack_batch, unpack_calls
from perdure.serving.backend import Backend
from perdure.serving.limits import ServerLimits
from perdure.serving.status import Refusal, abort, refusal_of_bug, refusal_of_error
from perdure.serving.unread import Unread
from perdure.transport import Welcome
from perdure.wire.v1 import calls_pb2

__all__ = ["AnswerStream", "frames_of", "serve_stream"]

Context = grpc.aio.ServicerContext[bytes, bytes]

_FRAME_OVERHEAD_BYTES: Final = 128
"""What a waiting answer costs beside its body."""


class AnswerStream:
    """The answers of one stream, on their way to its writer. An `AnswerSink`."""

    def __init__(self, limits: ServerLimits, unread: Unread) -> None:
        self.open_calls = 0
        """Calls taken in and not answered."""
        self.unsent_bytes = 0
        self.ended: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        """Why the stream is to end: None when all is said."""
        self._limits = limits
        self._unread = unread
        self._frames: list[AnswerFrame] = []
        self._welcome: Welcome | None = None
        self._welcomed = False
        self.last_word: PerdureError | None = None
        """Why this server ends the stream, once it does."""
        self._finishing = False
        self._wake: asyncio.Future[None] | None = None
        self.writing_bytes = 0
        """Of the message that gRPC has been given and has not sent."""
        unread.streams.add(self)

    @property
    def closed(self) -> bool:
        """True once the stream is to end, or has ended."""
        return self.ended.done()

    def send(self, frame: AnswerFrame) -> None:
        """Queue an answer for the writer."""
        self.open_calls -= 1
        if self.ended.done():
            return
        size = len(frame[2]) + _FRAME_OVERHEAD_BYTES
        if size > self._limits.message_bytes_max:
            # Whoever made it should have refused it. The client must not get a message that
            # it cannot take: it would lose the stream, and again with the next copy.
            frame = _too_large(frame)
            size = len(frame[2]) + _FRAME_OVERHEAD_BYTES
        self._frames.append(frame)
        self.unsent_bytes += size
        self._unread.buffered_bytes += size
        if self.unsent_bytes > self._limits.unsent_bytes_max:
            self.overflow()
        elif self._unread.buffered_bytes > self._limits.unsent_total_bytes_max:
            self._unread.shed()
        if self._wake is not None:
            self._wake_writer()

    def announce(self, welcome: Welcome) -> None:
        """Tell the client, in the next message, what the server is."""
        self._welcome = welcome
        self._wake_writer()

    def finish(self, last_word: PerdureError | None) -> None:
        """End the stream once the calls that are open have been answered.

        Args:
            last_word: What the stream ends with, and what calls that still come are refused
                with. None: its client has half-closed it.
        """
        self._finishing = True
        self.last_word = last_word
        self._wake_writer()

    def refuse(self, frame: CallFrame, error: PerdureError) -> None:
        """Answer a call that goes no farther."""
        if frame.number:
            code, payload = pack_error(code_of(error), error.args)
            self.send((frame.number, code, pack_reply(payload)))

    def overflow(self) -> None:
        """End the stream: its client does not read."""
        self.end(refusal_of_error(Overloaded("answers that this client does not read", 1.0)))

    def end(self, why: Refusal | None) -> None:
        """End the stream and drop what is not sent."""
        if self.ended.done():
            return
        self.ended.set_result(why)
        self.forget()

    def forget(self) -> None:
        """Give back what the stream holds. Called at its end, however it came."""
        self._unread.streams.discard(self)
        self._unread.buffered_bytes -= self.unsent_bytes
        self.unsent_bytes = 0
        self._frames = []
        if not self.ended.done():
            self.ended.set_result(None)

    async def write_all(self, context: Context) -> None:
        """Write until the stream ends. The only writer of the stream."""
        last_count = 0
        while not self.ended.done():
            if not (self._frames and self._welcomed) and self._welcome is None:
                if self._finishing and self.open_calls <= 0 and not self._frames:
                    self.end(None if self.last_word is None else refusal_of_error(self.last_word))
                    return
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
            if 2 <= last_count <= 15:
                # Several callers are at it, in small groups: two more ticks of the loop bring
                # some of them together. A lone caller, or a full message, does not wait.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if self._welcome is not None:
                message = calls_pb2.AnswerBatch(welcome=_welcome_message(self._welcome))
                self._welcome = None
                self._welcomed = True
                await context.write(message.SerializeToString())
            if self._frames and self._welcomed:
                last_count = await self._write_batch(context)

    async def _write_batch(self, context: Context) -> int:
        frames, size = self._take()
        message = calls_pb2.AnswerBatch(frames=pack_batch(frames)).SerializeToString()
        self.writing_bytes = len(message)
        await context.write(message)
        self.writing_bytes = 0
        if not self.ended.done():
            # Until here they counted as unread: gRPC takes a message when there is room.
            self.unsent_bytes -= size
            self._unread.buffered_bytes -= size
        return len(frames)

    def _take(self) -> tuple[list[AnswerFrame], int]:
        frames = self._frames
        limits = self._limits
        if len(frames) <= limits.batch_frames_max and self.unsent_bytes <= limits.batch_bytes_max:
            self._frames = []
            return frames, self.unsent_bytes
        count = size = 0
        for frame in frames[: limits.batch_frames_max]:
            grown = size + len(frame[2]) + _FRAME_OVERHEAD_BYTES
            if count and grown > limits.batch_bytes_max:
                break
            size = grown
            count += 1
        self._frames = frames[count:]
        return frames[:count], size

    def _wake_writer(self) -> None:
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)


async def serve_stream(
    context: Context, backend: Backend, limits: ServerLimits, unread: Unread
) -> None:
    """Serve one stream until its client, or this server, ends it.

    Raises:
        Overloaded: Its connection does not read what it has been sent.
    """
    unread.check(context)
    # A first message carries it along otherwise, and so does a status: both at once is an error.
    await context.send_initial_metadata(())
    stream = AnswerStream(limits, unread)
    welcome = backend.welcome()
    if welcome is not None:
        stream.announce(welcome)
    tasks = [
        asyncio.ensure_future(_guarded(stream.write_all(context), stream)),
        asyncio.ensure_future(_guarded(_read_all(context, backend, limits, stream), stream)),
    ]
    try:
        why = await asyncio.shield(stream.ended)
    finally:
        stream.forget()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if stream.writing_bytes:
        unread.hold(context, stream.writing_bytes)
    if why is not None:
        await abort(context, why)


async def _read_all(
    context: Context, backend: Backend, limits: ServerLimits, stream: AnswerStream
) -> None:
    while not stream.closed:
        message = await context.read()
        if not isinstance(message, bytes):
            # gRPC's mark for the end: the client has half-closed the stream.
            stream.finish(None)
            await asyncio.sleep(limits.linger_s)
            stream.end(None)
            return
        frames = frames_of(message, limits.frames_max)
        stream.open_calls += sum(1 for frame in frames if frame[0])
        if stream.last_word is not None:
            # This server ends: the calls that are here get their answers, and no new ones come.
            for frame in frames:
                stream.refuse(frame, stream.last_word)
            continue
        if len(message) > limits.call_bytes_max:
            frames = _without_too_large(frames, limits.call_bytes_max, stream)
        backend.receive(frames, stream)


async def _guarded(work: Coroutine[Any, Any, None], stream: AnswerStream) -> None:
    """Turn every end of a reader or writer into the end of its stream."""
    try:
        await work
    except BadPayload as error:
        stream.end(refusal_of_error(error))
    except (grpc.RpcError, grpc.aio.BaseError):
        # The client is gone.
        stream.end(None)
    except Exception as error:
        stream.end(refusal_of_bug(error))


def frames_of(message: bytes, frames_max: int) -> list[CallFrame]:
    """Unpack a message of a stream.

    Raises:
        BadPayload: It is no batch of at most so many call frames.
    """
    try:
        batch = calls_pb2.CallBatch.FromString(message)
    except DecodeError:
        raise BadPayload("the message is no CallBatch") from None
    frames = batch.frames
    if not frames:
        return []
    if _array_length(frames) > frames_max:
        raise BadPayload(f"a batch has at most {frames_max} frames")
    return unpack_calls(frames)


def _without_too_large(
    frames: list[CallFrame], bytes_max: int, stream: AnswerStream
) -> list[CallFrame]:
    """Refuse the calls that are too large, and return the others."""
    for frame in frames:
        size = len(frame.body)
        if size > bytes_max:
            stream.refuse(frame, TooLarge(f"the call has {size} bytes, the limit is {bytes_max}"))
    return [frame for frame in frames if len(frame.body) <= bytes_max]


def _array_length(data: bytes) -> int:
    """Return what a MessagePack array says its length is, before anything is made of it."""
    first = data[0]
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    if first == 0xDC:
        return int.from_bytes(data[1:3], "big")
    if first == 0xDD:
        return int.from_bytes(data[1:5], "big")
    return 0


def _welcome_message(welcome: Welcome) -> calls_pb2.Welcome:
    return calls_pb2.Welcome(
        cluster_id=welcome.cluster_id,
        partition_count=welcome.partition_count,
        server=welcome.server,
        owned=[
            calls_pb2.Ownership(partition=partition, epoch=epoch)
            for partition, epoch in sorted(welcome.owned.items())
        ],
    )


def _too_large(frame: AnswerFrame) -> AnswerFrame:
    code, payload = pack_error(
        Code.INTERNAL, [f"the answer of {len(frame[2])} bytes is too large to be sent"]
    )
    return (frame[0], code, pack_reply(payload))
