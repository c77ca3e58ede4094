"""Every bound of whoever forwards calls."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ForwardingLimits"]


@dataclass(frozen=True, slots=True)
class ForwardingLimits:
    """How much is held, and how patiently. The defaults are those of a router."""

    calls_max: int = 100_000
    """Calls taken in and not answered. More are refused with BACKPRESSURE."""

    bytes_max: int = 256 << 20
    """The same in bytes of their bodies, which are kept to be sent again."""

    waiting_calls_max: int = 20_000
    """Calls of those that wait for an owner to be reachable. More are refused, so that an
    outage of some partitions leaves room for the others."""

    waiting_bytes_max: int = 64 << 20
    """The same in bytes of their bodies."""

    retry_first_ms: int = 10
    """The wait before a partition's refused calls are sent again; it doubles each time."""

    retry_max_ms: int = 500
    """The longest such wait."""

    early_min_ms: int = 100
    """A call that waits in vain is told NO_OWNER a quarter of its time before its deadline, but
    at least so long: its caller hears that it did not run before its own clock says that nobody
    knows."""

    early_max_ms: int = 500
    """The most of it."""

    overdue_ms: int = 1_000
    """How long after its deadline a call is still expected to be answered by its node, which
    knows more about it than the router does."""

    retry_after_s: float = 0.2
    """What a caller is told to wait whose call is refused with BACKPRESSURE."""
