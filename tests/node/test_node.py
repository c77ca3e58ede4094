"""A node over its real journal and stores: recovery, saved calls, undo, epochs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from harness.bells import until
from harness.loop import on_loop
from harness.nodes import result_of, running, settings
from harness.tally import GATES, RUNS, Tally, raw_frame, send_frames, send_raw, settled

from perdure.bodies import unpack_error, unpack_reply
from perdure.errors import (
    BadPayload,
    Code,
    ObjectNotFound,
    StateNotStorable,
)
from perdure.frames import CallFrame
from perdure.ids import ObjectKey, new_session_id, partition_of
from perdure_node.catalog import Types


@on_loop
async def test_what_was_answered_is_there_after_a_crash(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Tally")
        assert await caller.call("Tally", "add", 5) == 5

    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.state("Tally") == {"n": 5, "log": []}


@on_loop
async def test_an_exception_undoes_its_own_call_and_nothing_that_was_answered(
    tmp_path: Path,
) -> None:
    lagging = settings(tmp_path, apply_interval_s=3_600, apply_bytes=1 << 40)
    async with running(lagging) as (_, caller):
        await caller.create("Tally")
        for _ in range(10):
            await caller.call("Tally", "add")
        with pytest.raises(ValueError, match="on purpose"):
            await caller.call("Tally", "fail")

        assert await caller.state("Tally") == {"n": 10, "log": []}
        assert await caller.call("Tally", "add") == 11


@on_loop
async def test_an_exception_after_save_keeps_what_was_saved(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Tally")
        with pytest.raises(ValueError, match="on purpose"):
            await caller.call("Tally", "save_then_fail")
        assert (await caller.state("Tally"))["n"] == 1

    async with running(settings(tmp_path)) as (_, caller):
        assert (await caller.state("Tally"))["n"] == 1


@on_loop
async def test_a_saved_call_is_finished_after_a_crash_without_its_caller(tmp_path: Path) -> None:
    GATES["go"] = asyncio.Event()
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Tally")
        call = caller.send("Tally", "save_and_wait", "go")
        while (await caller.state("Tally"))["n"] == 0:
            await settled()
        assert not call.done()

    GATES["go"] = asyncio.Event()
    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.state("Tally") == {"n": 1, "log": ["before"]}
        waiting = caller.send("Tally", "add", 100)
        GATES["go"].set()
        assert result_of(await waiting) == 111
        assert await caller.state("Tally") == {"n": 111, "log": ["before", "after"]}


@on_loop
async def test_a_copy_sent_after_a_crash_does_not_begin_a_saved_call_anew(tmp_path: Path) -> None:
    GATES["go"] = asyncio.Event()
    session = new_session_id(int(asyncio.get_running_loop().time()), bytes(10))
    async with running(settings(tmp_path), crash=True) as (node, caller):
        session = new_session_id(node._clock.wall_ms(), b"0123456789")
        await caller.create("Tally")
        send_raw(node, session, 1, "save_and_wait", ["go"])
        while (await caller.state("Tally"))["n"] == 0:
            await settled()

    GATES["go"] = asyncio.Event()
    async with running(settings(tmp_path)) as (node, caller):
        answers = send_raw(node, session, 1, "save_and_wait", ["go"])
        GATES["go"].set()
        while not answers:
            await asyncio.sleep(0)
        assert answers[0][1] == 0
        assert (await caller.state("Tally"))["n"] == 11


@on_loop
async def test_a_caller_who_counts_partitions_otherwise_is_refused(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        session = new_session_id(node._clock.wall_ms(), b"0123456789")
        key = ObjectKey("Tally", "x")
        wrong = (partition_of(key, 4) + 1) % 4

        answers = send_raw(node, session, 1, "add", [], partition=wrong)
        await settled()

        [answer] = answers
        error = BadPayload(*unpack_error(unpack_reply(answer[2]).payload))
        assert f"in partition {partition_of(key, 4)} of 4" in str(error)
        with pytest.raises(ObjectNotFound):
            await caller.call("Tally", "add")


@on_loop
async def test_a_call_that_is_none_costs_no_other_call_of_its_message(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("Tally")
        session = new_session_id(node._clock.wall_ms(), b"0123456789")
        place = partition_of(ObjectKey("Tally", "x"), 4)
        first, third, last = (
            raw_frame(number, session, sequence, "add", [])
            for number, sequence in ((1, 1), (3, 2), (5, 4))
        )
        broken = CallFrame(2, place, 30_000, b"no request")
        strayed = raw_frame(4, session, 3, "add", [], partition=(place + 1) % 4)

        answers = send_frames(node, [first, broken, third, strayed, last])

        await until(lambda: len(answers) == 5)
        codes = {number: code for number, code, _ in answers}
        malformed = Code.MALFORMED
        assert codes == {1: 0, 2: malformed, 3: 0, 4: malformed, 5: 0}
        assert await caller.call("Tally", "add") == 4


@on_loop
async def test_the_epoch_rises_at_each_opening(tmp_path: Path) -> None:
    epochs = []
    for _ in range(3):
        async with running(settings(tmp_path)) as (node, caller):
            answer = await caller.create("Tally")
            assert answer.reply.version is not None
            epochs.append((answer.reply.version[0], node.welcome().owned[0]))

    assert epochs == [(1, 1), (2, 2), (3, 3)]


@on_loop
async def test_what_cannot_be_stored_fails_the_call_and_names_the_place(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tally")

        with pytest.raises(StateNotStorable) as refused:
            await caller.call("Tally", "store_function")

        assert refused.value.path == "Tally[x].callback"
        assert await caller.state("Tally") == {"n": 0, "log": []}


@on_loop
async def test_a_failed_save_inside_a_method_leaves_the_change_to_be_committed(
    tmp_path: Path,
) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tally")

        assert "object" in await caller.call("Tally", "swallow_everything")

        assert (await caller.state("Tally"))["n"] == 1


@on_loop
async def test_a_shared_method_that_changes_state_fails_and_is_undone(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tally")

        with pytest.raises(StateNotStorable, match="shared"):
            await caller.call("Tally", "look_and_touch")

        assert await caller.call("Tally", "look") == 0


@on_loop
async def test_a_caller_who_gives_up_does_not_cancel_the_method(tmp_path: Path) -> None:
    GATES["late"] = asyncio.Event()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tally")
        RUNS.clear()
        timeout_s = 0.05
        while not RUNS:  # Not entered in time, where the machine is busy.
            with pytest.raises(TimeoutError):
                await caller.call("Tally", "wait_for", "late", timeout_s=timeout_s)
            timeout_s *= 2
        GATES["late"].set()

        assert await caller.call("Tally", "add") == 2


@on_loop
async def test_a_resumed_call_that_ends_where_it_began_is_stored_so(tmp_path: Path) -> None:
    GATES["work"] = asyncio.Event()
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Job")
        caller.send("Job", "work", "work")
        while (await caller.state("Job"))["busy"] == 0:
            await settled()

    GATES["work"] = asyncio.Event()
    GATES["work"].set()
    async with running(settings(tmp_path), crash=True) as (_, caller):
        while (await caller.state("Job"))["busy"] == 1:
            await settled()

    async with running(settings(tmp_path)) as (_, caller):
        assert (await caller.state("Job"))["busy"] == 0


@on_loop
async def test_what_on_activate_saves_at_creation_is_part_of_the_creation(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Job")

    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.state("Job") == {"busy": 0, "woken": 1, "plain": "yes"}


@on_loop
async def test_time_outs_and_task_groups_work_inside_of_methods(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Job")

        assert await caller.call("Job", "too_long") == "in time"
        assert await caller.call("Job", "in_a_group") == "by its failure"


@on_loop
async def test_a_method_that_waits_against_its_looks_goes_on_in_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GATES["odd"] = asyncio.Event()

    async def hidden(self: Tally, gate: str) -> None:
        self.n += 10
        await GATES[gate].wait()

    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tally")
        assert await caller.call("Tally", "waits_after_all", "odd") == 1
        # What the class says has changed since its source was read.
        monkeypatch.setattr(Tally, "hidden", hidden)
        call = caller.send("Tally", "waits_after_all", "odd")
        await settled()
        assert not call.done()
        GATES["odd"].set()
        assert result_of(await call) == 12


@on_loop
async def test_a_bug_of_the_node_costs_one_call_which_is_not_sent_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def divide_by_zero(*_: object) -> None:
        raise ZeroDivisionError

    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tally")
        with monkeypatch.context() as broken:
            broken.setattr(Types, "find", divide_by_zero)
            answer = await asyncio.wait_for(caller.send("Tally", "add"), 60)
        assert answer.code == Code.INTERNAL
        assert [record.exc_info is not None for record in caplog.records] == [True]
        assert await caller.call("Tally", "add") == 1
