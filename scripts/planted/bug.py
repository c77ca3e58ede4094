"""What a planted bug is."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Bug"]


class Bug(NamedTuple):
    """One bug: text in a file that occurs there exactly once, and what takes its place."""

    name: str
    sentence: str
    file: str
    text: str
    planted: str
    tests: list[str]
    """Ids of tests, each of which has to fail. Of a test with parameters, one case is enough."""
