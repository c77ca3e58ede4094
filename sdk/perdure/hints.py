"""What the writer of a wrong name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["did_you_mean"]


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return `: did you mean 'x'?`, or the names there are, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f": did you mean {close[0]!r}?"
    if known:
        return f"; there are {', '.join(sorted(known)[:10])}"
    return ""
