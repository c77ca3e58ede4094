"""A node on a small file system that fills up and is emptied again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness.nodes import result_of, running, settings

from perdure import DurableObject, durable
from perdure.errors import Code, DiskFull
from perdure.ids import ObjectKey, partition_of
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings


@durable.object
class Pile(DurableObject):
    """Grows a little with each call."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0
        self.ballast = b""

    async def add(self) -> int:
        self.n += 1
        self.ballast = os.urandom(3_000)
        return self.n

    @durable.shared
    async def look(self) -> int:
        return self.n


async def fill_and_recover(disk: Path, who: str) -> None:
    """Fill the disk, so that either the journal or the stores find no room."""
    left_bytes, segment_bytes, checkpoint_bytes = {
        "journal": (1200 << 10, 1 << 20, 1 << 20),
        "stores": (0, 4 << 20, 256 << 10),
    }[who]
    small = settings(
        disk / "data",
        journal=JournalSettings(segment_bytes=segment_bytes, retry_s=0.1),
        limits=Limits(activations_max=4),
        checkpoint_bytes=checkpoint_bytes,
    )
    ids = [str(number) for number in range(16)]
    answered = dict.fromkeys(ids, 0)
    async with running(small) as (node, caller):
        for id in ids:
            await caller.create("Pile", id)
        while sum(path.stat().st_blocks for path in _segments(disk)) < 2 * segment_bytes // 512:
            await asyncio.sleep(0)
        stores = {host.store for host in node._hosts}
        (disk / "junk").write_bytes(bytes(_free(disk) - left_bytes))
        refused = 0
        # Stores are noticed to be broken when they are flushed.
        while refused < 50 or (who == "stores" and node._upkeep._room):
            for id in ids:
                try:
                    answered[id] = await caller.call("Pile", "add", id=id)
                except DiskFull:
                    refused += 1
        for id in ids:
            assert await caller.call("Pile", "look", id=id) == answered[id], "reads go on"
            assert (await caller.state("Pile", id))["n"] == answered[id]

        (disk / "junk").unlink()
        freed = asyncio.get_running_loop().time()
        for id in ids:
            while True:
                try:
                    answered[id] = await caller.call("Pile", "add", id=id)
                    break
                except DiskFull:
                    await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - freed < 60
        while who == "stores" and {host.store for host in node._hosts} == stores:
            # Until the node has noticed that stores are broken, and opened them again.
            await asyncio.sleep(0.05)
        for id in ids:
            answered[id] = await caller.call("Pile", "add", id=id)

    async with running(settings(disk / "data")) as (_, caller):
        for id in ids:
            assert (await caller.state("Pile", id))["n"] == answered[id]
    print("recovered", sum(answered.values()))


async def call_for_the_first_time(disk: Path) -> None:
    """Fill the disk before partitions have their stores."""
    small = settings(disk / "data", journal=JournalSettings(segment_bytes=1 << 20, retry_s=0.1))
    there = partition_of(ObjectKey("Pile", "x"), 4)
    ids = [id for id in map(str, range(16)) if partition_of(ObjectKey("Pile", id), 4) != there]
    async with running(small) as (_, caller):
        await caller.create("Pile", "x")
        while sum(path.stat().st_blocks for path in _segments(disk)) < 2 * (2 << 20) // 1024:
            await asyncio.sleep(0)
        junk = disk / "junk"
        junk.write_bytes(bytes(_free(disk)))
        for id in ids:
            with pytest.raises(DiskFull):
                result_of(await caller.create("Pile", id))

        # Little by little. What attempts leave behind must not take it.
        waiting = list(ids)
        while waiting:
            os.truncate(junk, junk.stat().st_size - (32 << 10))
            answers = {id: await caller.create("Pile", id) for id in waiting}
            waiting = [id for id, answer in answers.items() if answer.code == Code.DISK_FULL]
        junk.unlink()
        for id in ids:
            assert await caller.call("Pile", "add", id=id) == 1

    async with running(settings(disk / "data")) as (_, caller):
        for id in ids:
            assert (await caller.state("Pile", id))["n"] == 1
    print("recovered")


def _segments(disk: Path) -> list[Path]:
    return list((disk / "data" / "journal").glob("*.seg"))


def _free(disk: Path) -> int:
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize


@pytest.mark.parametrize("who", ["journal", "stores"])
def test_a_full_disk_loses_nothing_and_heals_without_an_operator(who: str, tmp_path: Path) -> None:
    run_on_a_small_disk("fill_and_recover", who, tmp_path=tmp_path)


def test_a_partition_without_room_for_its_store_gets_it_later(tmp_path: Path) -> None:
    run_on_a_small_disk("call_for_the_first_time", tmp_path=tmp_path)


def run_on_a_small_disk(what: str, *arguments: str, tmp_path: Path) -> None:
    """Run one of the functions above."""
    # In a process and a mount namespace of its own, so that nothing stays mounted.
    program = (
        "import asyncio, pathlib, sys; sys.path[:0] = sys.argv[2].split(':');"
        f"from test_full_disk import {what};"
        f"asyncio.run({what}(pathlib.Path(sys.argv[1]), *sys.argv[3:]))"
    )
    here = Path(__file__).parent
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=24m tmpfs "$1" && exec "$0" -c "$2" "$1" "$3" $4'
    done = subprocess.run(
        [
            *("unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])),
            *("sh", "-c", script, sys.executable, str(disk), program),
            *(f"{here}:{here.parent}", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3_000:]
    assert "recovered" in done.stdout
