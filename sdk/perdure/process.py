"""What every server process does at its start: node and router alike.

Exit statuses tell a supervisor what to do: `EXIT_CONFIG` will not get better by starting again,
`EXIT_HELD` may soon, everything else that is not 0 is a crash.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from perdure.errors import ConfigError, StorageHeld
from perdure.grpc_import import import_grpc

__all__ = ["EXIT_CONFIG", "EXIT_HELD", "LOG_LEVELS", "die_with", "run_server"]

EXIT_CONFIG: Final = 78
"""The settings, the data directory or the app do not allow a start (EX_CONFIG)."""

EXIT_HELD: Final = 75
"""Something that this process needs is held by another one (EX_TEMPFAIL)."""

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_PR_SET_PDEATHSIG: Final = 1


def run_server(
    name: str,
    serve: Callable[[], Coroutine[Any, Any, int]],
    *,
    log_level: str,
    parent_pid: int | None,
) -> int:
    """Run a server until it ends, and return the exit status of the process.

    Args:
        name: For logs and errors: `node n1`.
        serve: Reads its settings, imports what it needs and serves. Returns the exit status.
        log_level: One of `LOG_LEVELS`.
        parent_pid: A supervisor without which this process must not live on.
    """
    # Asserts guard invariants of stored data: without them, damage would be written to disk.
    if not __debug__:
        return _refuse(name, "does not run under python -O: its assertions guard your data")
    if parent_pid is not None:
        die_with(parent_pid)
        # Ctrl-C reaches the whole process group; who ends when is for the supervisor to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A supervisor writes the name before each line by itself.
    _set_up_logging(log_level, name if parent_pid is None else None)
    # Read when gRPC is imported. Else it writes lines of its own format when a peer goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    import_grpc()

    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve())
    except StorageHeld as error:
        return _refuse(name, str(error), EXIT_HELD)
    except ConfigError as error:
        return _refuse(name, str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _refuse(name: str, text: str, status: int = EXIT_CONFIG) -> int:
    sys.stderr.write(f"perdure {name}: {text}\n")
    sys.stderr.flush()
    return status


def die_with(parent_pid: int) -> None:
    """Let the kernel kill this process when its parent ends, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended between starting this process and the line above.
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def _set_up_logging(level: str, server: str | None) -> None:
    """Write structured lines of node and router, and those of plain loggers, to stderr.

    Args:
        level: The lowest that is written.
        server: A name to write in each line.
    """
    import structlog

    def add_server(_logger: object, _method: str, event: Any) -> Any:
        if server is not None:
            event["server"] = server
        return event

    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_server,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
