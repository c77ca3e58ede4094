"""What a run tells of itself: its events with their times, also when it is over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness.world import Embedded

from perdure import (
    continue_as_new,
    define_hook,
    get_run,
    resume_hook,
    sleep,
    start,
    step,
    workflow,
)
from perdure.codec import decode
from perdure.workflows.events import RunEvent

told = define_hook()


@step
async def told_double(number: int) -> int:
    return 2 * number


@workflow
async def told_flow(number: int) -> int:
    doubled = await told_double(number)
    hook = told.create(token="told")
    await hook
    await hook.reply(doubled)
    await sleep(0.4)
    return doubled


@workflow
async def told_again(count: int) -> int:
    for number in range(300):
        await told_double(number)
    if count:
        continue_as_new(count - 1)
    return count


async def all_events(id: str) -> list[RunEvent]:
    events: list[RunEvent] = []
    while page := await get_run(id).events(len(events)):
        assert len(page) <= 500
        events += page
    return events


def test_the_events_of_a_run_stay_with_their_times_when_it_is_over(tmp_path: Path) -> None:
    async def play() -> tuple[float, float, list[RunEvent], Any]:
        before = time.time_ns() // 1_000_000
        run = await start(told_flow, 4, id="told")
        assert await resume_hook("told", {"a": 1}, wait=10) == 8
        assert await run.result() == 8
        after = time.time_ns() // 1_000_000
        return before, after, await all_events("told"), await run.status()

    world = Embedded(tmp_path / "data")
    before, after, events, status = world.run(play)

    kinds = [event.kind for event in events]
    assert kinds == [
        "step_scheduled", "step_completed", "hook_created", "hook_claiming", "step_completed",
        "hook_received", "hook_replied", "sleep_started", "step_completed", "ended",
    ]  # fmt: skip
    assert [event.place for event in events] == list(range(len(events)))
    times = [event.time_ms for event in events]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= after
    assert times[8] - times[7] >= 400
    assert decode(events[0].packed) == [[4], {}]
    assert decode(events[1].packed) == 8
    assert decode(events[5].packed) == {"a": 1}
    assert (events[6].detail, decode(events[6].packed)) == (1, 8)
    # Not the time of some record before: it has slept.
    assert status.ended_ms - times[7] >= 400

    async def later() -> list[RunEvent]:
        return await all_events("told")

    assert world.run(later) == events


def test_a_long_history_comes_in_pages_and_begins_where_the_run_began_anew(tmp_path: Path) -> None:
    async def play() -> list[RunEvent]:
        assert await (await start(told_again, 1, id="again")).result() == 0
        return await all_events("again")

    events = Embedded(tmp_path / "data").run(play)

    assert [event.place for event in events] == list(range(602))
    assert events[0].kind == "checkpoint"
    assert events[0].detail == {"generation": 1, "dropped": 600, "hooks": [], "payloads": []}
    assert events[-1].kind == "ended"
