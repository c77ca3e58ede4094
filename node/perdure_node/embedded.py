"""A node inside of a user's own process, for programs that have no cluster."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from perdure.config import load_config
from perdure.transport import Transport
from perdure_node.node import Node
from perdure_node.settings import NodeSettings, limits_of

__all__ = ["EmbeddedNode", "open_embedded"]

PARTITION_COUNT = 16
"""Of an embedded node's data, for ever."""


class EmbeddedNode:
    """A running node and the loop that it runs on."""

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self.loop = loop

    def transport(self) -> Transport:
        """Return a way to call it, from its own loop."""
        return self.node.transport()

    async def close(self, longest_s: float | None = None) -> None:
        """Let the calls that are here finish, for ten seconds unless told otherwise, then close."""
        await self.node.drain(longest_s)
        await self.node.close()

    def abandon(self) -> None:
        """Let go of the directory, because the loop was closed without an end."""
        self.node.abandon()


async def open_embedded(data_dir: Path) -> EmbeddedNode:
    """Start a node on a data directory, which is made when it is not there.

    Raises:
        StorageHeld: Another process uses the directory.
        ConfigError: It is no data of an embedded node, or the settings of its limits and
            services, in the environment or the perdure.toml of the current folder, have a mistake.
    """
    config = load_config(None, os.environ, {})
    new = not (data_dir / "node.json").exists()
    node = Node(
        NodeSettings(
            name="embedded",
            data=data_dir,
            partition_count=PARTITION_COUNT,
            new=new,
            lazy=True,
            limits=limits_of(config.limits),
            services=config.services,
        )
    )
    await node.start()
    return EmbeddedNode(node, asyncio.get_running_loop())
