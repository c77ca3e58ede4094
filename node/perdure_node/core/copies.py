"""Where answers go: each copy of a call has one of its own."""

from __future__ import annotations

from typing import Any, Final

from perdure.frames import AnswerFrame

__all__ = ["Answer", "Copy"]


class Answer:
    """An answer for one copy of a call."""

    __slots__ = ("frame", "sink")

    def __init__(self, sink: Any, frame: AnswerFrame) -> None:
        self.sink: Final = sink
        self.frame: Final = frame


class Copy:
    """Where the answer to one copy of a call goes."""

    __slots__ = ("have", "number", "sink")

    def __init__(self, sink: Any, number: int, have: list[int] | None) -> None:
        self.sink: Final = sink
        self.number: Final = number
        self.have: Final = have
