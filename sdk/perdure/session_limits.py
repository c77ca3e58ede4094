"""The bounds of one client."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.transport import CALL_BYTES_MAX

__all__ = ["SessionLimits"]


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of one client."""

    open_calls_max: int = 1_000_000
    """Calls without an answer: about 1 GB. Beyond this they are refused."""

    sent_calls_max: int = 1_000
    """Calls on their way to one partition; more wait here. Servers refuse over 1,024."""

    call_bytes_max: int = CALL_BYTES_MAX
    """Bytes of one packed call. A larger one is refused."""

    new_calls_ms: int = 3_600_000
    """Age of a session id from which new calls get a new one."""

    copies_ms: int = 24 * 3_600_000
    """Age of a session id from which no copy of its calls is sent any more."""

    confirm_ms: int = 1_000
    """How long a server waits to hear that answers came when no other call tells it."""

    retry_min_ms: int = 10
    """The wait before a refused call is sent again, doubled each time."""

    retry_max_ms: int = 250
    """The longest such wait."""

    prompt_retries: int = 3
    """So often a call that came before its predecessor is sent again at once."""
