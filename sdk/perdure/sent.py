"""Calls that were sent: each is a timer of its target, whose name says by which call it came."""

from __future__ import annotations

from typing import Final

from perdure.ids import CallId

__all__ = ["SENT", "name_of_sent", "names_meant", "sender_of", "shown_name"]

SENT: Final = "\0send:"
"""What the names of such timers begin with. Names of users have no NUL."""


def name_of_sent(sender: CallId) -> str:
    """Return the name of the timer that a call makes which was sent.

    What one caller has sent to one partition comes in the order of the names.
    """
    return f"{SENT}{sender.session.hex()}:{sender.partition}:{sender.sequence:020}"


def sender_of(name: str) -> CallId | None:
    """Return by which call a timer was sent; None: it was not, a user has set it."""
    if not name.startswith(SENT):
        return None
    session, partition, sequence = name.removeprefix(SENT).split(":")
    return CallId(bytes.fromhex(session), int(partition), int(sequence))


def shown_name(name: str) -> str:
    """Return a timer's name as people can type it."""
    return name.removeprefix("\0")


def names_meant(shown: str) -> tuple[str, str]:
    """Return the names that are shown like this: a user's, and that of a call that was sent."""
    return shown, f"\0{shown}"
