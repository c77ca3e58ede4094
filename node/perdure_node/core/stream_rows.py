"""The rows of streams in a partition's store.

| key | row |
| --- | --- |
| `w` run NUL stream NUL index | `[payload, rewound]`, see `events.Chunk` |
| `W` run NUL stream | `[next index, [first, at, first, at, ...]]`: what is void |

Runs and streams hold no NUL, so that no key is a prefix of another stream's.
"""

from __future__ import annotations

import msgspec

from perdure_node.core.events import Chunk

__all__ = [
    "chunk_key",
    "chunk_prefix",
    "pack_chunk",
    "pack_summary",
    "stream_of",
    "summary_key",
    "summary_prefix",
    "unpack_chunk",
    "unpack_summary",
]


def chunk_prefix(run: str, stream: str) -> bytes:
    """Return what the keys of all chunks of a stream begin with."""
    return b"w%b\0%b\0" % (run.encode(), stream.encode())


def chunk_key(run: str, stream: str, index: int) -> bytes:
    """Return the key of a chunk."""
    return chunk_prefix(run, stream) + index.to_bytes(8, "big")


def pack_chunk(chunk: Chunk) -> bytes:
    """Pack a chunk; its key says where it belongs."""
    return msgspec.msgpack.encode((chunk.payload, chunk.rewound))


def unpack_chunk(stream: str, key: bytes, row: bytes) -> Chunk:
    """Unpack a chunk."""
    payload, rewound = msgspec.msgpack.decode(row)
    return Chunk(stream, int.from_bytes(key[-8:], "big"), payload, rewound)


def summary_prefix(run: str) -> bytes:
    """Return what the keys of the summaries of all streams of a run begin with."""
    return b"W%b\0" % run.encode()


def summary_key(run: str, stream: str) -> bytes:
    """Return the key of a stream's summary."""
    return summary_prefix(run) + stream.encode()


def stream_of(run: str, key: bytes) -> str:
    """Return the stream whose summary has this key."""
    return key[len(summary_prefix(run)) :].decode()


def pack_summary(length: int, void: list[int]) -> bytes:
    """Pack how long a stream is, and which parts of it are void."""
    return msgspec.msgpack.encode((length, void))


def unpack_summary(row: bytes) -> tuple[int, list[int]]:
    """Unpack a summary."""
    length, void = msgspec.msgpack.decode(row)
    return length, void
