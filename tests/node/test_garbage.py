"""What calls leave behind in memory: nothing that only the cycle collector would find."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
from harness.loop import on_loop
from harness.nodes import running, settings

from perdure import DurableObject, ctx, durable

CALLS = 100


@durable.object
class Tidy(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.value = 0

    async def add(self) -> int:
        self.value += 1
        return self.value

    @durable.shared
    async def read(self) -> int:
        return self.value

    async def wait(self) -> None:
        await asyncio.sleep(0)
        self.value += 1

    async def step(self) -> int:
        return await ctx.run("one", lambda: 1)

    async def fail(self) -> None:
        raise ValueError("no")


@pytest.mark.parametrize("method", ["add", "read", "wait", "step", "fail"])
@on_loop
async def test_calls_that_have_ended_are_freed_without_the_collector(
    tmp_path: Path, method: str
) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tidy")
        await caller.send("Tidy", method)
        gc.collect()
        gc.disable()
        try:
            for _ in range(CALLS):
                await caller.send("Tidy", method)
            found = gc.collect()
        finally:
            gc.enable()
    assert found < CALLS, f"{found} objects were left in cycles by {CALLS} calls"
