"""gRPC as it is imported here: with its older poller, unless the program has chosen."""

from __future__ import annotations

import os
import sys
from typing import Final

__all__ = ["import_grpc"]

_VARIABLE: Final = "GRPC_EXPERIMENTS"

_OLDER_POLLER: Final = "-event_engine_client,-event_engine_listener"
"""Whoever waits for a message reads it, where the newer poller wakes two threads to do so.

A gRPC that knows these names no more says so on stderr, at each start, and goes its own way."""


def import_grpc() -> None:
    """Import gRPC, for the first time if nobody has; later imports find that one.

    gRPC reads its settings when it is imported, for the whole process. So a program that has
    imported it before, or has set `GRPC_EXPERIMENTS`, keeps what it has. Programs that are
    started from here are not told.
    """
    if "grpc" in sys.modules or _VARIABLE in os.environ:
        return
    os.environ[_VARIABLE] = _OLDER_POLLER
    try:
        import grpc.aio  # noqa: F401
    finally:
        del os.environ[_VARIABLE]
