"""The outcomes of calls that bring something to a run: of those that are here, and of payloads."""

from __future__ import annotations

from perdure.bodies import Request
from perdure_node.core.commits import Outcome
from perdure_node.core.events import Received

__all__ = ["outcome_of", "outcome_told"]


def outcome_of(request: Request, code: int, payload: bytes) -> Outcome:
    """Return the outcome of a call that is here."""
    return Outcome(request.session, request.sequence, request.confirmed, code, payload)


def outcome_told(event: Received, code: int, payload: bytes) -> Outcome:
    """Return the outcome of the call that has brought a payload."""
    return Outcome(event.session, event.sequence, [0], code, payload)
