"""Workflows that many runs of are made of at once, while nodes die."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from perdure import (
    DurableObject,
    ctx,
    define_hook,
    durable,
    get_step_metadata,
    get_workflow_metadata,
    get_writable,
    sleep,
    step,
    workflow,
)

anything = define_hook()


@durable.object
class StormLedger(DurableObject):
    """Adds up what runs put in, which must come once each."""

    def __init__(self, ledger_id: str) -> None:
        super().__init__(ledger_id)
        self.put: list[str] = []

    async def add(self, what: str) -> int:
        self.put.append(what)
        return len(self.put)


@step
async def draw(run: str, place: int) -> list[Any]:
    """Give another result each time that it really runs."""
    return [run, place, random.getrandbits(64)]


@step(backoff=0.001)
async def fails_first(place: int) -> int:
    if get_step_metadata().attempt < 2:
        raise ConnectionError("once")
    return place


@workflow
async def storm_of_ten(ledgers: int) -> list[Any]:
    """Ten steps of all kinds; returns each result as it was first seen."""
    run = get_workflow_metadata().workflow_run_id
    seen: list[Any] = [await draw(run, 1), await draw(run, 2)]
    seen += await asyncio.gather(draw(run, 3), draw(run, 4))
    tasks = [asyncio.ensure_future(_drawn(run, place)) for place in (5, 6)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    seen.append(["winner", min(tasks.index(task) for task in done)])
    seen.append(await fails_first(7))
    await sleep(0.01)
    ledger = await StormLedger.get_or_create(f"l{hash_of(run) % ledgers}")
    seen.append(await durable.call(ledger.add, run))
    seen.append(await ctx.call("storm_witness", "charge", {"run": run}))
    hook = anything.create(token=f"check:{run}")
    if await hook == "show":
        await hook.reply(seen)
        await hook
    return seen


def hash_of(text: str) -> int:
    return sum(map(ord, text))


async def _drawn(run: str, place: int) -> list[Any]:
    return await draw(run, place)


@workflow
async def storm_claims(token: str) -> str | None:
    """Says which other run has the token, and keeps it for as long as it is asked to."""
    hook = anything.create(token=token)
    again = anything.create(token=token)
    owner = await hook.get_conflict()
    if owner is None:
        assert await again.get_conflict() is None, "the same run again is no conflict"
        assert await hook == "enough"
    return owner


@step(backoff=0.001, retries=5)
async def stream_words(count: int) -> int:
    writable = get_writable()
    attempt = get_step_metadata().attempt
    for number in range(count):
        await writable.write([attempt, number])
        await asyncio.sleep(0.002)
        if attempt < 3 and number == count // attempt - 1:
            raise ConnectionError("in the middle")
    return attempt


@workflow
async def storm_streams(parts: int, count: int) -> int:
    writable = get_writable()
    for part in range(parts):
        await writable.write(f"part {part}")
        await stream_words(count)
    await writable.write("end")
    return parts
