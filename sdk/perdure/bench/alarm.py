"""A timer of an event loop that is exact to some 50 µs.

The timers of event loops count milliseconds, which is as long as several calls take.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Alarm"]

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_ABSOLUTE: Final = 1


class _Spec(ctypes.Structure):
    """`struct itimerspec`: every how long (0: once), and when."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Alarm:
    """Calls back at a time of `time.monotonic_ns`. Belongs to the running loop."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """Prepare; `set` says when.

        Args:
            ring: Called each time.

        Raises:
            OSError: The process has no file descriptor left.
        """
        self._ring = ring
        self._spec = _Spec()
        self._loop = asyncio.get_running_loop()
        self._descriptor: int = _LIBC.timerfd_create(
            time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC
        )
        _check(self._descriptor)
        self._loop.add_reader(self._descriptor, self._rang)

    def set(self, at_ns: int) -> None:
        """Ring at this time, or at once if it is over."""
        # At 0 it would never ring.
        self._spec.at_s, self._spec.at_ns = divmod(max(at_ns, 1), 1_000_000_000)
        _check(_LIBC.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(self._spec), None))

    def close(self) -> None:
        """Never ring again."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _rang(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # It was set anew this moment.
        self._ring()


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
