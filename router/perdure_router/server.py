"""A router as a process: from its settings to its exit status."""

from __future__ import annotations

import structlog

from perdure.serving.lifetime import calm_collector, prepare_process, stop_requested
from perdure.serving.server import Server
from perdure_router.router import Router
from perdure_router.settings import RouterSettings

__all__ = ["serve"]

_log = structlog.stdlib.get_logger(__name__)


async def serve(settings: RouterSettings) -> int:
    """Route until SIGTERM or SIGINT, and return the exit status.

    Raises:
        StorageHeld: Another process listens on the port.
    """
    prepare_process()
    stop = stop_requested()
    router = Router(settings)
    server = Server(router)
    router.on_welcome.append(server.announce)
    router.start()
    calm_collector()
    try:
        port = await server.start(settings.listen)
        _log.info("router serves", name=settings.name, port=port, nodes=len(settings.nodes))
        received = await stop
        _log.info("router ends", name=settings.name, signal=received.name)
        await server.drain(settings.name)
    finally:
        await server.close()
        await router.close()
    return 0
