"""Control of the runtime's that passes through user code."""

from __future__ import annotations

__all__ = ["OwnershipLost"]


class OwnershipLost(BaseException):
    """Raised inside a method whose node can no longer commit for its object.

    Not an `Exception`: a method that says `except Exception` must not be able to swallow this
    and go on acting for an object that lives, or will live, somewhere else.
    """
