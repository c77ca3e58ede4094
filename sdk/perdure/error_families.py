"""The families that all errors belong to, by what the caller does next."""

from __future__ import annotations

__all__ = ["CallFailed", "CallRejected", "OutcomeUnknown", "PerdureError"]


class PerdureError(Exception):
    """Anything that Perdure itself has to say."""


class CallRejected(PerdureError):
    """The call did not run: it is safe to send it again."""


class OutcomeUnknown(PerdureError):
    """The call may have run. Send it again only with the same key."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text


class CallFailed(PerdureError):
    """The call ran and failed; its changes are undone. Sending it again repeats the failure."""
