"""Two ways to run objects inside of the tests' own process: embedded, and served by a node.

Each `run` is one life of the node: what a later `run` sees has been on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from pytest import MonkeyPatch

from perdure.runtime import current_client
from perdure.serving.server import Server
from perdure_node.core.limits import Limits
from perdure_node.node import Node
from perdure_node.service import NodeService
from perdure_node.settings import NodeSettings

LONGEST_S = 30.0
PARTITION_COUNT = 4

Program = Callable[..., Coroutine[Any, Any, Any]]


class Embedded:
    """The node of a program without any configuration."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def run(self, program: Program, *args: Any) -> Any:
        """Run an async function as a program of its own; return its result."""
        with MonkeyPatch.context() as patch:
            patch.delenv("PERDURE_ADDRESS", raising=False)
            patch.setenv("PERDURE_DATA", str(self._data))
            return asyncio.run(asyncio.wait_for(program(*args), LONGEST_S))


class Served:
    """A node that listens on loopback; the program is its client."""

    def __init__(self, data: Path, limits: Limits | None = None) -> None:
        self._settings = NodeSettings(
            name="n1",
            data=data,
            partition_count=PARTITION_COUNT,
            listen="127.0.0.1:0",
            new=True,
            limits=Limits() if limits is None else limits,
            drain_s=1.0,
        )
        self.node: Node | None = None
        """While a program runs."""

    def run(self, program: Program, *args: Any) -> Any:
        """Start the node, run an async function as a client of it, stop the node."""
        return asyncio.run(asyncio.wait_for(self._serve(program, args), LONGEST_S))

    async def _serve(self, program: Program, args: tuple[Any, ...]) -> Any:
        node = Node(self._settings)
        await node.start()
        server = Server(NodeService(node))
        patch = MonkeyPatch()
        try:
            port = await server.start(self._settings.listen)
            patch.setenv("PERDURE_ADDRESS", f"127.0.0.1:{port}")
            self.node = node
            return await program(*args)
        finally:
            self.node = None
            await current_client().close()
            patch.undo()
            await node.drain()
            await server.drain(self._settings.name)
            await server.close()
            await node.close()


World = Embedded | Served
