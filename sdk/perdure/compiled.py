"""Whether the hot modules of this Perdure are compiled; nothing but its speed depends on it."""

from __future__ import annotations

from perdure import codec

__all__ = ["is_compiled"]


def is_compiled() -> bool:
    """Tell whether compiled modules run. All of a wheel's are, or none."""
    return not codec.__file__.endswith(".py")
