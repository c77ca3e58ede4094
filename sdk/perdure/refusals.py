"""Which answers end a call, and which say only that one copy of it did not run."""

from __future__ import annotations

from typing import Final

from perdure.bodies import pack_error, pack_reply
from perdure.errors import Code

__all__ = ["REFUSALS", "RETRIED", "name_of", "pack_refusal"]

RETRIED: Final = frozenset(
    int(code)
    for code in (Code.NOT_OWNER, Code.NO_OWNER, Code.DRAINING, Code.OUT_OF_ORDER, Code.OWNER_LOST)
)
"""Hidden from callers: the call is sent again until its deadline."""

REFUSALS: Final = RETRIED | {
    int(code)
    for code in (
        Code.MALFORMED,
        Code.UNKNOWN_TYPE,
        Code.UNKNOWN_METHOD,
        Code.BAD_KEY,
        Code.BAD_ARGUMENTS,
        Code.TOO_DEEP,
        Code.MESSAGE_TOO_LARGE,
        Code.BAD_IDEMPOTENCY_KEY,
        Code.DEADLINE_EXCEEDED,
        Code.BACKPRESSURE,
        Code.OBJECT_NOT_FOUND,
        Code.SUPERSEDED,
        Code.DISK_FULL,
        Code.PARKED,
        Code.CODEC_NOT_ALLOWED,
    )
}
"""This copy did not run. Every other code is an outcome, the same for all copies."""


def pack_refusal(code: Code, *args: object) -> tuple[int, bytes]:
    """Return the code and packed reply of a refusal that the client makes itself."""
    number, payload = pack_error(code, args)
    return number, pack_reply(payload)


def name_of(code: int) -> str:
    """Return the name of a code that came from a server."""
    return Code(code).name if code in set(Code) else str(code)
