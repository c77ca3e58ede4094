"""The connections of a check, and one call over one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from perdure.check.history import Outcome
from perdure.check.workload import TYPES
from perdure.client import Client
from perdure.codec import decode, encode
from perdure.errors import KINDS, Code
from perdure.frames import Kind
from perdure.grpc_transport import GrpcTransport
from perdure.ids import ObjectKey, partition_of
from perdure.routing.direct import DirectTransport

__all__ = ["Connections", "Told", "send"]


class Told(NamedTuple):
    """What a caller is told about a call."""

    outcome: Outcome
    result: Any
    code: str


class Connections:
    """Clients of the router, or of what else was given, and one straight to each node.

    Three reach every object, each with a session of its own: two over the router, and one that
    finds the nodes by itself. So calls of one object come on several ways at once.
    """

    def __init__(self, address: str, nodes: dict[str, str], owners: dict[int, str]) -> None:
        """Connect; belongs to the running loop.

        Args:
            address: Of a router or node that takes calls to every object.
            nodes: The addresses of nodes to call directly, by name.
            owners: The node of each partition.
        """
        self._main = [
            Client(GrpcTransport(address)),
            Client(GrpcTransport(address)),
            Client(DirectTransport(address)),
        ]
        self._straight = {name: Client(GrpcTransport(at)) for name, at in nodes.items()}
        self._owners = owners
        self._nodes: list[str | None] = [None] * len(self._main) + sorted(nodes)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._nodes)

    def client(self, caller: int, kind: str, object: str) -> Client:
        """Return the connection of a caller to an object.

        Who has one straight to a node uses it for the objects of that node only.
        """
        node = self._nodes[caller % len(self._nodes)]
        if node is not None:
            partition = partition_of(ObjectKey(TYPES[kind], object), len(self._owners))
            if self._owners[partition] == node:
                return self._straight[node]
        return self._main[caller % len(self._main)]

    async def close(self) -> None:
        """End all; every call has been answered, or nobody waits for it."""
        clients = [*self._main, *self._straight.values()]
        await asyncio.gather(*(client.close(2.0) for client in clients))


async def send(
    client: Client,
    kind: str,
    object: str,
    method: str,
    arguments: Sequence[Any],
    timeout_s: float,
    key: str | None = None,
) -> Told:
    """Send a call before the first wait, and return what came of it.

    The method `get` reads the attribute `value`, or all when there is none, from the committed
    state; `create` makes the object.
    """
    target = ObjectKey(TYPES[kind], object)
    match method:
        case "get":
            future = client.call(target, Kind.GET, "*", timeout_s=timeout_s, have=(0, 0))
        case "create":
            future = client.call(target, Kind.GET_OR_CREATE, timeout_s=timeout_s)
        case _:
            packed = encode([[_sendable(item) for item in arguments], {}])
            future = client.call(
                target, Kind.CALL, method, arguments=packed, timeout_s=timeout_s, key=key
            )
    answer = await future
    if answer.code == Code.OK:
        if method == "get":
            assert answer.reply.changes is not None
            state = {name: decode(data) for name, data in answer.reply.changes.values.items()}
            return Told(Outcome.OK, state.get("value", state), "")
        result = None if method == "create" else decode(answer.reply.payload)
        return Told(Outcome.OK, result, "")
    code = Code(answer.code)
    outcome = Outcome.FAILED if KINDS[code].applied == "no" else Outcome.UNKNOWN
    return Told(outcome, None, code.name)


def _sendable(item: Any) -> Any:
    return list(item) if isinstance(item, tuple) else item
