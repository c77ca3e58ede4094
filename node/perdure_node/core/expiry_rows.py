"""The rows by which runs that have ended are found again when their time is over.

| key | row |
| --- | --- |
| `z` `e` ended id | how many events it has: runs that stay for as long as the node's limit says |
| `z` `x` expires id | likewise: runs whose workflow says for how long |

A time has eight bytes, so that its bytes sort as it does. Runs that stay for ever have none.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BY_LIMIT", "BY_WORKFLOW", "FOR_EVER", "expiry_key", "id_of", "row_of_end", "time_of"]

BY_LIMIT: Final = b"ze"
BY_WORKFLOW: Final = b"zx"

FOR_EVER: Final = -1
"""When a run is to go that never is."""


def expiry_key(prefix: bytes, time_ms: int, id: str) -> bytes:
    """Return the key of a run's row."""
    return b"%b%b%b" % (prefix, time_ms.to_bytes(8, "big"), id.encode())


def time_of(key: bytes) -> int:
    """Return the time in such a key: wall clock."""
    return int.from_bytes(key[2:10], "big")


def id_of(key: bytes) -> str:
    """Return the id of the run in such a key."""
    return key[10:].decode()


def row_of_end(id: str, ended_ms: int, expires_ms: int) -> bytes | None:
    """Return the key of a run that has ended; None: it stays for ever."""
    if expires_ms == FOR_EVER:
        return None
    if expires_ms:
        return expiry_key(BY_WORKFLOW, expires_ms, id)
    return expiry_key(BY_LIMIT, ended_ms, id)
