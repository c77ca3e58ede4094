"""A real node in the test's own process: real journal, real stores, no network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from perdure import codec, raised
from perdure.bodies import unpack_error
from perdure.client import Answer, Client
from perdure.errors import Code, error_from_wire
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.clock import Clock
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node
from perdure_node.settings import NodeSettings


def settings(data: Path, **changes: Any) -> NodeSettings:
    """Settings of a node that is alone, with few partitions."""
    made = NodeSettings(
        name="n1",
        data=data,
        partition_count=4,
        new=not (data / "node.json").exists(),
        limits=changes.pop("limits", Limits()),
        journal=changes.pop("journal", JournalSettings(segment_bytes=1 << 20)),
        drain_s=2.0,
        apply_interval_s=0.1,
    )
    return replace(made, **changes)


class Caller:
    """Calls objects by their names, without handles: what a client library stands on."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def create(self, type: str, id: str = "x") -> Answer:
        return await self.client.call(ObjectKey(type, id), Kind.GET_OR_CREATE, have=(0, 0))

    def send(self, type: str, method: str, *args: Any, id: str = "x", **options: Any) -> Any:
        """Send a call; await the result for its `Answer`."""
        arguments = codec.encode([list(args), {}])
        return self.client.call(
            ObjectKey(type, id), Kind.CALL, method, arguments=arguments, **options
        )

    async def call(self, type: str, method: str, *args: Any, id: str = "x", **options: Any) -> Any:
        """Call a method; its result, or what it raised."""
        return result_of(await self.send(type, method, *args, id=id, **options))

    async def state(self, type: str, id: str = "x") -> dict[str, Any]:
        """Return the committed attributes of an object."""
        answer = await self.client.call(ObjectKey(type, id), Kind.GET, "*", have=(0, 0))
        result_of(answer)
        assert answer.reply.changes is not None
        return {name: codec.decode(v) for name, v in answer.reply.changes.values.items()}


def result_of(answer: Answer) -> Any:
    """Return what an answer holds, or raise it."""
    if answer.code == 0:
        return codec.decode(answer.reply.payload)
    if answer.code == Code.RAISED:
        raise raised.unpack_exception(answer.reply.payload)
    raise error_from_wire(answer.code, unpack_error(answer.reply.payload))


@contextlib.asynccontextmanager
async def running(
    made: NodeSettings, *, crash: bool = False, clock: Clock | None = None
) -> AsyncIterator[tuple[Node, Caller]]:
    """Run a node; at the end close it, or (`crash`) let it go as it is."""
    node = Node(made, clock=clock)
    await node.start()
    client = Client(node.transport())
    try:
        yield node, Caller(client)
    except BaseException:
        await abandon(node)
        raise
    if crash:
        await abandon(node)
    else:
        await client.close()
        await node.drain()
        await node.close()


def deafen(node: Node) -> None:
    """Let no method hear anything any more, as if the node had died before it is told."""
    for host in node._hosts:
        for mailbox in host.partition.mailboxes:
            for call in mailbox.running:
                if call.turn is not None:
                    call.turn.over = True


async def abandon(node: Node) -> None:
    """End a node as a crash would: what is not durable, or only in memory, is lost."""
    node._upkeep_task.cancel()
    if node._carrier is not None:
        await node._carrier.close()
    await node._executor.close()
    node._failure = "crashed by the test"
    node._journal.abandon()
    node._hosts.close()
    node._identity.close()
