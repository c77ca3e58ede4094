"""Runs that do not end when they should, and runs whose journal grows and grows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from harness.world import Served

from perdure import CallCancelled, define_hook, get_run, resume_hook, start, step, workflow
from perdure_node.core.limits import Limits

anything = define_hook()


@step
async def grace_note(text: str) -> str:
    return text


@workflow
async def will_not_end(id: str) -> None:
    hook = anything.create(token=f"first of {id}")
    try:
        await hook
    except asyncio.CancelledError:
        await grace_note("cleaning up")
        await anything.create(token=f"second of {id}")


@workflow
async def takes_for_ever() -> None:
    hook = anything.create(token="takes")
    while True:
        await hook.reply(await hook)


async def cancelled(id: str, reason: str) -> None:
    await start(will_not_end, id, id=id)
    assert await get_run(id).cancel(reason) is True
    while f"second of {id}" not in (await get_run(id).status()).hooks:
        await asyncio.sleep(0)


async def has_ended(id: str, reason: str) -> None:
    with pytest.raises(CallCancelled, match=reason):
        await get_run(id).result()
    status = await get_run(id).status()
    assert (status.status, status.hooks) == ("cancelled", [])
    steps = [e for e in await get_run(id).events() if e.kind == "step_scheduled"]
    assert [e.name for e in steps] == ["grace_note"], "it has cleaned up before"


def test_a_cancelled_run_that_does_not_end_is_ended_after_its_grace(tmp_path: Path) -> None:
    async def program() -> None:
        await start(will_not_end, "r", id="r")
        assert await get_run("r").cancel("at once") is True
        await has_ended("r", "at once")

    Served(tmp_path / "data", Limits(run_grace_ms=300)).run(program)


def test_its_grace_begins_anew_after_a_crash_and_ends_too(tmp_path: Path) -> None:
    Served(tmp_path / "data", Limits(run_grace_ms=3_600_000)).run(cancelled, "r", "long ago")
    Served(tmp_path / "data", Limits(run_grace_ms=1)).run(has_ended, "r", "long ago")


def test_a_journal_that_grows_too_long_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def program() -> None:
        await start(takes_for_ever, id="long")
        for number in range(20):
            assert await resume_hook("takes", number) == number

    Served(tmp_path / "data", Limits(run_events_warn=12)).run(program)
    [warning] = [r.getMessage() for r in caplog.records if "continue_as_new" in r.getMessage()]
    assert "long" in warning
    assert "12 events" in warning


def test_the_usual_warning_comes_at_ten_thousand_events() -> None:
    assert Limits().run_events_warn == 10_000
