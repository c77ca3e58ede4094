"""A method's coroutine up to its first wait, which most have not."""

from __future__ import annotations

from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, Final

from perdure_node.method_task import HandedOver, begun, driver

__all__ = ["Beginnings"]

_PLAIN: Final = CoroutineType
_IDLE_MAX: Final = 64


class Beginnings:
    """Begins coroutines."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        """Drivers that run nothing: as many as there were coroutines inside of one another, or
        that waited at the same time, and not too many."""

    def take(self) -> Any:
        """Return a `driver` that waits for a coroutine."""
        if self._idle:
            return self._idle.pop()
        made: Any = driver()
        made.send(None)
        return made

    def give_back(self, used: Any) -> None:
        """Take a `driver` whose coroutine has ended, and not by raising."""
        if len(self._idle) < _IDLE_MAX:
            self._idle.append(used)

    def begin(
        self, coroutine: Coroutine[Any, Any, Any]
    ) -> tuple[Coroutine[Any, Any, Any] | None, Any]:
        """Run a coroutine up to its first wait.

        Returns:
            None and its result, if it has ended. Else what is to be run from now on in its place,
            and what it waits for.
        """
        if type(coroutine) is not _PLAIN:
            has_ended, given = begun(coroutine)
            return None if has_ended else coroutine, given
        used = self.take()
        given = used.send(coroutine)
        if used.gi_yieldfrom is not None:
            return HandedOver(used), given
        self.give_back(used)
        return None, given
