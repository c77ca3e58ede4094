"""The result of a step of a method, and whether the method waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

__all__ = ["StepFuture"]

T = TypeVar("T")


class StepFuture(asyncio.Future[T]):
    """A future for what a turn was asked for."""

    __slots__ = ("passed_on", "waiters")

    waiters: Sequence[asyncio.Future[None]]
    """Who awaits it now: the list of the `Call` that has it, from its first await on."""
    passed_on: StepFuture[Any] | None
    """What gets its result as soon as it has one, and is awaited in its place."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.waiters = ()
        self.passed_on = None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the result."""
        return bool(self.waiters if self.passed_on is None else self.passed_on.waiters)
