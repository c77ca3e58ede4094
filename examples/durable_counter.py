"""A counter that is a workflow: it waits for what others send to it, for as long as it lives.

    python examples/durable_counter.py

The workflow is a loop over a hook. Whoever knows the token resumes it with a payload, which is
checked, kept, and given to the loop when it asks for it; what the loop replies is the answer. Kill
what you like: each step and each payload is in the run's journal, and the loop goes on where it
was. Run it twice: the second time, the run is there already.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel

from perdure import (
    continue_as_new,
    define_hook,
    get_workflow_metadata,
    resume_hook,
    start,
    step,
    workflow,
)


class CounterAction(BaseModel):
    type: Literal["increment", "decrement", "get"]
    amount: int = 1


counter_action = define_hook(schema=CounterAction)


@step
async def record_count(count: int) -> int:
    return count  # Recorded: in a replay the result comes from the journal.


@workflow
async def durable_counter_example(count: int = 0) -> None:
    run_id = get_workflow_metadata().workflow_run_id
    for _ in range(1_000):
        hook = counter_action.create(token=f"counter:{run_id}")  # The same token: the same hook.
        action = await hook
        if action.type == "increment":
            count = await record_count(count + action.amount)
        elif action.type == "decrement":
            count = await record_count(count - action.amount)
        await hook.reply({"count": count})
    # A short journal is replayed quickly. Token and waiting payloads stay.
    continue_as_new(count)


async def main() -> None:
    run = await start(durable_counter_example, id="example-counter")
    token = f"counter:{run.id}"
    before = await resume_hook(token, {"type": "get"})
    await resume_hook(token, {"type": "increment", "amount": 5})
    after = await resume_hook(token, {"type": "decrement"})
    print(f"{before['count']} + 5 - 1 = {after['count']}")
    status = await run.status()
    print(f"run {status.id} is {status.status} and waits for {', '.join(status.hooks)}")


if __name__ == "__main__":
    asyncio.run(main())
