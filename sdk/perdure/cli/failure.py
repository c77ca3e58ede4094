"""What ends a command: one line for a person, and an exit status."""

from __future__ import annotations

from typing import Final

__all__ = ["USAGE", "CommandFailed"]

USAGE: Final = 2
"""The exit status for what was typed wrongly."""


class CommandFailed(Exception):
    """The command cannot do what it was asked to. The text is all that is printed."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text, status)
        self.text = text
        self.status = status

    def __str__(self) -> str:
        return self.text
