"""The answers of one stream: what waits for its writer, and the writer."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from perdure.bodies import pack_error, pack_reply
from perdure.errors import Code, Overloaded, PerdureError, code_of
from perdure.frames import AnswerFrame, CallFrame, pack_batch
from perdure.serving.limits import ServerLimits
from perdure.serving.status import Refusal, refusal_of_error
from perdure.serving.unread import Unread
from perdure.transport import Welcome
from perdure.wire.v1 import calls_pb2

__all__ = ["AnswerStream"]

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
        # Each answer is compared with these two.
        self._message_bytes_max: Final = limits.message_bytes_max
        self._unsent_bytes_max: Final = limits.unsent_bytes_max
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

    def expect(self, frames: list[CallFrame]) -> None:
        """Count the calls among these that are to be answered."""
        for frame in frames:
            if frame[0]:
                self.open_calls += 1

    def send(self, frame: AnswerFrame) -> None:
        """Queue an answer for the writer."""
        self.open_calls -= 1
        if self.ended.done():
            return
        size = len(frame[2]) + _FRAME_OVERHEAD_BYTES
        if size > self._message_bytes_max:
            # Whoever made it should have refused it. The client must not get a message that
            # it cannot take: it would lose the stream, and again with the next copy.
            frame = _too_large(frame)
            size = len(frame[2]) + _FRAME_OVERHEAD_BYTES
        self._frames.append(frame)
        self.unsent_bytes += size
        self._unread.buffered_bytes += size
        if self.unsent_bytes > self._unsent_bytes_max:
            self.overflow()
        elif self._unread.buffered_bytes > self._unread.buffered_bytes_max:
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

    async def write_all(self, context: Any) -> None:
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

    async def _write_batch(self, context: Any) -> int:
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
