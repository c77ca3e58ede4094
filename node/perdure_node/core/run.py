"""One run of a workflow that has not ended, as its partition knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from perdure_node.core.calls import Call
from perdure_node.core.copies import Copy
from perdure_node.core.run_journal import RunJournal
from perdure_node.core.run_rows import RunRow

__all__ = ["END", "Hear", "Run", "Wake"]

END: Final = ""
"""Whoever waits for nothing but the end follows this, the name of no stream."""


class Hear(NamedTuple):
    """Work for the shell: the journal of a run says something that its code has not heard."""

    call: Call


class Wake(NamedTuple):
    """Work for the shell: the sleeps of a run are over."""

    call: Call


class Run:
    """A run that has not ended."""

    def __init__(self, call: Call, row: RunRow) -> None:
        self.call = call
        self.row = row
        self.journal = RunJournal()
        """What its events say by now: whoever commits some says so."""
        self.taken = 0
        """Payloads that its code has got."""
        self.has_waited = False
        """It has come to its first wait in this process: its hooks are there."""
        self.starters: list[tuple[Copy, bytes]] = []
        """Who is told when it has, and what."""
        self.curious: list[Copy] = []
        """Who is told how it ends."""
        self.followers: dict[str, list[tuple[Copy, Callable[[], None]]]] = {}
        """Who waits for more of its streams, or for its `END`: called once there is more, or the
        run has ended; for its end also when it is parked."""
        self.resumes: dict[int, Call] = {}
        """Calls whose senders wait for a reply, by the place of their payload."""
        self._take_all()

    def begin_anew(self, places: dict[int, int]) -> None:
        """Forget the journal, which is a new one: payloads have other places there."""
        self.journal = RunJournal()
        self.taken = 0
        self.resumes = {places[p]: call for p, call in self.resumes.items() if p in places}
        self._take_all()

    def _take_all(self) -> None:
        progress = self.call.progress
        assert progress is not None
        self.journal.take(progress.events)
