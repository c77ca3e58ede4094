"""More workflows, and what clients do with them: steps, sleeps, streams, runs of runs."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from harness.flows import (
    FLOWS,
    FlowTally,
    anything,
    flow,
    flow_counter,
    fresh,
    raises,
    record_count,
)

import perdure
from perdure import (
    CallCancelled,
    FatalError,
    RetryableError,
    RunExists,
    RunFailed,
    StreamReset,
    continue_as_new,
    ctx,
    durable,
    get_run,
    get_step_metadata,
    get_workflow_metadata,
    get_writable,
    patched,
    resume_hook,
    sleep,
    start,
    step,
    workflow,
)

__all__ = ["FLOWS"]

# Steps.


@durable.error
class FlowOutOfStock(Exception):
    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.item = item
        self.left = left


@step(retries=4, backoff=0.01)
async def third_time(tally: str) -> list[Any]:
    metadata = get_step_metadata()
    handle = await FlowTally.get_or_create(tally)
    await durable.call(handle.note, metadata.step_id)
    if metadata.attempt < 3:
        raise FlowOutOfStock("pears", metadata.attempt)
    return [metadata.attempt, metadata.step_name]


@step(backoff=0.001)
async def never(kind: str) -> None:
    if kind == "fatal":
        raise FatalError("no use")
    if kind == "slow":
        raise RetryableError("later", retry_after=dt.timedelta(milliseconds=1))
    raise FlowOutOfStock(kind, get_step_metadata().attempt)


@step(timeout=0.05, retries=1, backoff=0)
async def too_slow() -> None:
    if get_step_metadata().attempt == 1:
        await asyncio.sleep(60)


@workflow
async def flow_retries(tally: str) -> list[Any]:
    got: list[Any] = list(await third_time(tally))
    for kind in ("apples", "fatal", "slow"):
        try:
            await never(kind)
        except FlowOutOfStock as error:
            got.append([error.item, error.left])
        except (FatalError, RetryableError) as error:
            got.append(str(error))
    await too_slow()
    return got


@flow
async def steps_are_tried_again_and_keep_their_errors() -> None:
    tally = fresh("tally")
    run = await start(flow_retries, tally)
    assert await run.result() == [3, "third_time", ["apples", 4], "no use", "later"]
    handle = await FlowTally.get_or_create(tally)
    assert len(handle.done) == 1, "one step id for all attempts"


@step
async def note_in(tally: str, what: str) -> str:
    handle = await FlowTally.get_or_create(tally)
    # A node may die behind the call, and before the step is known to be done.
    once = durable.options(handle, key=get_step_metadata().step_id)
    await durable.call(once.note, what)
    return what


@workflow
async def flow_forgets(tally: str) -> str:
    for what in "abc":
        note_in(tally, what)
    return "returned"


@flow
async def a_step_that_nobody_awaits_still_runs() -> None:
    tally = fresh("forgotten")
    assert await (await start(flow_forgets, tally)).result() == "returned"
    handle = await FlowTally.get_or_create(tally)
    assert handle.done == dict.fromkeys("abc", 1)


@workflow
async def flow_together(tally: str) -> list[Any]:
    gathered = await asyncio.gather(*(note_in(tally, f"g{n}") for n in range(4)))
    tasks = [asyncio.create_task(_noted(tally, f"r{n}")) for n in range(3)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    winner = min(tasks.index(task) for task in done)
    async with asyncio.TaskGroup() as group:
        grouped = [group.create_task(_noted(tally, f"t{n}")) for n in range(3)]
    handle = await FlowTally.get_or_create(tally)
    counted = await durable.call(handle.note, f"winner {winner}")
    return [gathered, [task.result() for task in grouped], counted, winner]


async def _noted(tally: str, what: str) -> str:
    return await note_in(tally, what)


@flow
async def steps_side_by_side_have_one_winner() -> None:
    tally = fresh("together")
    gathered, grouped, counted, winner = await (await start(flow_together, tally)).result()
    assert gathered == ["g0", "g1", "g2", "g3"]
    assert grouped == ["t0", "t1", "t2"]
    assert counted == 1
    handle = await FlowTally.get_or_create(tally)
    await durable.refresh(handle)
    assert [what for what in handle.done if what.startswith("winner")] == [f"winner {winner}"]


@workflow
async def flow_sleeps() -> list[float]:
    before = ctx.now()
    await sleep(0.05)
    between = ctx.now()
    await sleep(between + dt.timedelta(milliseconds=50))
    return [(between - before).total_seconds(), (ctx.now() - between).total_seconds()]


@flow
async def sleeps_are_as_long_as_they_say() -> None:
    slept = await (await start(flow_sleeps)).result()
    assert all(seconds >= 0.05 for seconds in slept), slept


@workflow
async def flow_values() -> list[Any]:
    first = [ctx.now(), ctx.random(), ctx.uuid()]
    await record_count(1)
    second = [ctx.now(), ctx.random(), ctx.uuid()]
    await record_count(2)
    return [first, second]


@flow
async def time_and_chance_are_decided_once() -> None:
    run = await start(flow_values)
    first, second = await run.result()
    assert first[1:] != second[1:]
    assert first[0] <= second[0]


@workflow
async def flow_cleans_up(tally: str) -> None:
    hook = anything.create(token=f"cleans:{tally}")
    try:
        await hook
    finally:
        await note_in(tally, "cleaned up")


@flow
async def a_cancelled_run_cleans_up_once() -> None:
    tally = fresh("cleaning")
    run = await start(flow_cleans_up, tally)
    # Whether it was running: a node may die before it can say so, and the next one says no.
    await run.cancel("enough")
    await raises(CallCancelled, run.result())
    assert (await run.status()).status == "cancelled"
    handle = await FlowTally.get_or_create(tally)
    assert handle.done == {"cleaned up": 1}
    assert await run.cancel() is False


# Streams.


@step(backoff=0.001)
async def stream_some(words: list[str]) -> int:
    writable = get_writable()
    for word in words:
        await writable.write([get_step_metadata().attempt, word])
    if get_step_metadata().attempt == 1:
        raise ConnectionError("in the middle")
    return len(words)


@workflow
async def flow_streams() -> int:
    writable = get_writable()
    await writable.write("begin")
    count = await stream_some(["one", "two", "three"])
    await writable.write("end")
    await get_writable("other").write(count)
    return count


async def read(run: perdure.Run[Any], name: str | None = None, start_index: int = 0) -> list[Any]:
    """Read a stream to its end, as a program does that takes back what is void."""
    got: list[tuple[int, Any]] = []
    reading = run.readable(name, start_index=start_index)
    async for chunk in reading:
        if isinstance(chunk, StreamReset):
            got = [(index, had) for index, had in got if index < chunk.index]
        else:
            got.append((reading.next_index - 1, chunk))
    assert [index for index, _ in got] == sorted({index for index, _ in got})
    return [chunk for _, chunk in got]


@flow
async def a_stream_is_read_from_anywhere() -> None:
    run = await start(flow_streams)
    chunks = await read(run)
    assert chunks[0] == "begin"
    assert chunks[-1] == "end"
    assert [word for _, word in chunks[1:-1]] == ["one", "two", "three"]
    assert len({attempt for attempt, _ in chunks[1:-1]}) == 1, "of one attempt"
    assert await read(run, "other") == [3]
    assert await read(run, start_index=-1) == ["end"]
    tail = await run.tail_index()
    assert await read(run, start_index=tail) == ["end"]
    assert await read(run, start_index=tail + 1) == []
    assert await run.result() == 3


# Runs that go on and on.


@workflow
async def flow_continues(count: int = 0) -> int:
    run_id = get_workflow_metadata().workflow_run_id
    hook = anything.create(token=f"continues:{run_id}")
    for _ in range(3):
        payload = await hook
        if payload == "stop":
            return count
        count += payload
        await hook.reply(count)
    return continue_as_new(count)


@flow
async def a_run_goes_on_as_new_with_what_has_come() -> None:
    run = await start(flow_continues)
    token = f"continues:{run.id}"
    assert [await resume_hook(token, 1) for _ in range(7)] == [1, 2, 3, 4, 5, 6, 7]
    await asyncio.gather(*(resume_hook(token, 10, reply=False) for _ in range(5)))
    await resume_hook(token, "stop", reply=False)
    assert await run.result() == 57
    assert (await run.status()).status == "completed"


@workflow
async def flow_patched() -> list[bool]:
    first = patched("new-way")
    await record_count(1)
    return [first, patched("new-way"), patched("newer-way")]


@flow
async def a_new_run_takes_the_new_ways() -> None:
    assert await (await start(flow_patched)).result() == [True, True, True]


# Starting, asking, being a part of another.


@workflow(version="7")
async def flow_adds(one: int, other: int = 1) -> int:
    return one + other


@flow
async def an_id_is_one_run() -> None:
    id = fresh("once")
    run = await start(flow_adds, 1, id=id)
    assert await run.result() == 2
    again = await start(flow_adds, 1, id=id)
    assert again == run
    assert await again.result() == 2
    await raises(RunExists, start(flow_adds, 1, id=id, if_exists="raise"))
    await raises(RunExists, start(flow_adds, 2, id=id))
    await raises(RunExists, start(flow_counter, id=id))
    status = await get_run(id).status()
    assert (status.workflow, status.version, status.status) == ("flow_adds", "7", "completed")
    found = [status.id async for status in perdure.list_runs(workflow="flow_adds", prefix=id)]
    assert found == [id]
    assert [s async for s in perdure.list_runs(status="running", prefix=id)] == []


@workflow
async def flow_parent(tally: str) -> list[Any]:
    handle = await FlowTally.get_or_create(tally)
    counts = [await durable.call(handle.note, "parent")]
    counts += await asyncio.gather(*(flow_adds(n, n) for n in range(3)))
    return counts


@flow
async def a_run_calls_objects_and_other_runs() -> None:
    tally = fresh("family")
    assert await flow_parent(tally) == [1, 0, 2, 4]
    handle = await FlowTally.get_or_create(tally)
    assert handle.done == {"parent": 1}


@workflow
async def flow_fails(kind: str) -> None:
    if kind == "inside":
        await never("apples")
    raise FlowOutOfStock(kind, 0)


@flow
async def a_failed_run_says_why() -> None:
    for kind, left in (("at once", 0), ("inside", 4)):
        run = await start(flow_fails, kind)
        error = await raises(RunFailed, run.result())
        cause = error.__cause__
        assert isinstance(cause, FlowOutOfStock)
        assert cause.left == left
        await raises(FlowOutOfStock, flow_fails(kind))
        assert (await run.status()).status == "failed"
