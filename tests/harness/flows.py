"""Workflows, and what clients do with them: each behaviour is one row of what is promised.

A behaviour has to come out the same in every form: in a program's own node, on three nodes,
with the code of all runs dropped whenever they wait, and while nodes are killed.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel

import perdure
from perdure import (
    BadPayload,
    DurableObject,
    HookClosed,
    HookConflict,
    HookNotFound,
    RunFailed,
    define_hook,
    durable,
    get_workflow_metadata,
    resume_hook,
    sleep,
    start,
    step,
    workflow,
)

Flow = Callable[[], Awaitable[None]]

FLOWS: list[Flow] = []


def flow(behaviour: Flow) -> Flow:
    FLOWS.append(behaviour)
    return behaviour


def fresh(name: str) -> str:
    return f"{name}-{uuid4().hex}"


async def raises(error: type[BaseException], awaitable: Awaitable[Any]) -> Any:
    try:
        got = await awaitable
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised, there came {got!r}")


# What they are about.


class FlowAction(BaseModel):
    type: Literal["increment", "decrement", "get"]
    amount: int = 1


flow_action = define_hook(schema=FlowAction)
anything = define_hook()


@step
async def record_count(count: int) -> int:
    return count


@workflow
async def flow_counter() -> None:
    count = 0
    run_id = get_workflow_metadata().workflow_run_id
    while True:
        hook = flow_action.create(token=f"counter:{run_id}")
        action = await hook
        if action.type == "increment":
            count = await record_count(count + action.amount)
        elif action.type == "decrement":
            count = await record_count(count - action.amount)
        await hook.reply({"count": count})


@durable.object
class FlowTally(DurableObject):
    """Counts what has really been done, by name."""

    def __init__(self, tally_id: str) -> None:
        super().__init__(tally_id)
        self.done: dict[str, int] = {}

    async def note(self, what: str) -> int:
        self.done[what] = self.done.get(what, 0) + 1
        return self.done[what]


@workflow
async def flow_takes(token: str, count: int) -> list[Any]:
    """Takes some payloads and returns them."""
    hook = anything.create(token=token)
    return [await hook for _ in range(count)]


@flow
async def a_counter_counts_and_answers() -> None:
    run = await start(flow_counter)
    token = f"counter:{run.id}"
    assert await resume_hook(token, {"type": "increment"}) == {"count": 1}
    assert await resume_hook(token, FlowAction(type="increment", amount=4)) == {"count": 5}
    assert await resume_hook(token, {"type": "decrement", "amount": 2}) == {"count": 3}
    assert await resume_hook(token, {"type": "get"}) == {"count": 3}


@workflow
async def flow_same_hook() -> bool:
    run_id = get_workflow_metadata().workflow_run_id
    one = anything.create(token=f"same:{run_id}")
    await one
    other = anything.create(token=f"same:{run_id}")
    return [await other, await one] == [2, 3]


@flow
async def the_same_token_again_is_the_same_hook() -> None:
    run = await start(flow_same_hook)
    for payload in (1, 2, 3):
        await resume_hook(f"same:{run.id}", payload, reply=False)
    assert await run.result() is True


@workflow
async def flow_conflict(token: str) -> Any:
    hook = anything.create(token=token)
    owner = await hook.get_conflict()
    try:
        await hook
    except HookConflict as error:
        return [owner, error.run, error.token == token]
    return "no conflict"


@flow
async def the_token_of_another_run_is_a_conflict() -> None:
    token = fresh("taken")
    first = await start(flow_takes, token, 1)
    second = await start(flow_conflict, token)
    assert await second.result() == [first.id, first.id, True]
    await resume_hook(token, "still the first one's", reply=False)
    assert await first.result() == ["still the first one's"]


@flow
async def a_token_is_free_when_its_run_has_ended() -> None:
    token = fresh("again")
    for turn in range(3):
        run = await start(flow_takes, token, 1)
        await resume_hook(token, turn, reply=False)
        assert await run.result() == [turn]


@flow
async def a_payload_is_checked_where_the_run_is() -> None:
    run = await start(flow_counter)
    token = f"counter:{run.id}"
    error = await raises(BadPayload, resume_hook(token, {"type": "explode", "amount": "many"}))
    assert "type" in str(error)
    assert "amount" in str(error)
    assert await resume_hook(token, {"type": "get"}) == {"count": 0}


@flow
async def payloads_that_come_early_wait_in_order() -> None:
    token = fresh("early")
    run = await start(flow_slow_taker, token)
    for payload in range(5):
        assert await resume_hook(token, payload, reply=False) is None
    await wake(run)
    assert await run.result() == [0, 1, 2, 3, 4]


async def wake(run: perdure.Run[Any]) -> None:
    """Let a run sleep no longer: it may not sleep yet."""
    while not await run.wake_up() and (await run.status()).status == "running":
        await asyncio.sleep(0.01)


@workflow
async def flow_slow_taker(token: str) -> list[Any]:
    hook = anything.create(token=token)
    await sleep(dt.timedelta(hours=1))
    return [await hook for _ in range(5)]


@flow
async def start_brings_a_payload_along() -> None:
    token = fresh("along")
    run = await start(flow_takes, token, 1, resume=(token, {"first": True}))
    assert await run.result() == [{"first": True}]


@flow
async def a_hook_that_is_not_there_can_be_waited_for() -> None:
    token = fresh("later")
    await raises(HookNotFound, resume_hook(token, 1))
    waiting = asyncio.create_task(resume_hook(token, 1, reply=False, wait=30))
    await asyncio.sleep(0)
    run = await start(flow_takes, token, 1)
    await waiting
    assert await run.result() == [1]


@flow
async def an_ended_run_takes_nothing() -> None:
    token = fresh("ended")
    run = await start(flow_takes, token, 1)
    await resume_hook(token, "last", reply=False)
    await run.result()
    await raises(HookClosed, resume_hook(token, "too late"))


@workflow
async def flow_disposes(token: str) -> list[Any]:
    hook = anything.create(token=token)
    got = [await hook]
    hook.dispose()
    more = anything.create(token=f"{token}/more")
    got.append(await more)
    return got


@flow
async def a_disposed_hook_takes_nothing_and_frees_its_token() -> None:
    token = fresh("disposed")
    run = await start(flow_disposes, token)
    await resume_hook(token, 1, reply=False)
    await resume_hook(f"{token}/more", None, reply=False, wait=30)
    await run.result()
    await raises(HookClosed, resume_hook(token, 2))
    other = await start(flow_takes, token, 1, id=fresh("other"))
    await resume_hook(token, 3, reply=False)
    assert await other.result() == [3]


@workflow
async def flow_race(token: str) -> list[Any]:
    hook = anything.create(token=token)
    waiting = asyncio.create_task(_next(hook))
    clock = asyncio.create_task(_nap(0.02))
    done, _ = await asyncio.wait((waiting, clock), return_when=asyncio.FIRST_COMPLETED)
    assert waiting not in done
    waiting.cancel()
    return [await hook, await hook]


async def _next(hook: Any) -> Any:
    return await hook


async def _nap(seconds: float) -> None:
    await sleep(seconds)


@flow
async def a_wait_that_has_lost_a_race_takes_nothing() -> None:
    token = fresh("race")
    run = await start(flow_race, token)
    while True:  # The clock has won once the run has slept.
        events = await run.events()
        if any(e.kind == "step_completed" and e.step == 3 for e in events):
            break
    await resume_hook(token, "a", reply=False)
    await resume_hook(token, "b", reply=False)
    assert await run.result() == ["a", "b"]


@workflow
async def flow_leaves(token: str) -> str:
    hook = anything.create(token=token)
    first = await hook
    await sleep(3600)
    return str(first)


@flow
async def what_a_run_has_not_taken_is_listed_and_refused() -> None:
    token = fresh("left")
    run = await start(flow_leaves, token)
    answered = asyncio.create_task(resume_hook(token, 1))
    refused = asyncio.create_task(resume_hook(token, 2))
    while len([e for e in await run.events() if e.kind == "hook_received"]) < 2:
        await asyncio.sleep(0)
    await wake(run)
    await run.result()
    outcomes = await asyncio.gather(answered, refused, return_exceptions=True)
    assert sorted(type(o).__name__ for o in outcomes) == ["HookClosed", "NoneType"]
    status = await run.status()
    assert [entry[0] for entry in status.left] == [token]
    assert status.status == "completed"


@workflow
async def flow_unanswering(token: str) -> None:
    hook = anything.create(token=token)
    await hook
    await hook
    await hook.reply("to the second")
    await hook
    raise ValueError("gone wrong")


@flow
async def a_payload_without_a_reply_is_answered_none() -> None:
    token = fresh("silent")
    run = await start(flow_unanswering, token)
    first = asyncio.create_task(resume_hook(token, 1))
    while not [e for e in await run.events() if e.kind == "hook_received"]:
        await asyncio.sleep(0)
    assert await resume_hook(token, 2) == "to the second"
    assert await first is None
    assert "gone wrong" in str(await raises(RunFailed, _failing(run, token)))


async def _failing(run: perdure.Run[Any], token: str) -> Any:
    error = await raises(HookClosed, resume_hook(token, 3))
    assert "failed" in error.reason
    return await run.result()


@workflow
async def flow_iterates(token: str) -> list[Any]:
    hook = anything.create(token=token)
    got: list[Any] = []
    async for payload in hook:
        got.append(payload)
        if len(got) == 3:
            hook.dispose()
    both = anything.create(token=f"{token}/both")
    got += await asyncio.gather(_next(both), _next(both))
    return got


@flow
async def a_hook_is_iterated_and_awaited_side_by_side() -> None:
    token = fresh("iterated")
    run = await start(flow_iterates, token)
    for payload in (1, 2, 3):
        await resume_hook(token, payload, reply=False)
    for payload in (4, 5):
        await resume_hook(f"{token}/both", payload, reply=False, wait=30)
    assert await run.result() == [1, 2, 3, 4, 5]
