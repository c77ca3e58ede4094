"""Journals for tests: one that runs on a loop of its own, and pictures of its files."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from perdure_node.journal.analysis import Group, scan_segment
from perdure_node.journal.node_journal import JournalSettings, NodeJournal
from perdure_node.journal.node_log import NodeLog
from perdure_node.log import LogDamaged

IDENTITY = b"test/n1"


def reserve(descriptor: int, size_bytes: int) -> None:
    os.posix_fallocate(descriptor, 0, size_bytes)


SMALL = JournalSettings(
    segment_bytes=32 << 10, sync=lambda descriptor: None, allocate=reserve, retry_s=0.02
)
"""Small segments, and no syncs: for tests in which no power is cut."""


class JournalRun:
    """One run of a journal, from opening to closing or to the death of its process."""

    def __init__(
        self,
        directory: Path,
        settings: JournalSettings = SMALL,
        **changed: Any,
    ) -> None:
        self.fatal: list[BaseException] = []
        self.journal = NodeJournal.open(
            directory,
            identity=IDENTITY,
            settings=replace(settings, **changed),
            on_fatal=self._failed,
        )
        self.runner = asyncio.Runner()
        self._told = asyncio.Event()
        self.journal.start(self.runner.get_loop())

    def __enter__(self) -> JournalRun:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _failed(self, error: BaseException) -> None:
        self.fatal.append(error)
        self._told.set()

    def log(self, partition: int, after: int = 0) -> NodeLog:
        log = self.journal.log(partition, after)
        log.on_durable = lambda durable: self._told.set()
        return log

    def commit(self, *records: tuple[int, bytes]) -> None:
        """Append records and wait until they are durable, or the disk has failed."""
        for partition, body in records:
            self.log(partition).append(body)
        self.journal.flush()
        self.wait(lambda: not self.journal.undurable_bytes or bool(self.fatal))

    def wait(self, done: Any, timeout_s: float = 10.0) -> None:
        """Run the loop until a condition holds. It is looked at when something was told."""

        async def until_done() -> None:
            async with asyncio.timeout(timeout_s):
                while not done():
                    self._told.clear()
                    await self._told.wait()

        self.runner.run(until_done())

    def wait_for_room(self) -> None:
        """Run the loop until a next segment is there."""
        changed = self.journal.room_changed

        def note(has_room: bool, batch_waits: bool) -> None:
            changed(has_room, batch_waits)
            self._told.set()

        self.journal.room_changed = note  # type: ignore[method-assign]
        self.wait(lambda: self.journal.has_room)

    def close(self) -> None:
        self.runner.run(self.journal.close())
        self.runner.close()

    def die(self) -> None:
        """End as a process does that is killed: nothing is finished."""
        self.journal.abandon()
        self.runner.close()


def picture(directory: Path, target: Path) -> Path:
    """Copy a journal's files as they are now: what a process finds if this one is killed."""
    return Path(shutil.copytree(directory, target))


def read_all(directory: Path, partitions: range, **changed: Any) -> dict[int, list[bytes] | str]:
    """Open a journal and return each partition's bodies, or why it is refused."""
    found: dict[int, list[bytes] | str] = {}
    with JournalRun(directory, **changed) as run:
        for partition in partitions:
            try:
                log = run.log(partition)
                kept = list(log.bodies(0))
                records = list(log.read(0))
            except LogDamaged as error:
                found[partition] = error.text
            else:
                again = list(log.bodies(0))
                assert kept == again == [None if r.is_claim else r.body for r in records]
                assert [r.sequence for r in records] == list(range(1, log.last + 1))
                found[partition] = [record.body for record in records]
    return found


def segment_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def groups_in(path: Path) -> list[Group]:
    return scan_segment(int(path.stem), path.read_bytes()).groups


def used_files(directory: Path) -> list[Path]:
    """The segments that hold groups, without the one prepared for later."""
    return [path for path in segment_files(directory) if groups_in(path)]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip_bit(path: Path, bit: int) -> None:
    data = path.read_bytes()
    overwrite(path, bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8]))
