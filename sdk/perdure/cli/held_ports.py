"""Ports of this machine that are kept for servers which start, die and come back."""

from __future__ import annotations

import socket
import sys

__all__ = ["HeldPorts"]


class HeldPorts:
    """Keeps ports, so that the machine gives them to nobody else while no server listens there.

    A bound socket keeps each of them. It does not listen and lets its address be reused, and so
    do servers: they listen there all the same.
    """

    def __init__(self) -> None:
        self._keepers: list[socket.socket] = []

    def find(self, count: int) -> list[str]:
        """Return addresses on this machine where nobody listens, and keep them."""
        found = [self._bind("127.0.0.1", 0) for _ in range(count)]
        self._where_servers_can_listen()
        return found

    def keep(self, address: str) -> bool:
        """Keep an address; False: somebody has it."""
        host, _, port = address.rpartition(":")
        try:
            with _reusing_socket() as probe:
                probe.bind((host, int(port)))
                probe.listen()
            self._bind(host, int(port))
        except OSError:
            return False
        self._where_servers_can_listen()
        return True

    def close(self) -> None:
        """Keep them no longer."""
        for keeper in self._keepers:
            keeper.close()

    def _bind(self, host: str, port: int) -> str:
        keeper = _reusing_socket()
        self._keepers.append(keeper)
        keeper.bind((host, port))
        return f"{host}:{keeper.getsockname()[1]}"

    def _where_servers_can_listen(self) -> None:
        # Only Linux has two sockets at one address as long as one of them listens.
        if sys.platform != "linux":
            self.close()


def _reusing_socket() -> socket.socket:
    made = socket.socket()
    # Without it, closed connections of an earlier server keep an address for a minute.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
