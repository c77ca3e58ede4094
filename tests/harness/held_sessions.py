"""The durable session of the documentation, with a model that is asked over HTTP."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from perdure import (
    Agent,
    StreamReset,
    define_hook,
    get_run,
    get_workflow_metadata,
    get_writable,
    workflow,
)


class HeldMessage(BaseModel):
    role: Literal["user"] = "user"
    content: str


message_hook = define_hook(schema=HeldMessage)

MODEL: list[Any] = ["gpt-4o"]
"""Tests without a server put another one here."""


@workflow
async def held_session() -> None:
    writable = get_writable()
    run_id = get_workflow_metadata().workflow_run_id
    messages: list[Any] = []
    agent = Agent(name="assistant", model=MODEL[0], instructions="You are a helpful assistant.")
    while True:
        hook = message_hook.create(token=f"session:{run_id}")
        user_message = await hook
        messages.append(user_message)
        reply = await agent.stream(messages=messages, writable=writable)
        messages.append(reply)


class Reader:
    """Reads a session's stream, and goes on where it has left off."""

    def __init__(self, run_id: str) -> None:
        self.resets = 0
        self._run_id = run_id
        self._next_index = 0
        self._chunks: list[tuple[int, str]] = []

    async def until(self, text: str) -> str:
        """Read until the session says something; return all it says, without what is void."""
        reading = get_run(self._run_id).readable(start_index=self._next_index)
        async for chunk in reading:
            self._next_index = reading.next_index
            if isinstance(chunk, StreamReset):
                self.resets += 1
                self._chunks = [(at, had) for at, had in self._chunks if at < chunk.index]
            else:
                self._chunks.append((reading.next_index - 1, chunk))
            said = "".join(had for _, had in self._chunks)
            if text in said:
                return said
        raise AssertionError(f"the stream has ended: {self._chunks}")
