"""Which run holds a token: one small object for each, in the partition of its hash."""

from __future__ import annotations

import dataclasses
from typing import Final

from perdure.call import Call
from perdure.codec import decode, encode
from perdure.frames import Kind, Reply
from perdure.ids import ObjectKey
from perdure.objects import DurableObject, add_type, type_of
from perdure.registration import register_type
from perdure.remote import current_caller
from perdure.workflows.definitions import WORKFLOW

__all__ = ["HOOK_TYPE", "HookToken"]

HOOK_TYPE: Final = "hook"

_ATTEMPTS: Final = 100


class HookToken(DurableObject):
    """A token. Of a hook it knows only who holds it; what comes for it is the run's own."""

    def __init__(self, token: str) -> None:
        """Make a token that nobody holds."""
        super().__init__(token)
        self.run = ""
        """The run that holds it, or has held it last."""
        self.number = ""
        """Of that run's claim."""
        self.schema = b""
        """What its payloads are, as JSON schema."""
        self.closed = True

    async def claim(self, run: str, number: str, schema: bytes) -> str | None:
        """Let a run hold the token. Returns the run that holds it already."""
        if not self.closed and self.run != run and await self._holder_lives():
            return self.run
        self.run, self.number, self.schema, self.closed = run, number, schema, False
        return None

    async def release(self, run: str, number: str) -> None:
        """Let the token go, unless it was claimed again since."""
        if (self.run, self.number) == (run, number):
            self.closed = True

    async def _holder_lives(self) -> bool:
        # Its release may be on its way.
        arguments = encode([self.object_id, self.number])
        asked = current_caller().call(
            ObjectKey(WORKFLOW, self.run), Kind.ASK, "holds", arguments=arguments, timeout_s=None
        )
        return await Call(f"hook[{self.object_id}]", asked, _bool)


def _bool(reply: Reply) -> bool:
    return bool(decode(reply.payload))


class WorkflowRun(DurableObject):
    """A run, for those who look at objects. What runs is the function of its workflow."""


register_type(HookToken, HOOK_TYPE, "always", 1 << 20, _ATTEMPTS)
add_type(dataclasses.replace(type_of(HookToken), made_by_calls=True))
register_type(WorkflowRun, WORKFLOW, "always", 1 << 24)
