"""A hook as the code of a run has it: its queue, and who waits for what comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure import codec, jsonvalue
from perdure.answers import error_of
from perdure.bodies import unpack_reply
from perdure.client import Answer
from perdure.context import StepResult
from perdure.errors import HookClosed, HookConflict
from perdure.frames import Encoding

if TYPE_CHECKING:
    from perdure_node.runs.turn import RunTurn

__all__ = ["RunHook"]

Payload = tuple[int, bytes]
"""Its place among all that the run has got, from 1, and what it is."""


class RunHook:
    """What one token of a run has got and who waits for it.

    It is there before the run creates the hook, if payloads are: they were brought along by a
    start, or by `continue_as_new`.
    """

    def __init__(self, turn: RunTurn, token: str) -> None:
        self._turn = turn
        self.token = token
        self.is_created = False
        self.is_disposed = False
        self._queue: deque[Payload] = deque()
        self._waiting: deque[asyncio.Future[Payload]] = deque()
        self._current: int | None = None
        """The payload that `reply` answers."""
        self._claim: asyncio.Future[StepResult] | None = None
        """None: it is claimed."""
        self._claim_waiters: list[asyncio.Future[None]] = []

    # What the run hears.

    def deliver(self, payload: Payload) -> None:
        """Give a payload to whoever has waited longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(payload)
                return
        self._queue.append(payload)

    def claimed_by(self, claim: asyncio.Future[StepResult]) -> None:
        """Take word that the token is being claimed."""
        self._claim = claim
        claim.add_done_callback(self._settle)

    def _settle(self, claim: asyncio.Future[StepResult]) -> None:
        waiters, self._claim_waiters = self._claim_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if claim.cancelled():
            return
        if not claim.result().code and self.owner is None:
            self._claim = None
            return
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            if not one.done():
                one.set_exception(self._refusal())

    # What the run asks for.

    @property
    def owner(self) -> str | None:
        """The run that holds the token, if it is another one and that is known."""
        claim = self._claim
        if claim is None or not claim.done() or claim.result().code:
            return None
        owner: str | None = codec.decode(unpack_reply(claim.result().payload).payload)
        return owner

    def _refusal(self) -> Exception:
        assert self._claim is not None
        code, body = self._claim.result()
        if code:
            return error_of(Answer(code, unpack_reply(body)))
        assert self.owner is not None
        return HookConflict(self.token, self.owner)

    def _check(self) -> None:
        if self.is_disposed:
            raise HookClosed(self.token, "this run has disposed of it")
        claim = self._claim
        if claim is not None and claim.done() and (claim.result().code or self.owner is not None):
            raise self._refusal()

    async def claimed(self) -> str | None:
        """Wait until the token is claimed. Returns the run that holds it, if it is another one."""
        if self._claim is not None and not self._claim.done():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._claim_waiters.append(waiter)
            await waiter
        if self._claim is not None and self._claim.result().code:
            raise self._refusal()
        return self.owner

    async def take(self) -> bytes:
        """Wait for the next payload. A wait that is given up takes none.

        Raises:
            HookConflict: Another run holds the token.
            HookClosed: It was disposed of.
        """
        self._check()
        if self._queue:
            place, payload = self._queue.popleft()
        else:
            waiter: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                place, payload = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    self._queue.appendleft(waiter.result())
                elif waiter in self._waiting:
                    self._waiting.remove(waiter)
                raise
        self._took(place)
        return payload

    def _took(self, place: int) -> None:
        before, self._current = self._current, place
        self._turn.took(place, before)

    def reply(self, value: object) -> None:
        """Answer the payload that was taken last.

        Raises:
            RuntimeError: It is answered, or none was taken.
            NotEncodable: The value cannot travel.
        """
        place, self._current = self._current, None
        if place is None:
            raise RuntimeError(
                f"reply() of the hook {self.token!r}: there is nothing to answer, because no "
                f"payload was taken from it since the last reply"
            )

        def encoded(encoding: int) -> bytes:
            if encoding == Encoding.JSON:
                return jsonvalue.to_json(value)
            return codec.encode(value)

        self._turn.reply(self.token, place, encoded)

    def dispose(self, step: Callable[[list[int]], Any]) -> None:
        """Close it: `step` is told the places of what was never taken."""
        self.is_disposed = True
        places = [place for place, _ in self._queue]
        self._queue.clear()
        before, self._current = self._current, None
        step([*places])
        if before is not None:
            self._turn.forgo(before)
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(HookClosed(self.token, "this run has disposed of it"))

    @property
    def left(self) -> list[Payload]:
        """What has come and was not taken."""
        return list(self._queue)
