"""A client's own way to the nodes, as a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from perdure.frames import AnswerFrame, CallFrame
from perdure.grpc_transport import GrpcTransport
from perdure.partition_map import PartitionMap
from perdure.routing.ask_map import ask_for_map
from perdure.routing.core.paths import PathLimits
from perdure.routing.known_cluster import KnownCluster
from perdure.routing.link import Link
from perdure.transport import Listener, Transport, Welcome

__all__ = ["DirectTransport"]

_HOME: Final = "home"


class DirectTransport:
    """A `Transport` to all nodes of a cluster, known by a router or any node at one address.

    For the session above it is one stream that never breaks: what is sent again, which copies
    are astray, and which answers are believed is the business of the forwarding, as in a router.
    """

    def __init__(
        self,
        address: str,
        *,
        keep: bool = False,
        connect: Callable[[str], Transport] | None = None,
        ask: Callable[[str], Awaitable[PartitionMap | str]] = ask_for_map,
        limits: PathLimits | None = None,
    ) -> None:
        """Prepare to connect.

        Args:
            address: `host:port` of a router or node.
            keep: The end of the loop waits for `close` instead of cancelling the streams.
            connect: Makes the transport to an address.
            ask: Returns the map that the server at an address has, or why it has none.
            limits: How patient it is with nodes that cannot be reached.
        """
        self.address = address
        self._keep = keep
        self._connect = connect or (lambda address: GrpcTransport(address, keep=keep))
        self._ask = ask
        self._limits = limits or PathLimits()
        self._listener: Listener | None = None
        self._home = Link(self, _HOME, self._connect(address))
        self._cluster: KnownCluster | None = None
        self._left: list[KnownCluster] = []
        self._sending = False
        self._early: list[AnswerFrame] = []
        """Answers that came while the session was sending."""

    def start(self, listener: Listener) -> None:
        """Begin to connect."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._home.start()

    def send(self, frames: list[CallFrame]) -> None:
        """Send calls to the owners of their objects, or to a router."""
        if self._cluster is not None:
            self._sending = True
            self._cluster.receive(frames)
            self._sending = False

    async def close(self) -> None:
        """Send what is left, then close all streams."""
        self._listener = None
        clusters = [*self._left, self._cluster] if self._cluster is not None else self._left
        await asyncio.gather(self._home.close(), *(cluster.close() for cluster in clusters))

    @property
    def reached(self) -> list[str]:
        """The names of the nodes that calls are sent to without a router."""
        return [] if self._cluster is None else self._cluster.reached

    # As the listener of the link to the address given.

    def node_welcomed(self, name: str, welcome: Welcome) -> None:  # noqa: ARG002 - the only link
        """Enter the cluster, or another one that is at the address now."""
        listener = self._listener
        if listener is None:
            return
        cluster = self._cluster
        if cluster is None or not cluster.is_that_of(welcome):
            if cluster is not None:
                # Its links close by themselves, in their own time.
                cluster.leave()
                self._left.append(cluster)
                listener.lost(f"another cluster is at {self.address} now")
            cluster = self._cluster = KnownCluster(
                welcome,
                self._home,
                self.address,
                keep=self._keep,
                connect=self._connect,
                ask=self._ask,
                limits=self._limits,
                answer=self._answer,
                on_changed=self._welcome,
            )
        cluster.home_welcomed(welcome)

    def node_answered(self, frames: list[AnswerFrame]) -> None:
        """Pass answers on."""
        if self._cluster is not None:
            self._cluster.node_answered(frames)

    def node_lost(self, name: str, why: str) -> None:  # noqa: ARG002 - the only link
        """Go on without it, if the cluster is known."""
        if self._cluster is not None:
            self._cluster.home_lost(why)
        elif self._listener is not None:
            self._listener.lost(why)

    # What the cluster says.

    def _welcome(self, cluster: Welcome) -> None:
        if self._listener is not None:
            self._listener.welcomed(cluster)

    def _answer(self, frames: list[AnswerFrame]) -> None:
        if self._sending or self._early:
            # Never from inside of the session's own work, and in the order they came.
            if not self._early:
                self._loop.call_soon(self._answer_early)
            self._early += frames
        elif self._listener is not None:
            self._listener.answered(frames)

    def _answer_early(self) -> None:
        frames, self._early = self._early, []
        if self._listener is not None:
            self._listener.answered(frames)
