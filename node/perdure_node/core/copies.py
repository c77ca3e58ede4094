"""Where answers go: each copy of a call has one of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.frames import AnswerFrame

__all__ = ["Answer", "Copy"]


class Answer(msgspec.Struct, frozen=True):
    """An answer for one copy of a call."""

    sink: Any
    frame: AnswerFrame


class Copy(msgspec.Struct, frozen=True):
    """Where the answer to one copy of a call goes."""

    sink: Any
    number: int
    have: list[int] | None
