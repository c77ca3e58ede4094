"""More behaviours of workflows: claims that meet, all kinds of waits at once, what is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from harness.flow_steps import FLOWS
from harness.flows import FlowTally, anything, flow, flow_takes, fresh, raises, record_count

from perdure import (
    CallCancelled,
    HookConflict,
    durable,
    resume_hook,
    sleep,
    start,
    step,
    workflow,
)

__all__ = ["FLOWS"]


@workflow
async def flow_claims(token: str) -> list[Any]:
    """Claims, and says who has the token; keeps it, if it is its own, until it is told to end."""
    hook = anything.create(token=token)
    try:
        await hook.claimed()
    except HookConflict as error:
        assert error.run == await hook.get_conflict()
        return ["lost to", error.run]
    again = anything.create(token=token)
    await again.claimed()
    assert await again.get_conflict() is None, "the same run again is no conflict"
    return ["won", await again]


@flow
async def of_claims_that_meet_one_wins() -> None:
    token = fresh("fight")
    runs = await asyncio.gather(*(start(flow_claims, token) for _ in range(5)))
    results = [asyncio.create_task(run.result()) for run in runs]
    for number, next_one in enumerate(asyncio.as_completed(results), 1):
        await next_one
        if number == len(runs) - 1:
            await resume_hook(token, "enough", reply=False)
    outcomes = {run.id: await result for run, result in zip(runs, results, strict=True)}
    (winner,) = (id for id, outcome in outcomes.items() if outcome == ["won", "enough"])
    assert [o for o in outcomes.values() if o[0] == "lost to"] == [["lost to", winner]] * 4


@workflow
async def flow_all_at_once(tally: str) -> list[Any]:
    """Waits for a step, a sleep, an object, a hook and another run: all of them, then the first."""
    hook = anything.create(token=f"all:{tally}")
    handle = await FlowTally.get_or_create(tally)

    async def slept() -> str:
        await sleep(dt.timedelta(milliseconds=10))
        return "slept"

    gathered = await asyncio.gather(
        record_count(1), slept(), handle.note("gathered"), _taken(hook), flow_takes_none("x")
    )
    racing = [
        asyncio.create_task(_count(2)),
        asyncio.create_task(slept()),
        asyncio.create_task(_noted(handle)),
        asyncio.create_task(_taken(hook)),
    ]
    done, late = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
    first = min(racing.index(task) for task in done)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    counted = await durable.call(handle.note, f"winner {first}")
    return [gathered, first, counted, await hook]


async def _taken(hook: Any) -> Any:
    return await hook


async def _count(count: int) -> int:
    return await record_count(count)


async def _noted(handle: FlowTally) -> int:
    return await handle.note("raced")


@workflow
async def flow_takes_none(what: str) -> str:
    return what


@flow
async def all_kinds_of_waits_go_side_by_side() -> None:
    tally = fresh("all")
    run = await start(flow_all_at_once, tally)
    await resume_hook(f"all:{tally}", "gathered", reply=False, wait=30)
    # The hook cannot win: its next payload comes when the race is over.
    handle = await FlowTally.get_or_create(tally)
    while not any(what.startswith("winner") for what in handle.done):
        await durable.refresh(handle)
    await resume_hook(f"all:{tally}", "last", reply=False)
    gathered, first, counted, last = await run.result()
    assert gathered == [1, "slept", 1, "gathered", "x"]
    assert (counted, last) == (1, "last")
    await durable.refresh(handle)
    assert [what for what in handle.done if what.startswith("winner")] == [f"winner {first}"]
    assert handle.done["gathered"] == handle.done["raced"] == 1


@step
async def before_the_foreign_one(tally: str) -> None:
    handle = await FlowTally.get_or_create(tally)
    await durable.call(handle.note, "before")


@workflow
async def flow_foreign(tally: str) -> None:
    await before_the_foreign_one(tally)
    await asyncio.sleep(0.01)


@flow
async def what_a_replay_cannot_wait_for_is_refused() -> None:
    tally = fresh("foreign")
    run = await start(flow_foreign, tally)
    while (parked := (await run.status()).parked) is None:
        await asyncio.sleep(0)
    assert "perdure.sleep" in parked
    # Nobody waits for a run that does not go on by itself.
    # Whether it was running: a node may die before it can say so, and the next one says no.
    await run.cancel("it is no use")
    await raises(CallCancelled, run.result())
    handle = await FlowTally.get_or_create(tally)
    assert set(handle.done) == {"before"}


@flow
async def a_run_is_not_done_before_its_payload_has_come() -> None:
    """A result that is waited for comes with the end, also when nodes die meanwhile."""
    token = fresh("waits")
    run = await start(flow_takes, token, 2)
    waiting = asyncio.create_task(run.result())
    for payload in ("one", "two"):
        assert not waiting.done()
        await resume_hook(token, payload, reply=False)
    assert await waiting == ["one", "two"]
