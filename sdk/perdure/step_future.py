"""The result of a step of a method, and whether the method waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

__all__ = ["StepFuture"]

T = TypeVar("T")


class StepFuture(asyncio.Future[T]):
    """A future for what a turn was asked for."""

    # Not in an `__init__`: most futures change one of them.
    waiters: Sequence[asyncio.Future[None]] = ()
    """Who awaits it now: the list of the `Call` that has it, from its first await on."""
    passed_on: StepFuture[Any] | None = None
    """What gets its result as soon as it has one, and is awaited in its place."""
    pass_on: Callable[[asyncio.Future[T]], None]
    """Gives it that result."""

    @property
    def awaited_by(self) -> Sequence[asyncio.Future[None]]:
        """Who waits for the result."""
        return self.waiters if self.passed_on is None else self.passed_on.waiters

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the result."""
        return bool(self.awaited_by)

    def tell(self, result: T) -> None:
        """Set the result; it is where it is awaited before the loop has come round."""
        self.set_result(result)
        if self.passed_on is not None:
            self.pass_on(self)
