"""How a server process is told to end, and what it asks of the system."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from typing import Final

__all__ = ["calm_collector", "collect_rarely", "prepare_process", "stop_requested"]

_OPEN_FILES: Final = 65_536
_COLLECT_EVERY: Final = 50_000
"""Objects made, net, between two looks at the youngest."""

_SWITCH_S: Final = 0.0005


def prepare_process() -> None:
    """Allow many open files, let threads that finish disk work in soon, collect rarely."""
    collect_rarely()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    # Beside a method that computes, the loop and the journal's thread would wait 5 ms each time.
    sys.setswitchinterval(_SWITCH_S)


def collect_rarely() -> None:
    """Look for garbage cycles among many new objects at once, and seldom among the others.

    Calls and recovery make many small objects and no cycles: as often as Python does it by itself,
    it is in vain, and where many calls are under way it takes more time than they do.
    """
    gc.set_threshold(_COLLECT_EVERY, 20, 50)


def calm_collector() -> None:
    """Never look for garbage cycles among what is there now."""
    gc.collect()
    gc.freeze()


def stop_requested() -> asyncio.Future[signal.Signals]:
    """Return a future that the first SIGTERM or SIGINT ends.

    Another SIGTERM changes nothing: a whole group and then a supervisor may send it. Ctrl-C once
    more ends the process.
    """
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        loop.remove_signal_handler(signal.SIGINT)
        if not stopped.done():
            stopped.set_result(number)

    for each in (signal.SIGTERM, signal.SIGINT):
        # Ctrl-C reaches a whole process group: whoever supervises us has SIGINT ignored here,
        # and sends SIGTERM when it is our turn.
        if signal.getsignal(each) is not signal.SIG_IGN:
            loop.add_signal_handler(each, stop, each)
    return stopped
