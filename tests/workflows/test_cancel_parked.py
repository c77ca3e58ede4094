"""A run that cannot go on is cancelled like any other: it ends, and as cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from harness.flows import flow_takes
from harness.world import Served

from perdure import CallCancelled, define_hook, get_run, resume_hook, start, step, workflow
from perdure.workflows import definitions
from perdure_node.core.limits import Limits

anything = define_hook()


@step
async def park_one() -> int:
    return 1


@step
async def park_other() -> int:
    return 2


async def waits_for_ever() -> None:
    await park_one()
    await anything.create(token="parks")


async def is_another() -> None:
    await park_other()
    await anything.create(token="parks")


async def never_cleans_up() -> None:
    await park_one()
    try:
        await anything.create(token="parks")
    finally:
        await anything.create(token="cleaning")


def deploy(code: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return workflow(name="parks_and_ends")(code)


async def parked() -> None:
    while (await get_run("p").status()).parked is None:
        await asyncio.sleep(0)


async def has_ended_as_cancelled(world: Served, reason: str) -> None:
    with pytest.raises(CallCancelled, match=reason):
        await get_run("p").result()
    status = await get_run("p").status()
    assert (status.status, status.parked) == ("cancelled", None)
    assert world.node is not None
    for host in world.node._hosts:
        assert not host.partition.journalled.parked_calls
    # Its token is free.
    await start(flow_takes, "parks", 1, id="next")
    await resume_hook("parks", 1, reply=False)
    assert await get_run("next").result() == [1]


async def begins() -> None:
    await start(deploy(waits_for_ever), id="p")
    while (await get_run("p").status()).hooks != ["parks"]:
        await asyncio.sleep(0)


def test_a_parked_run_that_is_cancelled_has_not_failed(tmp_path: Path) -> None:
    world = Served(tmp_path / "data")
    world.run(begins)
    deploy(is_another)

    async def program() -> None:
        await parked()
        waiting = asyncio.create_task(get_run("p").cancel("no use"))
        assert await waiting is True
        await has_ended_as_cancelled(world, "no use")
        assert await get_run("p").cancel() is False

    world.run(program)


def test_a_run_whose_workflow_is_gone_is_cancelled(tmp_path: Path) -> None:
    world = Served(tmp_path / "data")
    world.run(begins)
    del definitions._workflows["parks_and_ends"]

    async def program() -> None:
        await parked()
        assert await get_run("p").cancel("its code is gone") is True
        await has_ended_as_cancelled(world, "its code is gone")

    world.run(program)


def test_a_cancelled_run_that_cannot_clean_up_any_more_ends_after_its_grace(tmp_path: Path) -> None:
    settings = Limits(run_grace_ms=3_600_000)
    world = Served(tmp_path / "data", settings)

    async def cancelled() -> None:
        await start(deploy(never_cleans_up), id="p")
        assert await get_run("p").cancel("long ago") is True
        while "cleaning" not in (await get_run("p").status()).hooks:
            await asyncio.sleep(0)

    world.run(cancelled)
    deploy(is_another)

    async def still_parked() -> None:
        await parked()
        status = await get_run("p").status()
        assert (status.status, status.cancelling) == ("running", True)

    world.run(still_parked)
    later = Served(tmp_path / "data", Limits(run_grace_ms=1))
    later.run(has_ended_as_cancelled, later, "long ago")


def test_a_run_that_was_cancelled_before_it_was_parked_is_cancelled_again(tmp_path: Path) -> None:
    world = Served(tmp_path / "data", Limits(run_grace_ms=3_600_000))

    async def cancelled() -> None:
        await start(deploy(never_cleans_up), id="p")
        assert await get_run("p").cancel("first") is True

    world.run(cancelled)
    deploy(is_another)

    async def program() -> None:
        await parked()
        assert await get_run("p").cancel("second") is True
        await has_ended_as_cancelled(world, "second")

    world.run(program)
