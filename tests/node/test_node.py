"""A node over its real journal and stores: recovery, damage, limits, the output gate."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import result_of, running, settings

from perdure import DurableObject, durable
from perdure.errors import (
    BadPayload,
    Code,
    ConfigError,
    DataLoss,
    DiskFull,
    ObjectNotFound,
    StateNotStorable,
)
from perdure.frames import CallFrame, Kind, Request, pack_request, unpack_error, unpack_reply
from perdure.ids import ObjectKey, new_session_id, partition_of
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node

GATES: dict[str, asyncio.Event] = {}
"""What `Tally.wait_for` waits for, by name: made by the test."""

RUNS: list[str] = []
"""What methods were entered, in this process."""


@durable.object
class Tally(DurableObject):
    """Counts, waits, fails: whatever a test needs."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0
        self.log: list[str] = []

    async def add(self, amount: int = 1) -> int:
        self.n += amount
        return self.n

    async def fail(self) -> None:
        self.n += 1_000
        self.log.append("half")
        raise ValueError("on purpose")

    async def save_then_fail(self) -> None:
        self.n += 1
        await self.save()
        self.n += 1_000
        raise ValueError("on purpose")

    async def save_and_wait(self, gate: str) -> int:
        RUNS.append("save_and_wait")
        self.n += 1
        self.log.append("before")
        await self.save()
        await GATES[gate].wait()
        self.n += 10
        self.log.append("after")
        return self.n

    async def wait_for(self, gate: str) -> int:
        RUNS.append("wait_for")
        await GATES[gate].wait()
        self.n += 1
        return self.n

    async def tell(self, other: str) -> int:
        self.n += 1
        await self.save()
        handle = durable.ref(Tally, other)
        return await handle.add(1)

    async def store_function(self) -> None:
        self.n += 1
        self.callback = len

    async def swallow_everything(self) -> str:
        self.n += 1
        try:
            self.bad = object()
            await self.save()
        except StateNotStorable as error:
            del self.bad
            return str(error)
        return "stored"

    async def waits_after_all(self, gate: str) -> int:
        await self.hidden(gate)
        self.n += 1
        return self.n

    async def hidden(self, gate: str) -> None:
        await self.save()

    @durable.shared
    async def look(self) -> int:
        return self.n

    @durable.shared
    async def look_and_touch(self) -> int:
        self.n += 1
        return self.n


@durable.object
class Job(DurableObject):
    """Goes through states, and comes back to the first one."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.busy = 0
        self.woken = 0

    async def on_activate(self) -> None:
        self.woken += 1
        await self.save()
        self.plain = "yes"

    async def work(self, gate: str) -> int:
        self.busy = 1
        await self.save()
        await GATES[gate].wait()
        self.busy = 0
        return self.woken

    async def too_long(self) -> str:
        self.busy = 1
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "in time"
        return "never"

    async def in_a_group(self) -> str:
        async def fail() -> None:
            raise LookupError("on purpose")

        ended = "never"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.Event().wait()
        except* LookupError:
            ended = "by its failure"
        return ended


class HeldSync:
    """A disk whose syncs can be held back, and made to fail."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.error: OSError | None = None
        self.count = 0

    def __call__(self, descriptor: int) -> None:
        self.free.wait()
        self.count += 1
        if self.error is not None:
            raise self.error
        os.fdatasync(descriptor)


async def settled(ticks: int = 20) -> None:
    """Let the loop do everything that does not wait for the disk."""
    for _ in range(ticks):
        await asyncio.sleep(0)


@on_loop
async def test_what_was_answered_is_there_after_a_crash(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Tally")
        assert await caller.call("Tally", "add", 5) == 5

    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.state("Tally") == {"n": 5, "log": []}


@on_loop
async def test_a_store_that_lags_behind_never_shows_an_older_state(tmp_path: Path) -> None:
    limits = Limits(activations_max=1)
    lagging = settings(tmp_path, limits=limits, apply_interval_s=3_600, apply_bytes=1 << 40)
    async with running(lagging, crash=True) as (node, caller):
        for number in range(20):
            await caller.create("Tally", str(number))
        for _ in range(3):
            for number in range(20):
                await caller.call("Tally", "add", id=str(number))
        assert len(node._residents) <= 2
        assert [(await caller.state("Tally", str(n)))["n"] for n in range(20)] == [3] * 20

    async with running(settings(tmp_path)) as (_, caller):
        assert [(await caller.state("Tally", str(n)))["n"] for n in range(20)] == [3] * 20


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
        assert answers[0].code == 0
        assert (await caller.state("Tally"))["n"] == 11


@on_loop
async def test_no_answer_and_no_nested_call_leaves_before_the_disk_has_it(tmp_path: Path) -> None:
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal)) as (_, caller):
        await caller.create("Tally")
        await caller.create("Tally", "y")
        disk.free.clear()
        call = caller.send("Tally", "tell", "y")
        read = asyncio.ensure_future(caller.state("Tally"))
        beside = asyncio.ensure_future(caller.state("Tally", "y"))
        await settled()
        untouched = await beside

        assert untouched["n"] == 0, "the nested call has not left"
        assert not call.done()
        assert not read.done(), "a read of what is not durable waits too"
        disk.free.set()
        assert result_of(await call) == 1
        assert (await read)["n"] == 1


@on_loop
async def test_after_a_failed_sync_nothing_is_answered_any_more(tmp_path: Path) -> None:
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal), crash=True) as (node, caller):
        await caller.create("Tally")
        assert await caller.call("Tally", "add") == 1
        disk.error = OSError(errno.EIO, "a broken disk")
        with pytest.raises(DataLoss):
            await caller.call("Tally", "add")
        disk.error = None
        with pytest.raises(DataLoss):
            await caller.call("Tally", "add")
        assert isinstance(node.failed.result(), OSError)

    async with running(settings(tmp_path)) as (_, caller):
        assert (await caller.state("Tally"))["n"] in (1, 2)


@on_loop
async def test_a_full_disk_refuses_writes_lets_reads_go_on_and_heals_by_itself(
    tmp_path: Path,
) -> None:
    full = False

    def allocate(descriptor: int, size: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, "no space")
        os.posix_fallocate(descriptor, 0, size)

    journal = JournalSettings(segment_bytes=64 << 10, allocate=allocate, retry_s=0.05)
    async with running(settings(tmp_path, journal=journal)) as (_, caller):
        await caller.create("Tally")
        full = True
        done = 0
        refused: DiskFull | None = None
        while refused is None:
            try:
                done = await caller.call("Tally", "add")
            except DiskFull as error:
                refused = error
        assert await caller.call("Tally", "look") == done
        assert (await caller.state("Tally"))["n"] == done

        full = False
        while True:
            try:
                assert await caller.call("Tally", "add") == done + 1
                break
            except DiskFull:
                await asyncio.sleep(0.01)


@on_loop
async def test_a_missing_store_stops_its_partition_alone(tmp_path: Path) -> None:
    ids = [str(number) for number in range(12)]
    async with running(settings(tmp_path)) as (_, caller):
        for id in ids:
            await caller.create("Tally", id)
    lost = partition_of(ObjectKey("Tally", ids[0]), 4)
    shutil.rmtree(tmp_path / "partitions" / str(lost))

    async with running(settings(tmp_path)) as (node, caller):
        for id in ids:
            if partition_of(ObjectKey("Tally", id), 4) == lost:
                with pytest.raises(DataLoss, match=f"partition {lost} ") as found:
                    await caller.call("Tally", "add", id=id)
                assert str(tmp_path) not in str(found.value)
            else:
                assert await caller.call("Tally", "add", id=id) == 1
        description = await node.describe()
        states = {p.partition: p.state for p in description.nodes[0].partitions}
        assert states == {n: "damaged" if n == lost else "serving" for n in range(4)}


@on_loop
async def test_an_empty_directory_is_not_served_in_place_of_lost_data(tmp_path: Path) -> None:
    data = tmp_path / "n1"
    async with running(settings(data)) as (_, caller):
        await caller.create("Tally")
    shutil.rmtree(data)
    data.mkdir(mode=0o700)

    with pytest.raises(ConfigError):
        await Node(settings(data, new=False)).start()


@on_loop
async def test_a_lost_journal_is_noticed(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tally")
    shutil.rmtree(tmp_path / "journal")

    with pytest.raises(ConfigError, match="journal"):
        await Node(settings(tmp_path)).start()


@on_loop
async def test_a_caller_who_counts_partitions_otherwise_is_refused(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        session = new_session_id(node._clock.wall_ms(), b"0123456789")
        key = ObjectKey("Tally", "x")
        wrong = (partition_of(key, 4) + 1) % 4

        answers = send_raw(node, session, 1, "add", [], partition=wrong)
        await settled()

        [answer] = answers
        error = BadPayload(*unpack_error(unpack_reply(answer.body).payload))
        assert f"in partition {partition_of(key, 4)} of 4" in str(error)
        with pytest.raises(ObjectNotFound):
            await caller.call("Tally", "add")


@on_loop
async def test_calls_stay_in_their_mailboxes_while_the_disk_lags(tmp_path: Path) -> None:
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    limits = Limits(undurable_bytes_max=2_000, mailbox_calls_max=50)
    async with running(settings(tmp_path, journal=journal, limits=limits)) as (node, caller):
        await caller.create("Tally")
        disk.free.clear()
        calls = []
        for _ in range(300):
            calls.append(caller.send("Tally", "add"))
            await asyncio.sleep(0)
        assert node._journal.undurable_bytes < 10_000
        assert sum(call.done() for call in calls) >= 200
        disk.free.set()
        answers = [await call for call in calls]

        ran = [result_of(answer) for answer in answers if answer.code == 0]
        assert ran == list(range(1, len(ran) + 1))
        assert {answer.code for answer in answers} == {Code.OK, Code.BACKPRESSURE}


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
        with pytest.raises(TimeoutError):
            await caller.call("Tally", "wait_for", "late", timeout_s=0.05)
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


def send_raw(
    node: Node,
    session: bytes,
    sequence: int,
    method: str,
    args: list[Any],
    *,
    partition: int | None = None,
) -> list[Any]:
    """Send one call as a client of its own; its answers appear in the list."""
    from perdure import codec

    key = ObjectKey("Tally", "x")
    answers: list[Any] = []

    class Sink:
        closed = False

        def send(self, frame: Any) -> None:
            answers.append(frame)

    request = Request(
        Kind.CALL, session, sequence, 0, [0], *key, method, 0, codec.encode([args, {}]), None,
        None, [],
    )  # fmt: skip
    place = partition_of(key, 4) if partition is None else partition
    node.receive([CallFrame(1, place, 30_000, pack_request(request))], Sink())
    return answers
