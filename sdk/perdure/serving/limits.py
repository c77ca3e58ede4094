"""Every bound of a server, and the gRPC options that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.transport import (
    CALL_BYTES_MAX,
    MESSAGE_BYTES_AIM,
    MESSAGE_BYTES_MAX,
    MESSAGE_FRAMES_MAX,
)

__all__ = ["ServerLimits", "channel_arguments"]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a server takes from its clients. Each test of a limit sets it low."""

    message_bytes_max: int = MESSAGE_BYTES_MAX
    """A larger message ends its call or stream with RESOURCE_EXHAUSTED."""

    call_bytes_max: int = CALL_BYTES_MAX
    """A larger call is refused with MESSAGE_TOO_LARGE; its stream goes on."""

    metadata_bytes_max: int = 8 * 1024
    """Larger headers are refused with RESOURCE_EXHAUSTED."""

    frames_max: int = 4_096
    """Frames in one message. Clients pack 512 at most; more is MALFORMED."""

    batch_frames_max: int = MESSAGE_FRAMES_MAX
    """Answers in one message."""

    batch_bytes_max: int = MESSAGE_BYTES_AIM
    """Answers in one message; a single larger one travels alone."""

    unsent_bytes_max: int = 16 * 1024 * 1024
    """Answers that the client of one stream has not read. Beyond it the stream ends; its
    calls are not lost, because their answers are kept for the next stream."""

    unsent_total_bytes_max: int = 64 * 1024 * 1024
    """The same over all streams: beyond it the one with the most unread ends."""

    unread_connection_bytes_max: int = 16 * 1024 * 1024
    """Unary answers, and messages of ended streams, that gRPC has taken and one connection has
    not read. Beyond it the connection's further calls are refused before they run."""

    unread_total_bytes_max: int = 256 * 1024 * 1024
    """The same over all connections. Beyond it all further calls are refused."""

    streams_per_connection_max: int = 256
    """More wait for one to end (HTTP/2's own limit)."""

    calls_max: int = 10_000
    """Streams and unary calls at a time. More are refused with RESOURCE_EXHAUSTED."""

    connections_max: int = 4_096
    """More are closed at once."""

    handshake_timeout_ms: int = 5_000
    """A connection that has not said its HTTP/2 greeting by then is closed."""

    idle_ms: int = 300_000
    """A connection with no stream and no call for so long is closed."""

    ping_ms: int = 10_000
    """How often a silent client is pinged."""

    ping_timeout_ms: int = 5_000
    """A client that does not answer a ping by then is gone."""

    client_ping_interval_ms: int = 200
    """Clients that ping more often than this, with nothing sent to them, are cut off."""

    default_timeout_s: float = 30.0
    """For a unary call without a deadline."""

    linger_s: float = 5.0
    """How long a stream that its client has half-closed, or that the server is about to end,
    stays open for its answers."""


def channel_arguments(limits: ServerLimits) -> list[tuple[str, int]]:
    """Return gRPC's channel arguments for a server."""
    return [
        ("grpc.max_receive_message_length", limits.message_bytes_max),
        # Results are bounded where they are made; a message that gRPC refuses to send would
        # end the stream of a client that has done nothing wrong.
        ("grpc.max_send_message_length", -1),
        # Between the two gRPC refuses at random, so they are one number.
        ("grpc.max_metadata_size", limits.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes_max),
        ("grpc.max_concurrent_streams", limits.streams_per_connection_max),
        ("grpc.max_allowed_incoming_connections", limits.connections_max),
        ("grpc.server_handshake_timeout_ms", limits.handshake_timeout_ms),
        ("grpc.max_connection_idle_ms", limits.idle_ms),
        ("grpc.keepalive_time_ms", limits.ping_ms),
        ("grpc.keepalive_timeout_ms", limits.ping_timeout_ms),
        # Without this one a frozen peer is never noticed, keepalive or not.
        ("grpc.http2.ping_timeout_ms", limits.ping_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", limits.client_ping_interval_ms),
        # Else a second server on the same port would start and take half of the connections.
        ("grpc.so_reuseport", 0),
    ]
