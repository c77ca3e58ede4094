"""A conversation with a language model that outlives every process.

    python examples/agent.py                                     # offline, with a model for tests
    MODEL=gpt-4o OPENAI_API_KEY=... python examples/agent.py     # with a real one

It needs `pip install 'perdure[agents]'`. The model for tests talks nonsense, but it calls tools
and takes the same way as a real one.

Inside of a method each request to the model and each call of a tool is a step. After a crash in
the middle the method runs again, on the node that has the object next and without any client:
finished requests are answered from the journal, and only the one that was cut off is made again.
"""

from __future__ import annotations

import asyncio
import os

from perdure import Agent, DurableObject, durable, tool

MODEL = os.environ.get("MODEL", "test")


@durable.object
class Notebook(DurableObject):
    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.lines: list[str] = []

    async def write(self, line: str) -> int:
        self.lines.append(line)
        return len(self.lines)


@tool
def temperature(city: str) -> str:
    """Tell how warm it is in a city.

    Args:
        city: Its name, in English.
    """
    # Would ask somebody over HTTP. It runs at least once, and its result is recorded once.
    return f"{15 + len(city) % 10} degrees in {city}"


@tool(step=False)
async def note(line: str) -> str:
    """Write a line into the user's notebook."""
    # No step by itself: the call of the object is one, so the line is written exactly once.
    count = await durable.ref(Notebook, "u1").write(line)
    return f"line {count}"


assistant = Agent(
    name="assistant",
    model=MODEL,
    instructions="You are a helpful assistant. Be brief.",
    tools=[temperature, note],
)


@durable.object
class Conversation(DurableObject):
    def __init__(self, conversation_id: str) -> None:
        super().__init__(conversation_id)
        self.messages: list[dict[str, str]] = []

    async def say(self, text: str) -> str:
        self.messages.append({"role": "user", "content": text})
        reply = await assistant.stream(messages=self.messages)
        self.messages.append(reply)
        return reply["content"]


async def main() -> None:
    conversation = await Conversation.get_or_create("c1")
    await Notebook.get_or_create("u1")
    print(await conversation.say("How warm is it in Oslo? Write it down for me."))
    print(await conversation.say("Thank you!"))
    notebook = await Notebook.get_or_create("u1")
    print(f"{len(conversation.messages)} messages, {len(notebook.lines)} lines in the notebook")


if __name__ == "__main__":
    asyncio.run(main())
