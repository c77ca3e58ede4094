"""What a caller is told of a call that is given up."""

from __future__ import annotations

from typing import Any, Final

from perdure.errors import Code
from perdure.ids import partition_of
from perdure.open_call import OpenCall
from perdure.refusals import name_of, pack_refusal

__all__ = ["give_up", "left_behind", "overloaded", "too_old"]

_OVERLOADED: Final = pack_refusal(Code.BACKPRESSURE, "answers to earlier calls of this client", 1.0)
"""Made once: whoever calls more than is answered gets it for most calls."""


def give_up(
    call: OpenCall[Any], partition_count: int | None, away: str | None
) -> tuple[int, bytes]:
    """Return how a call ends whose time is over. Says that it did not run if that is certain.

    Args:
        call: It has no answer.
        partition_count: The cluster's; None: no server has been reached yet.
        away: Why there is no stream; None: there is one.
    """
    if call.may_have_run:
        hint = "" if call.refusal is None else f" (the last copy: {name_of(call.refusal[0])})"
        text = f"{call}: no answer in time{hint}; it may have run, or may yet run"
        return pack_refusal(Code.DEADLINE_EXCEEDED, text)
    if call.refusal is not None and call.refusal[0] != Code.NOT_OWNER:
        return call.refusal
    if partition_count is None:
        return pack_refusal(Code.DEADLINE_EXCEEDED, f"{call}: not sent in time: {away}")
    if away is None and call.refusal is None and call.retry_ms is None:
        # There was somebody to send it to. It waited for its turn, and behind nobody who is lost.
        return _OVERLOADED
    partition = call.partition
    if partition is None:
        partition = partition_of(call.target, partition_count)
    return pack_refusal(Code.NO_OWNER, partition)


def left_behind(call: OpenCall[Any], cluster_id: str) -> tuple[int, bytes]:
    """Return how a call ends whose cluster is not at the address any more, but another one."""
    if not call.may_have_run:
        return pack_refusal(Code.NO_OWNER, call.partition)
    text = f"{call}: the server now belongs to another cluster ({cluster_id})"
    return pack_refusal(Code.OWNER_LOST, text)


def too_old(call: OpenCall[Any]) -> tuple[int, bytes]:
    """Return how a call ends whose session id is too old for another copy."""
    text = f"{call}: no answer within a day, and servers forget calls: it may have run"
    return pack_refusal(Code.SESSION_EXPIRED, text)


def overloaded() -> tuple[int, bytes]:
    """Return the refusal of a call for which its own client has no room."""
    return _OVERLOADED
