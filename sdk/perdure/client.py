"""The calls of one event loop: the shell around `session.Session`."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from perdure.answers import Answer, PendingAnswer
from perdure.bodies import pack_error, unpack_reply
from perdure.errors import Code, DeadlineExceeded
from perdure.frames import AnswerFrame, Encoding, Kind, Reply
from perdure.ids import CallId, ObjectKey
from perdure.open_call import OpenCall
from perdure.session import Session, SessionLimits
from perdure.transport import Transport, Welcome

__all__ = ["Answer", "Client"]

_CLOSE_S: Final = 10.0
"""How long `Client.close` waits for answers."""

_log: Final = logging.getLogger("perdure")


class Client:
    """Sends calls over one transport and answers each exactly once.

    Belongs to the event loop on which it is made. Everything that is called in one tick of the
    loop travels together.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        limits: SessionLimits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.welcome: Welcome | None = None
        """What the server said last; None before the first connection."""
        self._transport = transport
        self._monotonic = monotonic
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._session: Session[PendingAnswer] = Session(entropy, limits)
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._idle: asyncio.Future[None] | None = None
        self._why = "not connected yet"
        self._failure: Exception | None = None
        self.closed = False
        """Whether `close` was called: new calls are a RuntimeError."""
        self.holders: OrderedDict[str, str] = OrderedDict()
        """Which run holds the hook of a token, as this client was told last: for `resume_hook`."""
        transport.start(self)

    @property
    def partition_count(self) -> int | None:
        """The cluster's; None before the first connection."""
        return None if self.welcome is None else self.welcome.partition_count

    @property
    def open_count(self) -> int:
        """Calls without an answer."""
        return self._session.open_count

    def call(  # noqa: PLR0913 - a call has so many parts
        self,
        target: ObjectKey,
        kind: Kind,
        method: str = "",
        *,
        arguments: bytes = b"",
        encoding: Encoding = Encoding.MSGPACK,
        key: str | None = None,
        timeout_s: float | None = 30.0,
        have: tuple[int, int] | None = None,
        chain: Sequence[Sequence[str]] = (),
        partition: int | None = None,
        due_ms: int = 0,
        origin: CallId | None = None,
    ) -> PendingAnswer:
        """Send a call; it takes its place in the order now, connected or not.

        Without `timeout_s` it is sent again for a day if need be. `partition` is only for
        `Kind.LIST`, which asks one partition; its `target` is the type and the prefix of ids.
        `due_ms`, wall clock, is for `Kind.SEND`; with `origin` it says for other kinds by when they
        are to have started.

        With `origin` the call leaves a partition: this is its id, from that partition's journal,
        with the session `partition_session_id`. Numbers ascend from 1 for each target partition;
        after a crash the open calls may be made again in any order. Infrastructure that fails is
        waited for without end if there is no `timeout_s`. With one, no room at the target ends the
        call too, and it is for the target to say that the call did not start in time, if it may
        have got it. The outcome is kept until `confirm`.

        The future always gets an `Answer`, whatever goes wrong. Cancelling it ends the waiting,
        not the call.
        """
        if self.closed:
            raise self._failure or RuntimeError("this client is closed")
        future = PendingAnswer(loop=self._loop)
        deadline_ms = None
        if timeout_s is not None:
            deadline_ms = int((self._monotonic() + timeout_s) * 1000)
        call = OpenCall(
            future,
            kind,
            target,
            method,
            arguments,
            encoding,
            key,
            have,
            chain,
            partition,
            deadline_ms,
            due_ms,
            origin,
        )
        future.sent_as(call)
        self._session.call(call)
        if not self._flushing:
            self._flush_soon()
        return future

    def confirm(self, origin: CallId) -> None:
        """Have a target forget a call that left a partition: its outcome is durable there.

        A call that has no answer yet is given up: its future is cancelled, and it does not run
        if it has not begun. Confirming twice does nothing.
        """
        self._deliver()
        self._session.confirm(origin)
        self._cancel_ended()
        if self._session.wants_frames and not self._flushing:
            self._flush_soon()
        else:
            self._set_timer()

    def open_call(self, origin: CallId) -> OpenCall[PendingAnswer] | None:
        """Return how a call that left a partition stands; None: it has ended, or is not here."""
        return self._session.origins.find(origin)

    def resume_origin(
        self, session: bytes, partition: int, next_sequence: int, open_sequences: Iterable[int]
    ) -> None:
        """Take over the calls of a partition to another one, before the first is made here.

        Args:
            session: The calling partition's session.
            partition: The target.
            next_sequence: The first number that no call has.
            open_sequences: Those below it whose outcomes are not durable: each will be called
                again or confirmed. Everything else below it is settled.

        Raises:
            ValueError: There are calls of this session to that partition here already.
        """
        self._session.resume_origin(session, partition, next_sequence, open_sequences)
        self._set_timer()

    def leave_origin(self, session: bytes | None) -> None:
        """Let go of a partition that is not owned here any more. None: of all.

        Its calls get no answer here: their futures are cancelled. They go on where
        `resume_origin` is called next.
        """
        self._deliver()
        self._session.leave_origin(session)
        self._cancel_ended()

    def fail(self, error: Exception) -> None:
        """End: there will never be a connection. Every call raises `error`, now and later."""
        self._failure = error
        self.closed = True
        if not self._connected.done():
            self._connected.set_exception(error)
            self._connected.exception()  # Nobody need have waited for it.
        self._session.abandon()
        for future, _, _ in self._session.take_ended():
            future.ended()
            if not future.done():
                future.set_exception(error)

    async def connected(self, timeout_s: float | None = 30.0) -> None:
        """Wait until the server has been reached once.

        Raises:
            DeadlineExceeded: It was not, in time.
            PerdureError: It never will be.
        """
        done, _ = await asyncio.wait([self._connected], timeout=timeout_s)
        if not done:
            raise DeadlineExceeded(f"no connection within {timeout_s} s: {self._why}")
        self._connected.result()

    async def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Wait for the answers of all calls made, then leave.

        Calls that have none after `timeout_s` may yet run; their futures get an answer that says
        so. Calls that leave partitions are not waited for: see `leave_origin`. Calling it again
        waits for nothing.
        """
        if self.closed:
            return
        self.closed = True
        self.leave_origin(None)
        if self._session.open_count:
            self._idle = self._loop.create_future()
            await asyncio.wait([self._idle], timeout=timeout_s)
        self._session.confirm_all()
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
        await self._transport.close()
        left = self._session.abandon()
        if left:
            _log.warning("closed with %d calls unanswered: they may have run", left)
            self._deliver()

    # What the transport says.

    def welcomed(self, welcome: Welcome) -> None:
        """Send everything that waits."""
        self.welcome = welcome
        if not self._connected.done():
            self._connected.set_result(None)
        self._session.opened(welcome.cluster_id, welcome.partition_count)
        self._flush()

    def answered(self, frames: list[AnswerFrame]) -> None:
        """Hand answers to those who wait."""
        self._session.answered(frames, self._now_ms())
        self._deliver()
        if self._session.wants_frames and not self._flushing:
            # Callers that are woken now may call again in the same tick: one message for all.
            self._flush_soon()
        else:
            self._set_timer()

    def lost(self, why: str) -> None:
        """Keep calls until there is a stream again."""
        self._why = why
        self._session.lost(why)

    # Moving.

    def _now_ms(self) -> int:
        return int(self._monotonic() * 1000)

    def _flush_soon(self) -> None:
        self._flushing = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        session = self._session
        frames = session.take_frames(self._now_ms(), int(self._wall() * 1000))
        if frames:
            self._transport.send(frames)
        self._deliver()
        self._set_timer()
        if session.wants_frames:
            self._flush_soon()

    def _set_timer(self) -> None:
        due_ms = self._session.next_ms
        if due_ms is None:
            return
        if self._timer is not None:
            if self._timer_ms <= due_ms:
                return
            self._timer.cancel()
        self._timer_ms = due_ms
        wait_s = max(0.0, due_ms / 1000 - self._monotonic())
        # One millisecond more, so that the time has come when the timer fires.
        self._timer = self._loop.call_later(wait_s + 0.001, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._session.tick(self._now_ms())
        self._flush()

    def _cancel_ended(self) -> None:
        for future, _, _ in self._session.take_ended():
            future.ended()
            future.cancel()

    def _deliver(self) -> None:
        for future, code, body in self._session.take_ended():
            future.ended()
            if not future.done():
                future.set_result(_answer(code, body))
        if self._idle is not None and not self._session.open_count and not self._idle.done():
            self._idle.set_result(None)


def _answer(code: int, body: bytes) -> Answer:
    try:
        return Answer(code, unpack_reply(body))
    except (ValueError, TypeError):
        text = "the server's answer cannot be read: whether the call ran is not known"
        number, payload = pack_error(Code.INTERNAL, [text])
        return Answer(number, Reply(payload, None, None))
