"""The end of a call, as long as its caller may ask for it again."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

__all__ = ["Ended", "Keyed"]


class Ended(msgspec.Struct, frozen=True, gc=False):
    """An outcome that its caller has not confirmed."""

    code: int
    payload: bytes
    record: int
    """The record that holds it. Nothing may be answered from it before that is durable."""


class Keyed(NamedTuple):
    """An outcome under an idempotency key."""

    digest: bytes
    code: int
    payload: bytes
    record: int
    """The record that holds it; `UNRECORDED` while none does."""
