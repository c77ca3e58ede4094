"""A node on a small file system that fills up and is emptied again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from harness.nodes import running, settings

from perdure import DurableObject, durable
from perdure.errors import DiskFull
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


async def fill_and_recover(disk: Path) -> None:
    small = settings(
        disk / "data",
        journal=JournalSettings(segment_bytes=1 << 20, retry_s=0.1),
        limits=Limits(activations_max=4),
        checkpoint_bytes=1 << 20,
    )
    ids = [str(number) for number in range(16)]
    answered = dict.fromkeys(ids, 0)
    async with running(small) as (_, caller):
        for id in ids:
            await caller.create("Pile", id)
        (disk / "junk").write_bytes(bytes(_free(disk) - (1200 << 10)))
        refused = 0
        while refused < 50:
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
        assert asyncio.get_running_loop().time() - freed < 10

    async with running(settings(disk / "data")) as (_, caller):
        for id in ids:
            assert (await caller.state("Pile", id))["n"] == answered[id]
    print("recovered", sum(answered.values()))


def _free(disk: Path) -> int:
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize


def test_a_full_disk_loses_nothing_and_heals_without_an_operator(tmp_path: Path) -> None:
    # In a process and a mount namespace of its own, so that nothing stays mounted.
    program = (
        "import asyncio, pathlib, sys; sys.path[:0] = sys.argv[2].split(':');"
        "from test_full_disk import fill_and_recover;"
        "asyncio.run(fill_and_recover(pathlib.Path(sys.argv[1])))"
    )
    here = Path(__file__).parent
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=24m tmpfs "$1" && exec "$0" -c "$2" "$1" "$3"'
    done = subprocess.run(
        [
            *("unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])),
            *("sh", "-c", script, sys.executable, str(disk), program),
            f"{here}:{here.parent}",
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3_000:]
    assert "recovered" in done.stdout
