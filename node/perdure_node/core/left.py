"""What records leave in the store, as long as the store does not have it.

There are thousands of them, so the collector leaves them alone, and what many of them would have
empty is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from perdure_node.core.batch import Images
from perdure_node.core.commits import Commit, Outcome
from perdure_node.core.underway import Leaves

__all__ = ["NO_OUTCOMES", "NO_VALUES", "LeftByCommit", "LeftByRecord"]

NO_VALUES: Final[dict[str, bytes]] = {}
NO_OUTCOMES: Final[list[Outcome]] = []
"""Both of commits, and never changed."""


class LeftByCommit(msgspec.Struct, frozen=True, gc=False):
    """What a commit leaves that is more than an image."""

    commit: Commit
    leaves: Leaves


class LeftByRecord(msgspec.Struct, frozen=True, gc=False):
    """What a record leaves."""

    record: int
    images: Images
    others: Sequence[LeftByCommit]
    """Few commits leave more than an image, so the rest of them need not be kept."""
    bytes: int
    time_ms: int
