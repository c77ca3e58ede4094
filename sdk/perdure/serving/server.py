"""The gRPC server of a node or a router: its services, their limits, its start and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from perdure.errors import BadPayload, Draining, Overloaded, PerdureError, StorageHeld
from perdure.serving.backend import Backend
from perdure.serving.cluster import answer_describe, answer_list
from perdure.serving.inquiries import answer_decide, answer_inspect, answer_list_calls
from perdure.serving.limits import ServerLimits, channel_arguments
from perdure.serving.mapping import answer_map
from perdure.serving.status import Refusal, abort, refusal_of_bug, refusal_of_error
from perdure.serving.stream import Context, serve_stream
from perdure.serving.unary import answer_call, time_left_s
from perdure.serving.unread import Unread
from perdure.wire.v1 import calls_pb2, cluster_pb2

__all__ = ["Server"]

_CALLS: Final = calls_pb2.DESCRIPTOR.services_by_name["Calls"].full_name
_CLUSTER: Final = cluster_pb2.DESCRIPTOR.services_by_name["Cluster"].full_name
_HEALTH: Final = health.SERVICE_NAME
_REFLECTION: Final = reflection.SERVICE_NAME

_M = TypeVar("_M", bound=Message)


class Server:
    """Serves a backend on a port.

    All handlers take raw bytes and parse them here: gRPC's own parsing answers INTERNAL to
    what is malformed, and an exception that leaves a handler would send its text to the client.
    """

    def __init__(self, backend: Backend, limits: ServerLimits | None = None) -> None:
        self._backend = backend
        self._limits = limits or ServerLimits()
        self._unread = Unread(self._limits)
        # Their types say that contexts carry parsed messages; here they carry bytes.
        self._health: Any = health.aio.HealthServicer()
        self._reflection: Any = reflection.aio.ReflectionServicer(
            (_CALLS, _CLUSTER, _HEALTH, _REFLECTION)
        )
        self._server: grpc.aio.Server | None = None
        self._retired: Draining | None = None

    async def start(self, listen: str) -> int:
        """Listen, and return the port (of interest when `listen` ends in `:0`).

        Raises:
            StorageHeld: Another process listens there.
        """
        server = grpc.aio.server(
            options=channel_arguments(self._limits),
            maximum_concurrent_rpcs=self._limits.calls_max,
        )
        server.add_generic_rpc_handlers(self._handlers())
        try:
            port = server.add_insecure_port(listen)
            if port == 0:
                raise RuntimeError("no port was bound")
        except RuntimeError:
            raise StorageHeld(
                f"cannot listen on {listen}: another process does, or it is no address of this host"
            ) from None
        await self._health.set(_CALLS, health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        self._server = server
        return port

    def announce(self) -> None:
        """Tell all streams what the backend's welcome says now."""
        welcome = self._backend.welcome()
        if welcome is not None:
            for stream in self._unread.streams:
                stream.announce(welcome)

    async def retire(self, server_name: str) -> None:
        """Begin to end: say so in health checks, and refuse new unary calls with DRAINING.

        Streams are left as they are: there the backend refuses.
        """
        self._retired = Draining(server_name)
        await self._health.enter_graceful_shutdown()

    async def drain(self, server_name: str) -> None:
        """End every stream. Calls that still come are refused with DRAINING.

        Each stream gets its answers first, if they come and its client takes them within
        `linger_s`.
        """
        await self.retire(server_name)
        last_word = Draining(server_name)
        streams = list(self._unread.streams)
        for stream in streams:
            stream.finish(last_word)
        if streams:
            await asyncio.wait([s.ended for s in streams], timeout=self._limits.linger_s)
        for stream in list(self._unread.streams):
            stream.end(refusal_of_error(last_word))

    async def close(self, grace_s: float = 1.0) -> None:
        """Close the port, and end what is still open after `grace_s`."""
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    def _handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        handler = grpc.method_handlers_generic_handler
        unary = grpc.unary_unary_rpc_method_handler
        return (
            handler(
                _CALLS,
                {
                    "Call": unary(self._unary(self._call)),
                    "Session": grpc.stream_stream_rpc_method_handler(self._session),
                },
            ),
            handler(
                _CLUSTER,
                {
                    "Describe": unary(self._unary(self._describe)),
                    "Map": unary(self._unary(self._map)),
                    "List": unary(self._unary(self._list)),
                    "Inspect": unary(self._unary(self._inspect)),
                    "ListCalls": unary(self._unary(self._list_calls)),
                    "Decide": unary(self._unary(self._decide)),
                },
            ),
            handler(
                _HEALTH,
                {
                    "Check": unary(self._unary(self._check)),
                    "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
                },
            ),
            handler(
                _REFLECTION,
                {
                    "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._reflect),
                },
            ),
        )

    @staticmethod
    def _unary(
        answer: Callable[[bytes, Context], Awaitable[bytes]],
    ) -> Callable[[bytes, Context], Coroutine[Any, Any, bytes]]:
        async def answered(message: bytes, context: Context) -> bytes:
            try:
                return await answer(message, context)
            except Refusal as error:
                refusal = error
            except PerdureError as error:
                refusal = refusal_of_error(error)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                refusal = refusal_of_bug(error)
            return await abort(context, refusal)

        return answered

    async def _session(self, _: AsyncIterator[bytes], context: Context) -> None:
        try:
            await serve_stream(context, self._backend, self._limits, self._unread)
        except Overloaded as error:
            await abort(context, refusal_of_error(error))

    async def _call(self, message: bytes, context: Context) -> bytes:
        if self._retired is not None:
            raise self._retired
        self._unread.check(context)
        time_left = time_left_s(context, self._limits)
        answer = await answer_call(message, time_left, self._backend, self._limits)
        self._unread.hold(context, len(answer))
        return answer

    async def _describe(self, message: bytes, _: Context) -> bytes:
        return await answer_describe(message, self._backend)

    async def _map(self, message: bytes, _: Context) -> bytes:
        return answer_map(message, self._backend)

    async def _list(self, message: bytes, _: Context) -> bytes:
        return await answer_list(message, self._backend)

    async def _inspect(self, message: bytes, _: Context) -> bytes:
        return await answer_inspect(message, self._backend)

    async def _list_calls(self, message: bytes, _: Context) -> bytes:
        return await answer_list_calls(message, self._backend)

    async def _decide(self, message: bytes, context: Context) -> bytes:
        return await answer_decide(message, time_left_s(context, self._limits), self._backend)

    async def _check(self, message: bytes, context: Context) -> bytes:
        request = _parsed(health_pb2.HealthCheckRequest, message)
        answer = await self._health.Check(request, context)
        packed: bytes = answer.SerializeToString()
        return packed

    async def _watch(self, message: bytes, context: Context) -> None:
        try:
            request = _parsed(health_pb2.HealthCheckRequest, message)
        except BadPayload as error:
            await abort(context, refusal_of_error(error))
        await self._health.Watch(request, _Packing(context))

    async def _reflect(self, messages: AsyncIterator[bytes], context: Context) -> None:
        async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            async for message in messages:
                yield _parsed(reflection_pb2.ServerReflectionRequest, message)

        try:
            async for answer in self._reflection.ServerReflectionInfo(requests(), context):
                await context.write(answer.SerializeToString())
        except BadPayload as error:
            await abort(context, refusal_of_error(error))


class _Packing:
    """A context whose `write` takes messages, for a servicer made by others."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def write(self, message: Message) -> None:
        await self._context.write(message.SerializeToString())


def _parsed(message_type: type[_M], message: bytes) -> _M:
    try:
        return message_type.FromString(message)
    except DecodeError:
        raise BadPayload(f"the message is no {message_type.DESCRIPTOR.name}") from None
