"""Errors of calls that nobody has looked at: they are logged, and not lost."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["Unseen"]

_logger: Final = logging.getLogger("perdure.call")


class Unseen:
    """Logs the error of a call when it is dropped before anybody has seen it."""

    __slots__ = ("_label", "_make_error", "seen")

    def __init__(self, label: str, make_error: Callable[[], BaseException]) -> None:
        """Wait to be dropped.

        Args:
            label: How errors name the call.
            make_error: Returns the error. Called only if it is logged.
        """
        self._label = label
        self._make_error = make_error
        self.seen = False

    def __del__(self) -> None:
        if not self.seen and not sys.is_finalizing():
            error = self._make_error()
            _logger.error(
                "%s failed and nobody awaited it: %s: %s",
                self._label,
                type(error).__name__,
                error,
                exc_info=error,
            )
