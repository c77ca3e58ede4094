"""Which client a piece of code uses: one for each event loop, made when it is needed.

An address (`connect`, `PERDURE_ADDRESS`) makes this process a client of that server, or with direct
routing (`connect`, `PERDURE_ROUTING`, perdure.toml) of the nodes behind it; without one it has a
node of its own. Handles belong to no loop: they ask here at each call.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final, Literal

from perdure import embedding
from perdure.client import Client
from perdure.kept_task import KeptTask, keep
from perdure.transport import Transport

__all__ = ["connect", "current_client"]

_END_S: Final = 10.0
"""How long the end of a loop waits for the calls made on it."""

_log = logging.getLogger("perdure")


class _Home:
    """What one event loop has of Perdure: a client, and sometimes the process's node."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str | None, routing: str) -> None:
        self.generation = _generation
        self.address = address
        self.routing = routing
        self._loop = loop
        self._ending: asyncio.Future[None] = loop.create_future()
        if address is None:
            self.client = Client(embedding.EmbeddedTransport(self._failed))
        else:
            self.client = Client(_transport_to(address, routing))
        self._keeper: KeptTask[None] = keep(
            self._keep(), name="perdure", on_cancel=self._begin_to_end
        )

    def _begin_to_end(self) -> None:
        if not self._ending.done():
            self._ending.set_result(None)

    async def end(self) -> None:
        """Finish the calls made here, then leave."""
        self._begin_to_end()
        await asyncio.wait([self._keeper])

    async def _keep(self) -> None:
        await self._ending
        until_s = self._loop.time() + _END_S
        if _homes.get(self._loop) is self:
            # The other tasks of a loop that ends may still make calls as they end.
            await _wait_for_others(until_s)
        await self.client.close(max(0.0, until_s - self._loop.time()))
        if self.address is None:
            await embedding.close_here(max(0.0, until_s - self._loop.time()))
        if _homes.get(self._loop) is self:
            del _homes[self._loop]

    def _failed(self, error: Exception) -> None:
        """The embedded node cannot be opened: every call says why, and the next one tries anew."""
        if _homes.get(self._loop) is self:
            del _homes[self._loop]
        self.client.fail(error)
        self._begin_to_end()


def _routing_to(address: str | None) -> str:
    if address is None or _routing is not None:
        return _routing or "router"
    from perdure.config import routing_of_clients

    return routing_of_clients(os.environ)


def _transport_to(address: str, routing: str) -> Transport:
    # Imported here: a process with an embedded node never needs gRPC.
    if routing == "direct":
        from perdure.routing.direct import DirectTransport

        return DirectTransport(address, keep=True)
    from perdure.grpc_transport import GrpcTransport

    return GrpcTransport(address, keep=True)


_homes: dict[asyncio.AbstractEventLoop, _Home] = {}
_address: str | None = None
"""Given to `connect`."""
_routing: str | None = None
"""Given to `connect`; None: whatever the settings say."""
_generation = 0
"""Counts the addresses given to `connect`."""


def current_client() -> Client:
    """Return the client of the running loop.

    Raises:
        RuntimeError: No loop runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no event loop runs here: call from async code, "
            "or through perdure.sync.run(async_function, *args)"
        ) from None
    home = _homes.get(loop)
    if home is None or home.generation != _generation or home.client.closed:
        home = _move_in(loop, home)
    return home.client


async def connect(
    address: str,
    *,
    routing: Literal["router", "direct"] | None = None,
    timeout: float | None = 30.0,
) -> Client:
    """Make this process a client of a router or node, and wait until it is reached.

    Counts for every event loop of the process, from now on. Calls made before are finished
    where they were made.

    Args:
        address: `host:port`.
        routing: `router`: all calls go to that address. `direct`: this process finds out which
            nodes there are and calls them itself; a router takes the calls for those that it
            cannot reach. None: what `PERDURE_ROUTING` says, else `routing` in the perdure.toml
            of the current folder, else `router`.
        timeout: Seconds.

    Raises:
        DeadlineExceeded: It was not reached in time. Calls will go on trying.
        ConfigError: There is no such routing.
    """
    global _address, _routing, _generation
    if routing is not None:
        from perdure.config import check_routing

        check_routing(routing, "routing")
    if (address, routing) != (_address, _routing):
        _address, _routing = address, routing
        _generation += 1
    client = current_client()
    await client.connected(timeout)
    return client


def _move_in(loop: asyncio.AbstractEventLoop, old: _Home | None) -> _Home:
    for ended in [other for other in _homes if other.is_closed()]:
        del _homes[ended]
    address = _address or os.environ.get("PERDURE_ADDRESS") or None
    wanted = (address, routing := _routing_to(address))
    if old is not None and (old.address, old.routing) == wanted and not old.client.closed:
        old.generation = _generation
        return old
    home = _homes[loop] = _Home(loop, address, routing)
    if old is not None:
        keep(old.end(), name="perdure leaving")
    return home


async def _wait_for_others(until_s: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        others = {task for task in asyncio.all_tasks() if not isinstance(task, KeptTask)}
        left_s = until_s - loop.time()
        if not others or left_s <= 0:
            return
        await asyncio.wait(others, timeout=left_s)


def _forget_in_child() -> None:
    """Forget, after a fork, the clients of the parent process."""
    _homes.clear()


os.register_at_fork(after_in_child=_forget_in_child)
