"""A node as a process: from its settings to its exit status."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final, NoReturn

import structlog

from perdure.serving.lifetime import calm_collector, prepare_process, stop_requested
from perdure.serving.server import Server
from perdure_node.node import Node
from perdure_node.service import NodeService
from perdure_node.settings import NodeSettings

__all__ = ["EXIT_DISK_FAILED", "serve"]

EXIT_DISK_FAILED: Final = 70
"""The disk has failed: the process has given up, and a new one reads what is really there."""

_log = structlog.stdlib.get_logger(__name__)


async def serve(settings: NodeSettings) -> int:
    """Serve until SIGTERM, SIGINT or a failed disk, and return the exit status.

    Raises:
        ConfigError: The data directory is not this node's, or the settings do not fit it.
        StorageHeld: Another process has the data directory or the port.
    """
    prepare_process()
    stop = stop_requested()
    node = Node(settings)
    await node.start()
    calm_collector()
    server = Server(NodeService(node))
    try:
        port = await server.start(settings.listen)
        _log.info(
            "node serves", name=settings.name, port=port, partitions=len(node.welcome().owned)
        )
        ends: list[asyncio.Future[Any]] = [stop, node.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not node.failed.done():
            _log.info("node ends", name=settings.name, signal=stop.result().name)
            # Calls that come from now on are refused, and the answers of those that are here
            # leave; only then the streams end.
            await server.retire(settings.name)
            await node.drain()
            await server.drain(settings.name)
    finally:
        if node.failed.done():
            _give_up(settings.name, node.failed.result())
        await server.close()
        await node.close()
    return 0


def _give_up(name: str, why: BaseException) -> NoReturn:
    """End the process now.

    Nothing may be written any more, so there is nothing to clean up, and what hangs in the disk
    may hang for ever. Whoever waits for an answer asks the next process, which knows what is
    really on the disk.
    """
    _log.error("node gives up", name=name, why=str(why))
    os._exit(EXIT_DISK_FAILED)
