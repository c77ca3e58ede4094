"""A session with a language model as a workflow: it waits for messages for as long as it takes.

    python examples/durable_session.py                                    # a model for tests
    MODEL=gpt-4o OPENAI_API_KEY=... python examples/durable_session.py    # a real one

It needs `pip install 'perdure[agents]'`.

The session is a loop over a hook that everybody may resume. Its answers go to the run's stream
while they are made, where any number of readers follow them, from wherever they have left off.
Kill what you like: the messages, the finished answers and the stream are in the run's journal,
and a request that was cut off is made again, after what it had written has been taken back.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Literal

from pydantic import BaseModel

from perdure import (
    Agent,
    StreamReset,
    define_hook,
    get_run,
    get_workflow_metadata,
    get_writable,
    resume_hook,
    start,
    workflow,
)


class Message(BaseModel):
    role: Literal["user"] = "user"
    content: str


message_hook = define_hook(schema=Message)


@workflow
async def durable_session() -> int:
    writable = get_writable()
    run_id = get_workflow_metadata().workflow_run_id
    messages: list[Any] = []
    agent = Agent(
        name="assistant",
        model=os.environ.get("MODEL", "test"),
        instructions="You are a helpful assistant.",
    )
    while True:
        hook = message_hook.create(token=f"session:{run_id}")
        user_message = await hook
        if user_message.content == "bye":
            return len(messages)
        messages.append(user_message)
        reply = await agent.stream(messages=messages, writable=writable)
        messages.append(reply)


async def main() -> None:
    run = await start(durable_session)
    for text in ("Hello!", "What can you do?", "bye"):
        # Validated, and durable when this returns.
        await resume_hook(f"session:{run.id}", {"content": text}, reply=False)
    # Anybody may read this, anywhere, now or later: it ends with the run.
    async for chunk in get_run(run.id).readable(start_index=0):
        print("(once more)" if isinstance(chunk, StreamReset) else chunk)
    print(f"{await run.result()} messages")


if __name__ == "__main__":
    asyncio.run(main())
