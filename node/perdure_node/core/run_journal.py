"""What the events of a run say of its hooks and steps, beside what its code is told of them.

Folded from the journal: event by event while the run is here, all at once after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import astuple

from perdure import codec
from perdure.bodies import unpack_reply
from perdure_node.core.events import (
    CALL,
    Answered,
    Cancelled,
    Checkpoint,
    Done,
    Event,
    Patched,
    Received,
    Retrying,
    Scheduled,
    Wrote,
)

__all__ = ["CLAIM", "DISPOSE", "HOOK", "REPLY", "HookRow", "RunJournal", "claim_name"]

HOOK = "hook"
"""The kind of step that creates a hook. Its name is the token, its data `[schema, claim]`."""
REPLY = "reply"
"""Answers a payload. Its name is the token, its data `[payload, encoding, reply]`: which payload,
counted from 1, and what it is answered, unless that is large."""
DISPOSE = "dispose"
"""Closes a hook. Its name is the token."""
CLAIM = "claim"
"""The method of a token that a run calls to hold it."""


class HookRow(NamedTuple):
    """A hook of a run."""

    token: str
    schema: str
    """The name of what its payloads are; empty: anything."""
    claim: str
    """Tells this claim to the token from earlier ones of the same run."""


def claim_name(token: str) -> str:
    """Return the name of the step that claims a token."""
    return f"hook[{token}].{CLAIM}"


class RunJournal:
    """What the events of one run say."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.hooks: dict[str, HookRow] = {}
        """Those that take payloads, by token."""
        self.disposed: set[str] = set()
        self.conflicts: dict[str, str] = {}
        """Tokens that other runs hold, and which runs."""
        self.received: list[Received] = []
        self.unanswered: dict[int, Received] = {}
        """Those whose senders wait for a reply, by their place, from 1."""
        self.attempts: dict[int, Retrying] = {}
        """Of each step that has failed and is tried again: the last one."""
        self.wrote: dict[tuple[int, str], Wrote] = {}
        """By step and stream: the last attempt that has written, until it is rewound."""
        self.generation = 0
        self.dropped = 0
        """Events before the last checkpoint."""
        self.cancelled: str | None = None
        """Why it is to end, if somebody wants that."""
        self.sleeping: set[int] = set()
        """Steps that sleep."""
        self.patched: set[str] = set()
        """Names of the ways that it takes."""
        self._claims: dict[int, str] = {}
        self.take(events)

    def take(self, events: Sequence[Event]) -> None:
        """Take over what has been added to the events."""
        for event in events:
            kind = type(event)
            if kind is Received:
                self._receive(event)  # type: ignore[arg-type]  # mypy does not know `kind is`
            elif kind is Done:
                self._done(event)  # type: ignore[arg-type]
            elif kind is Scheduled:
                self._scheduled(event)  # type: ignore[arg-type]
            elif isinstance(event, Answered):
                for place in event.payloads:
                    self.unanswered.pop(place, None)
            elif isinstance(event, Retrying):
                self.attempts[event.step] = event
            elif isinstance(event, Wrote):
                self.wrote.pop((event.step, event.stream), None)
                if event.first >= 0:
                    self.wrote[event.step, event.stream] = event
            elif isinstance(event, Patched):
                self.patched.add(event.name)
            elif isinstance(event, Cancelled):
                self.cancelled = event.reason
            elif isinstance(event, Checkpoint):
                self.generation, self.dropped = event.generation, event.dropped
                self.disposed = set(event.disposed)
                for row in event.hooks:
                    self.hooks[row[0]] = HookRow(*row)
                for row in event.received:
                    self._receive(Received(*row))

    def _receive(self, event: Received) -> None:
        self.received.append(event)
        if event.session:
            self.unanswered[len(self.received)] = event

    def _scheduled(self, event: Scheduled) -> None:
        kind = event.kind
        if kind == HOOK:
            if event.name not in self.hooks:
                self.hooks[event.name] = HookRow(event.name, *event.data)
                self.disposed.discard(event.name)
        elif kind == REPLY:
            self.unanswered.pop(event.data[0], None)
        elif kind == DISPOSE:
            self.hooks.pop(event.name, None)
            self.disposed.add(event.name)
        elif kind == CALL:
            if event.name.endswith(f"].{CLAIM}") and event.name.startswith("hook["):
                self._claims[event.step] = event.name[5 : -len(CLAIM) - 2]
        elif kind == "sleep":
            self.sleeping.add(event.step)

    def _done(self, event: Done) -> None:
        self.sleeping.discard(event.step)
        token = self._claims.pop(event.step, None)
        if token is not None and event.code == 0:
            owner = codec.decode(unpack_reply(event.payload).payload)
            if owner is not None:
                self.conflicts[token] = owner
                self.hooks.pop(token, None)

    def rows_of(self, places: Sequence[int]) -> list[list[Any]]:
        """Return the fields of the payloads at these places, from 1."""
        return [list(astuple(self.received[place - 1])) for place in places]

    def holds(self, token: str, claim: str) -> bool:
        """Tell whether a claim of this run to a token lives."""
        hook = self.hooks.get(token)
        return hook is not None and hook.claim == claim
