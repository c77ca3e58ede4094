"""A method's coroutine up to its first wait, which most have not."""

from __future__ import annotations

from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, Final

from perdure_node.method_task import HandedOver, begun, driver

__all__ = ["Beginnings"]

_PLAIN: Final = CoroutineType


class Beginnings:
    """Begins coroutines."""

    def __init__(self) -> None:
        self._driver: Any = None
        """Where most of them run; None: it is running one, or has not been made yet."""

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
        used: Any = self._driver
        # Out of sight meanwhile: what a method does may lead to another one.
        self._driver = None
        if used is None:
            used = driver()
            used.send(None)
        given = used.send(coroutine)
        if used.gi_yieldfrom is not None:
            return HandedOver(used), given
        self._driver = used
        return None, given
