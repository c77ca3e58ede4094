"""What carries the steps of methods out of the process, as these see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from perdure.context import StepResult
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.events import OutboxEntry

__all__ = ["Performer"]


class Performer(Protocol):
    """What carries steps out of the process."""

    def send(self, session: int, entry: OutboxEntry) -> asyncio.Future[StepResult]:
        """Send a call of a partition's session until it is answered."""
        ...

    def read(
        self,
        target: ObjectKey,
        kind: Kind,
        method: str,
        have: list[int] | None,
        arguments: bytes,
    ) -> asyncio.Future[StepResult]:
        """Ask for something of which copies do no harm."""
        ...

    def confirm(self, entry: OutboxEntry, session: int) -> None:
        """Tell the target that its answer is durable here."""
        ...

    def service(
        self,
        service: str,
        method: str,
        payload: bytes | None,
        key: str,
        chain: list[list[str]],
        *,
        at_once: bool,
    ) -> StepResult | Coroutine[Any, Any, StepResult]:
        """Call a service: now, if it never waits and may run `at_once`."""
        ...

    def start(
        self, work: Coroutine[Any, Any, StepResult], done: Callable[[StepResult], None]
    ) -> None:
        """Let something run in a task of its own."""
        ...

    def wake_at(self, due_ms: int, done: Callable[[], None]) -> None:
        """Call `done` when the wall clock shows this."""
        ...

    def wall_ms(self) -> int:
        """Return the wall clock."""
        ...
