"""Conversations with a model that is asked over HTTP: objects, as a program would have them."""

from __future__ import annotations

import os
from pathlib import Path

from perdure import Agent, DurableObject, durable, tool


@tool
def roll(sides: int) -> str:
    """Roll a die, and note it where it outlives every process."""
    with Path(os.environ["CONVERSATIONS_ROLLED"]).open("a") as rolled:
        rolled.write(f"{sides}\n")
    return f"{sides} of {sides}"


class Pages:
    """Shows chunks of answers, in a file for each conversation."""

    def __init__(self, conversation: str) -> None:
        self._file = Path(os.environ["CONVERSATIONS_PAGES"]) / conversation

    async def write(self, chunk: str) -> None:
        with self._file.open("a") as file:
            file.write(chunk)


assistant = Agent(
    name="assistant", model="gpt-4o", temperature=0.2, instructions="Be brief.", tools=[roll]
)


@durable.object
class HeldConversation(DurableObject):
    def __init__(self, conversation_id: str) -> None:
        super().__init__(conversation_id)
        self.messages: list[dict[str, str]] = []

    async def say(self, text: str) -> str:
        self.messages.append({"role": "user", "content": text})
        pages = Pages(self.object_id)
        reply = await assistant.stream(messages=self.messages, writable=pages)
        self.messages.append(reply)
        return reply["content"].rstrip()

    async def ask_aside(self, text: str) -> str:
        return await assistant.run(text)
