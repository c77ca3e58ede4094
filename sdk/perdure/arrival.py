"""The answer of a call, and who waits for it: what is behind a `Call`.

A class of its own, because each look at an attribute of `Call`, which has a `__getattr__`, is a
slow one, and because this one can be compiled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from perdure.answers import Answer, PendingAnswer, error_of
from perdure.errors import Code
from perdure.frames import Reply
from perdure.step_future import StepFuture
from perdure.step_waiter import StepWaiter
from perdure.turn import current_turn
from perdure.unseen import Unseen

__all__ = ["Arrival"]

T = TypeVar("T")

_OK: Final = int(Code.OK)


class Arrival(Generic[T]):
    """A future answer, which is taken in once, and of which each await gets a fresh copy."""

    def __init__(
        self,
        label: str,
        future: asyncio.Future[Answer],
        read: Callable[[Reply], T],
        arrived: Callable[[Answer], None] | None,
    ) -> None:
        """Wait for the answer.

        Args:
            label: How errors name the call.
            future: Of the answer.
            read: Makes the result of a reply without error; once for each await.
            arrived: Called once with the answer when it comes, an error too.
        """
        self.label: Final = label
        self.future: Final = future
        self._read: Final = read
        self._arrived: Final = arrived
        self._waiters: list[asyncio.Future[None]] = []
        self._is_taken = False
        self._unseen: Unseen | None = None
        future.add_done_callback(self._take)

    def wait(self) -> asyncio.Future[None] | None:
        """Return what ends when the answer has come; None: it has. `waited` ends the waiting."""
        if self.future.done():
            return None
        assert not self._is_taken
        waiter = self._waiter()
        self._waiters.append(waiter)
        return waiter

    def waited(self, waiter: asyncio.Future[None]) -> None:
        """Take word that nobody waits for this any more."""
        self._waiters.remove(waiter)

    def outcome(self) -> T:
        """Return the result, or raise the error: a fresh copy."""
        future = self.future
        if not self._is_taken:
            self._take(future)
        unseen = self._unseen
        if unseen is not None:
            unseen.seen = True
            self._unseen = None
        # The result of a step stands in for an answer, and compiled code would take its fields for
        # those of one.
        answer: Any = future.result()
        if answer.code != _OK:
            raise error_of(answer)
        return self._read(answer.reply)

    def _waiter(self) -> asyncio.Future[None]:
        future = self.future
        if type(future) is StepFuture:
            future.waiters = self._waiters
        elif isinstance(future, PendingAnswer):
            # A client's calls know nothing of a journal. What a turn has sent is a step in it.
            return future.get_loop().create_future()
        if current_turn.get() is None:
            return future.get_loop().create_future()
        return StepWaiter(loop=future.get_loop())

    def _take(self, future: asyncio.Future[Answer]) -> None:
        """Take the answer in, once: as the future's callback, or by the first to need it."""
        if self._is_taken:
            return
        self._is_taken = True
        if not future.cancelled():
            error = future.exception()
            if error is not None:
                self._unseen = Unseen(self.label, lambda: error)
            else:
                answer: Any = future.result()
                if self._arrived is not None:
                    self._arrived(answer)
                if answer.code != _OK:
                    self._unseen = Unseen(self.label, lambda: error_of(answer))
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
