"""A node whose disk is slow, full, broken or not there."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path

import pytest
from harness.loop import on_loop
from harness.nodes import result_of, running, settings
from harness.tally import HeldSync, settled

from perdure.errors import (
    Code,
    ConfigError,
    DataLoss,
    DeadlineExceeded,
    DiskFull,
)
from perdure.ids import ObjectKey, partition_of
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node


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
async def test_no_answer_and_no_nested_call_leaves_before_the_disk_has_it(tmp_path: Path) -> None:
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal)) as (_, caller):
        await caller.create("Tally")
        await caller.create("Tally", "y")
        disk.free.clear()
        call = caller.send("Tally", "tell", "y")
        read = asyncio.ensure_future(caller.state("Tally"))
        await settled()
        beside = asyncio.ensure_future(caller.state("Tally", "y"))
        await settled()

        assert beside.done(), "the nested call has not left: it would have to be waited for"
        assert (await beside)["n"] == 0
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
        with pytest.raises(DeadlineExceeded):
            await caller.call("Tally", "add", timeout_s=0.3)
        disk.error = None
        with pytest.raises(DeadlineExceeded):
            await caller.call("Tally", "look", timeout_s=0.3)
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
async def test_a_partition_gets_its_store_when_it_is_called_for_the_first_time(
    tmp_path: Path,
) -> None:
    partition = partition_of(ObjectKey("Tally", "x"), 4)
    async with running(settings(tmp_path)) as (node, caller):
        description = await node.describe()
        assert [p.state for p in description.nodes[0].partitions] == ["serving"] * 4
        assert list((tmp_path / "partitions").iterdir()) == []
        # So far came a process before this one, which then died.
        (tmp_path / "partitions" / str(partition)).mkdir()

        await caller.create("Tally")
        assert await caller.call("Tally", "add") == 1

    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.call("Tally", "add") == 2
    assert [path.name for path in (tmp_path / "partitions").iterdir()] == [str(partition)]


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
async def test_small_commits_on_their_way_are_bounded_by_their_number_too(tmp_path: Path) -> None:
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    limits = Limits(unapplied_bytes_max=64_000, mailbox_calls_max=50)
    async with running(settings(tmp_path, journal=journal, limits=limits)) as (node, caller):
        await caller.create("Tally")
        # Else that is applied in between, and lets all those go on that wait.
        while node._upkeep._unapplied:
            await settled()
        disk.free.clear()
        calls = []
        for _ in range(400):
            calls.append(caller.send("Tally", "add"))
            await asyncio.sleep(0)

        ran = sum(host.partition.memory.number for host in node._hosts)
        assert ran <= 102, "each of them has a hundred bytes, and counts for more"
        disk.free.set()
        answers = [await call for call in calls]
        assert {answer.code for answer in answers} == {Code.OK, Code.BACKPRESSURE}


@on_loop
async def test_a_start_that_fails_leaves_the_directory_free_for_the_next(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tally")
    partitions = tmp_path / "partitions"
    partitions.rename(tmp_path / "elsewhere")
    partitions.write_text("not a directory")

    with pytest.raises(OSError, match="partitions"):
        await Node(settings(tmp_path)).start()

    partitions.unlink()
    (tmp_path / "elsewhere").rename(partitions)
    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.call("Tally", "add") == 1
