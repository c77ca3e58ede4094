"""Who holds a token: releases that come late, claims that meet, runs that have gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.flows import anything, flow_conflict, flow_takes
from harness.world import Served

from perdure import HookClosed, codec, get_run, resume_hook, start, step, workflow
from perdure.call import Call
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.runtime import current_client


@pytest.fixture
def world(tmp_path: Path) -> Served:
    return Served(tmp_path / "data")


def tell(token: str, method: str, *args: Any) -> Call[Any]:
    """Call a token as the partition of a run does."""
    future = current_client().call(
        ObjectKey("hook", token), Kind.CALL, method, arguments=codec.encode([list(args), {}])
    )
    return Call(method, future, lambda reply: codec.decode(reply.payload))


def test_a_release_that_comes_late_does_not_free_what_was_claimed_since(world: Served) -> None:
    async def program() -> list[Any]:
        await start(flow_takes, "T", 1, id="holder")
        for claim in ("0.0", "0.2", "1.1"):
            await tell("T", "release", "holder", claim)
        await tell("T", "release", "somebody", "0.1")
        conflict: list[Any] = await (await start(flow_conflict, "T", id="late")).result()
        return conflict

    assert world.run(program)[:2] == ["holder", "holder"]


def test_a_token_whose_release_never_came_is_had_from_a_run_that_has_ended(world: Served) -> None:
    async def program() -> list[Any]:
        first = await start(flow_takes, "T", 1, id="first")
        await resume_hook("T", 1, reply=False)
        await first.result()
        # As if that run's release were still on its way.
        assert await tell("T", "claim", "first", "0.1", b"") is None
        second = await start(flow_takes, "T", 1, id="second")
        await resume_hook("T", 2, reply=False)
        result: list[Any] = await second.result()
        return result

    assert world.run(program) == [2]


def test_a_token_is_not_had_from_a_run_that_holds_it_by_another_claim_than_that_one(
    world: Served,
) -> None:
    async def program() -> str | None:
        await start(flow_takes, "T", 1, id="holder")
        owner: str | None = await tell("T", "claim", "thief", "0.1", b"")
        return owner

    assert world.run(program) == "holder"


def test_a_hundred_runs_have_a_token_one_after_the_other_without_a_stale_conflict(
    world: Served,
) -> None:
    async def program() -> None:
        for turn in range(100):
            run = await start(flow_takes, "T", 1, id=f"run-{turn}")
            assert (await run.status()).hooks == ["T"]
            await resume_hook("T", turn, reply=False)
            assert await run.result() == [turn]

    world.run(program)


@workflow
async def token_twice(token: str) -> list[Any]:
    first = anything.create(token=token)
    got = [await first]
    first.dispose()
    second = anything.create(token=token)
    return [*got, await second]


def test_a_run_may_claim_again_what_it_has_disposed_of(world: Served) -> None:
    async def program() -> list[Any]:
        run = await start(token_twice, "T")
        await resume_hook("T", 1, reply=False)
        await resume_hook("T", 2, reply=False, wait=10)
        result: list[Any] = await run.result()
        return result

    assert world.run(program) == [1, 2]


GATE: dict[str, asyncio.Event] = {}


@step
async def held() -> None:
    await GATE["held"].wait()


@workflow
async def token_closes_on_what_has_come(token: str) -> str:
    hook = anything.create(token=token)
    await hook
    await held()
    hook.dispose()
    return "disposed"


def test_what_has_come_before_a_hook_is_disposed_of_is_refused_and_listed(world: Served) -> None:
    async def program() -> list[Any]:
        GATE["held"] = asyncio.Event()
        run = await start(token_closes_on_what_has_come, "T", id="closes")
        await resume_hook("T", "taken", reply=False)
        await resume_hook("T", "kept", reply=False)
        waiting = asyncio.create_task(resume_hook("T", "waits"))
        while len([e for e in await run.events() if e.kind == "hook_received"]) < 3:
            await asyncio.sleep(0)
        GATE["held"].set()
        with pytest.raises(HookClosed, match="disposed"):
            await waiting
        assert await run.result() == "disposed"
        return (await get_run("closes").status()).left

    left = world.run(program)
    assert [codec.decode(payload) for _, payload in left] == ["kept", "waits"]


def test_a_client_that_remembers_the_last_holder_finds_the_next_one(world: Served) -> None:
    async def program() -> None:
        for id in ("one", "other"):
            run = await start(flow_takes, "T", 2, id=id)
            for payload in (1, 2):  # The first of the second run goes to the first, and back.
                await resume_hook("T", payload, reply=False)
            assert await run.result() == [1, 2]

    world.run(program)


def test_a_copy_of_a_resume_is_the_same_resume(world: Served) -> None:
    async def program() -> None:
        run = await start(flow_takes, "T", 2, id="copies")
        client = current_client()
        await asyncio.gather(*(resume_hook("T", n, reply=False) for n in (1,)))
        # The connection is lost, and what has no answer yet is sent again.
        pending = resume_hook("T", 2, timeout=30)
        task = asyncio.ensure_future(pending)
        await asyncio.sleep(0)
        client.lost("by the test")
        assert client.welcome is not None
        client.welcomed(client.welcome)
        await task
        assert await run.result() == [1, 2]
        assert (await run.status()).left == []

    world.run(program)
