"""Processes that end with the one that has started them, however that one ends."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_S = 30.0
PORTS = range(20_000, 32_000)

LAUNCH = """
import os, sys
from perdure.process import die_with
die_with(int(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Runs a program that the kernel ends when its parent, of that process id, is killed."""


@contextmanager
def started(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a program, and end it afterwards."""
    launch = [sys.executable, "-c", LAUNCH, str(os.getpid()), *command]
    merged = {**os.environ, **(environment or {})}
    with subprocess.Popen(launch, env=merged, stdout=stdout, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                # Its children die with it.
                process.kill()


def free_port() -> int:
    """Find a port to listen on, not among those that the kernel gives to whoever asks for any."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # Somebody listens there.
            return port


def end_in_order_when_terminated() -> None:
    """Let SIGTERM end this process as Ctrl-C does: after everything that it has started."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, _: FrameType | None) -> Any:
    raise SystemExit(128 + number)
