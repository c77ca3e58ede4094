"""What records leave in the store, as long as the store does not have it.

There are thousands of them, so the collector leaves them alone, and what many of them would have
empty is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from perdure.ids import ObjectKey
from perdure_node.core.commits import Commit, Outcome
from perdure_node.core.events import Event

__all__ = ["NO_OUTCOMES", "NO_VALUES", "Images", "Leaves", "LeftByCommit"]

NO_VALUES: Final[dict[str, bytes]] = {}
NO_OUTCOMES: Final[list[Outcome]] = []
"""Both of commits, and never changed."""


Images = dict[ObjectKey, tuple[int, dict[str, bytes] | None]]
"""Objects by their state version and whole state. No state: there is no object any more."""


class Leaves(msgspec.Struct, frozen=True, gc=False):
    """What `BatchBuilder.add` wants to know of a commit."""

    events: int
    """How many events its object's call in progress had before it."""
    ended: bool
    """It ends that call."""
    dropped: int = 0
    """How many events of a call it replaces: a run was continued as new."""
    journal: Sequence[Event] = ()
    """The events that a run had before its end, if this is it."""


class LeftByCommit(msgspec.Struct, frozen=True, gc=False):
    """What a commit leaves that is more than an image."""

    commit: Commit
    leaves: Leaves
