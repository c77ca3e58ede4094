"""A run hears the result of a step before that is recorded: its journal has it nevertheless."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from harness.world import Embedded

from perdure import ctx, define_hook, get_run, resume_hook, start, step, workflow

asked = define_hook()
performed: list[str] = []


@step
async def heard_step(name: str) -> str:
    performed.append(name)
    return name


@workflow
async def heard_and_silent() -> None:
    """After the result it waits for what it has asked for before."""
    hook = asked.create(token="silent")
    await hook.claimed()
    name = await heard_step("silent")
    while True:
        await hook
        await hook.reply(name)


@workflow
async def heard_and_over() -> str:
    return await heard_step("over")


@workflow
async def heard_beside() -> None:
    """Two tasks decide values behind the results of their steps."""

    async def decided(name: str) -> list[Any]:
        first = str(ctx.uuid())
        heard = await heard_step(name)
        return [first, heard, str(ctx.uuid())]

    found = await asyncio.gather(decided("left"), decided("right"))
    hook = asked.create(token="beside")
    while True:
        await hook
        await hook.reply([*found, str(ctx.uuid())])


async def kinds_of(id: str) -> list[str]:
    return [event.kind for event in await get_run(id).events()]


def test_a_result_after_which_a_run_asks_for_nothing_is_in_its_journal(tmp_path: Path) -> None:
    async def begin() -> None:
        await start(heard_and_silent, id="silent")
        while "step_completed" not in await kinds_of("silent"):
            pass

    async def go_on() -> None:
        assert await resume_hook("silent") == "silent"

    performed.clear()
    world = Embedded(tmp_path / "data")
    world.run(begin)
    world.run(go_on)

    assert performed == ["silent"]


def test_the_result_with_which_a_run_ends_is_in_its_journal(tmp_path: Path) -> None:
    async def play() -> list[str]:
        run = await start(heard_and_over, id="over")
        assert await run.result() == "over"
        return await kinds_of("over")

    kinds = Embedded(tmp_path / "data").run(play)

    assert kinds[-2:] == ["step_completed", "ended"]


def test_what_tasks_decide_behind_their_results_is_the_same_in_a_replay(tmp_path: Path) -> None:
    async def begin() -> Any:
        await start(heard_beside, id="beside")
        return await resume_hook("beside", wait=10)

    async def go_on() -> Any:
        return await resume_hook("beside")

    performed.clear()
    world = Embedded(tmp_path / "data")
    first = world.run(begin)
    second = world.run(go_on)

    assert sorted(performed) == ["left", "right"]
    assert second[:2] == first[:2]
    assert second[2] != first[2]
