"""A gRPC server that does nothing: the frames of `Calls.Session` come back as they are.

    python scripts/echo_server.py [--older-poller]

It prints the address on which it listens. What Perdure does for a call is everything beyond
this, on the same Python, gRPC and event loop; with `--older-poller` gRPC is also imported as
Perdure does it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop

from perdure.frames import pack_batch, unpack_calls
from perdure.grpc_import import import_grpc
from perdure.serving.limits import ServerLimits, channel_arguments
from perdure.wire.v1 import calls_pb2

SERVICE = "perdure.wire.v1.Calls"


async def session(_: Any, context: Any) -> None:
    while isinstance(message := await context.read(), bytes):
        frames = unpack_calls(calls_pb2.CallBatch.FromString(message).frames)
        answers = [(number, 0, body) for number, _, _, body in frames]
        batch = calls_pb2.AnswerBatch(frames=pack_batch(answers))
        await context.write(batch.SerializeToString())


async def call(message: bytes, _: Any) -> bytes:
    asked = calls_pb2.CallRequest.FromString(message)
    return calls_pb2.CallAnswer(result=asked.arguments).SerializeToString()


async def serve() -> None:
    import grpc.aio

    server = grpc.aio.server(options=channel_arguments(ServerLimits()))
    methods: dict[str, Any] = {
        "Session": grpc.stream_stream_rpc_method_handler(session),
        "Call": grpc.unary_unary_rpc_method_handler(call),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if "--older-poller" in sys.argv[1:]:
        import_grpc()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
