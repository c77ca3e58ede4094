"""Asks a server for its map of the cluster."""

from __future__ import annotations

from typing import Any, Final

from perdure.grpc_import import import_grpc
from perdure.partition_map import PartitionMap

__all__ = ["ask_for_map"]

_METHOD: Final = "/perdure.wire.v1.Cluster/Map"
_ASK_S: Final = 2.0


async def ask_for_map(address: str) -> PartitionMap | str:
    """Return the map of the node or router at an address, or why there is none."""
    # Imported here: only clients that ask need them.
    import_grpc()
    import grpc.aio
    from google.protobuf.message import DecodeError

    from perdure.grpc_transport import channel_options
    from perdure.serving.mapping import map_from_wire

    async with grpc.aio.insecure_channel(address, options=channel_options()) as channel:
        call: Any = channel.unary_unary(_METHOD)
        try:
            return map_from_wire(await call(b"", timeout=_ASK_S))
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except DecodeError:
            return "it speaks something else"
