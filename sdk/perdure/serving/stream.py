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
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from perdure.errors import BadPayload, TooLarge
from perdure.frames import CallFrame, unpack_calls
from perdure.serving.answers import AnswerStream
from perdure.serving.backend import Backend
from perdure.serving.limits import ServerLimits
from perdure.serving.status import abort, refusal_of_bug, refusal_of_error
from perdure.serving.unread import Unread
from perdure.wire.v1 import calls_pb2

__all__ = ["frames_of", "serve_stream"]

Context = grpc.aio.ServicerContext[bytes, bytes]


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
        stream.expect(frames)
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
