"""Why a call is refused, whatever its object is doing."""

from __future__ import annotations

from typing import Final

from perdure.bodies import Request
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import is_partition_session, session_birth_ms
from perdure_node.core.calls import Call, Refusal
from perdure_node.core.chains import chain_inside, chain_texts
from perdure_node.core.limits import Limits
from perdure_node.core.window import SessionWindow

__all__ = ["PASSING", "refuse_chain", "refuse_session", "refuse_unconfirmed"]


PASSING: Final = frozenset((Code.BACKPRESSURE, Code.DRAINING, Code.DISK_FULL))
"""Why a call may run when it comes again."""


_NEVER_WAIT: Final = frozenset((Kind.GET_OR_CREATE, Kind.START, Kind.NOTIFY, Kind.WAKE))
"""What an object may be asked for by what it has called: that waits for no method of it."""


def refuse_session(session: bytes, time_ms: int, limits: Limits) -> Refusal | None:
    """Tell why a session that nothing is known of is not begun; None: it may be.

    Args:
        session: Its id, which says when it was born by its client's clock.
        time_ms: The partition's time.
        limits: Those of the node.
    """
    if is_partition_session(session):
        return None  # It has no birth, and is never forgotten.
    birth_ms = session_birth_ms(session)
    if birth_ms + limits.session_window_ms < time_ms:
        text = "the call's session is too old to be remembered: the call may have run"
        return Refusal(Code.SESSION_EXPIRED, (text,))
    if birth_ms > time_ms + limits.session_ahead_ms:
        return Refusal(Code.MALFORMED, ("the call's session is born in the future",))
    return None


def refuse_chain(request: Request, limits: Limits) -> Refusal | None:
    """Tell why a call made inside of others would never end; None: it may."""
    chain = request.chain
    if len(chain) > limits.chain_calls_max:
        return Refusal(Code.CALL_DEPTH, (len(chain), limits.chain_calls_max))
    # A handle to an object of the chain may be had: that waits for no method.
    key = [request.type, request.id]
    if request.kind not in _NEVER_WAIT and any(link[:2] == key for link in chain):
        return Refusal(Code.CALL_CYCLE, (chain_texts(chain_inside(request)),))
    return None


def refuse_unconfirmed(window: SessionWindow[Call], limits: Limits) -> Refusal | None:
    """Refuse a call of a session that has not confirmed its answers for long."""
    if (
        len(window.open) + len(window.ended) >= limits.session_unconfirmed_max
        or window.bytes >= limits.session_outcome_bytes_max
    ):
        return Refusal(Code.BACKPRESSURE, ("the answers of this session", limits.retry_after_s))
    return None
