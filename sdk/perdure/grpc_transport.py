"""Frames over one gRPC stream to a router or node, which is opened again whenever it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from perdure.errors import BadPayload
from perdure.frames import CallFrame, pack_batch, unpack_answers
from perdure.grpc_import import import_grpc
from perdure.kept_task import end_task, keep
from perdure.spacing import Spacing
from perdure.transport import (
    MESSAGE_BYTES_AIM,
    MESSAGE_BYTES_MAX,
    MESSAGE_FRAMES_MAX,
    Listener,
    Welcome,
)

if TYPE_CHECKING:
    import grpc.aio

    from perdure.wire.v1 import calls_pb2

__all__ = ["GrpcTransport", "channel_options"]

_SESSION: Final = "/perdure.wire.v1.Calls/Session"

_WELCOME_S: Final = 5.0
"""A server that accepts a stream and says nothing for so long is left."""

_GOODBYE_S: Final = 1.0
"""How long `close` waits for a server to take what is left."""

_FLUSH_S: Final = 0.1
"""The same at the end of the loop, which has cancelled the task by which gRPC learns that a
stream is over: there is nothing left to wait for but time."""

_RETRY_S: Final = (0.02, 0.05, 0.1, 0.25)
"""Waits before the next attempt to open a stream; the last one again and again."""

_COMPANY_MIN: Final = 2
_COMPANY_MAX: Final = 15
"""While messages hold this many frames, the next one waits two ticks of the loop for more. Fewer:
a lone caller must not wait. More: it would win nothing."""

_REST_MIN_S: Final = 0.001
"""Event loops count milliseconds."""

_log = logging.getLogger("perdure")


def channel_options() -> list[tuple[str, int]]:
    """Return the options of a channel to a router or node."""
    return [
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        # A frozen peer is noticed within four seconds. Keepalive alone does not notice it:
        # the ping's own time-out is needed as well.
        ("grpc.keepalive_time_ms", 2_000),
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.http2.ping_timeout_ms", 2_000),
        ("grpc.http2.max_pings_without_data", 0),
        # A server that restarts is found again soon. The least is also the time in which a
        # connection has to come about.
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 500),
        # Else all channels of a process to one address share one connection and its fate.
        ("grpc.use_local_subchannel_pool", 1),
    ]


class GrpcTransport:
    """A `Transport` to the server at `address` (`host:port`)."""

    def __init__(self, address: str, *, keep: bool = False) -> None:
        """Prepare to connect.

        Args:
            address: `host:port`.
            keep: The end of the loop waits for `close` instead of cancelling the stream.
        """
        self.address = address
        self._keep = keep
        self._listener: Listener | None = None
        self._runner: asyncio.Task[None] | None = None
        self._queue: deque[CallFrame] = deque()
        self._wake: asyncio.Future[None] | None = None
        """Set while the writer waits for frames, or for their time."""
        self._open = False
        self._closing = False
        self._loop_ends = False
        self._failed = ""

    def start(self, listener: Listener) -> None:
        """Begin to connect."""
        self._listener = listener
        self._runner = self._start(self._run(listener))

    def send(self, frames: list[CallFrame]) -> None:
        """Send frames on the open stream."""
        if self._open:
            self._queue.extend(frames)
            self._wake_writer()

    async def close(self) -> None:
        """Send what is left, then close the stream."""
        self._closing = True
        self._wake_writer()
        if self._runner is None:
            return
        goodbye_s = _FLUSH_S if self._loop_ends else _GOODBYE_S
        await asyncio.wait([self._runner], timeout=goodbye_s if self._open else 0)
        end_task(self._runner)
        await asyncio.wait([self._runner])

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        name = f"perdure stream to {self.address}"
        if self._keep:
            return keep(work, name=name, on_cancel=self._note_end_of_loop)
        return asyncio.get_running_loop().create_task(work, name=name)

    def _note_end_of_loop(self) -> None:
        self._loop_ends = True

    def _wake_writer(self) -> None:
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    async def _run(self, listener: Listener) -> None:
        # Imported here: a process with an embedded node never needs it.
        import_grpc()
        import grpc.aio

        async with grpc.aio.insecure_channel(self.address, options=channel_options()) as channel:
            open_stream: Any = channel.stream_stream(_SESSION)
            failures = 0
            while not self._closing:
                why, welcomed = await self._stream(open_stream(), listener)
                if self._closing:
                    return
                if welcomed or why != self._failed:
                    self._failed = why
                    _log.info("no stream to %s: %s", self.address, why)
                listener.lost(f"no connection to {self.address}: {why}")
                failures = 1 if welcomed else failures + 1
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S)) - 1])

    async def _stream(
        self, stream: grpc.aio.StreamStreamCall[bytes, bytes], listener: Listener
    ) -> tuple[str, bool]:
        """Serve one stream to its end. Return why it ended, and whether it ever was one."""
        import grpc

        from perdure.wire.v1 import calls_pb2

        loop = asyncio.get_running_loop()
        silence = loop.call_later(_WELCOME_S, stream.cancel)
        spacing = Spacing()
        writer: asyncio.Task[None] | None = None
        try:
            while True:
                message = await stream.read()
                if not isinstance(message, bytes):
                    return "the server ended the stream", writer is not None
                batch = calls_pb2.AnswerBatch.FromString(message)
                if batch.HasField("welcome"):
                    silence.cancel()
                    if writer is None:
                        self._open = True
                        writer = self._start(self._write(stream, spacing))
                    listener.welcomed(_welcome(batch.welcome))
                if batch.frames:
                    answers = unpack_answers(batch.frames)
                    spacing.answered(answers[-1][0])
                    if self._queue:
                        self._wake_writer()
                    listener.answered(answers)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}", writer is not None
        except asyncio.CancelledError:
            # Ours, or the stream's own because it stayed silent.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return "the server does not answer", writer is not None
        except (BadPayload, ValueError) as error:
            return f"the server speaks something else: {error}", writer is not None
        finally:
            silence.cancel()
            self._open = False
            self._queue.clear()
            if writer is not None:
                end_task(writer)
                await asyncio.wait([writer])
            stream.cancel()

    async def _write(
        self, stream: grpc.aio.StreamStreamCall[bytes, bytes], spacing: Spacing
    ) -> None:
        """Be the only one to write to the stream: gRPC breaks it otherwise."""
        import grpc

        from perdure.wire.v1 import calls_pb2

        loop = asyncio.get_running_loop()
        queue = self._queue
        count = 0
        try:
            while True:
                if not queue:
                    if self._closing:
                        await stream.done_writing()
                        return
                    await self._woken(loop)
                    continue
                if _COMPANY_MIN <= count <= _COMPANY_MAX:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                rest_s = spacing.rest_s(len(queue), loop.time())
                if rest_s and not self._closing:
                    await self._woken(loop, rest_s)
                    continue
                frames = self._take()
                count = len(frames)
                batch = calls_pb2.CallBatch(frames=pack_batch(frames)).SerializeToString()
                number = next((frame[0] for frame in frames if frame[0]), 0)
                spacing.sent(number, len(batch), loop.time())
                await stream.write(batch)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream is over. Its reader says why.
            return

    async def _woken(self, loop: asyncio.AbstractEventLoop, at_most_s: float = 0.0) -> None:
        """Wait until there is something to do, or for so long; 0: however long it takes."""
        self._wake = loop.create_future()
        timer = None
        if at_most_s:
            timer = loop.call_later(max(at_most_s, _REST_MIN_S), self._wake_writer)
        try:
            await self._wake
        finally:
            self._wake = None
            if timer is not None:
                timer.cancel()

    def _take(self) -> list[CallFrame]:
        queue = self._queue
        frames = [queue.popleft()]
        size = len(frames[0].body)
        while queue and len(frames) < MESSAGE_FRAMES_MAX:
            size += len(queue[0].body)
            if size > MESSAGE_BYTES_AIM:
                break
            frames.append(queue.popleft())
        return frames


def _welcome(welcome: calls_pb2.Welcome) -> Welcome:
    return Welcome(
        cluster_id=welcome.cluster_id,
        partition_count=welcome.partition_count,
        server=welcome.server,
        owned={owned.partition: owned.epoch for owned in welcome.owned},
    )
