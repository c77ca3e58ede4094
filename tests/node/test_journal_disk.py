"""Disks that are slow, full or broken, under the node journal."""

import asyncio
import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.disks import mounted
from harness.journals import SMALL, JournalRun, read_all, reserve, segment_files, used_files

from perdure_node.journal.settings import JournalSettings

MARK_BYTES = 3 * (64 << 10)


class Gate:
    """A sync that can be held back, and that can fail."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.syncs = 0
        self.error: OSError | None = None

    def __call__(self, descriptor: int) -> None:
        # Not for ever, so that a test that fails ends too.
        self.open.wait(20)
        # Not those of the thread that prepares segments.
        self.syncs += threading.current_thread().name == "perdure-journal"
        if self.error is not None:
            raise self.error


class Room:
    """An allocator with so many bytes to give."""

    def __init__(self, size_bytes: int) -> None:
        self.left = size_bytes

    def __call__(self, descriptor: int, size_bytes: int) -> None:
        if size_bytes > self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= size_bytes
        reserve(descriptor, size_bytes)


class RoomIn(Room):
    """An allocator that looks at what a directory holds: what is deleted is room again."""

    def __init__(self, directory: Path, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._directory = directory
        self._size_bytes = size_bytes

    def __call__(self, descriptor: int, size_bytes: int) -> None:
        used = sum(path.stat().st_size for path in self._directory.iterdir())
        self.left = self._size_bytes - used
        super().__call__(descriptor, size_bytes)


def test_one_sync_serves_all_partitions(tmp_path: Path) -> None:
    gate = Gate()
    with JournalRun(tmp_path / "journal", sync=gate) as run:
        run.commit((0, b"begin"))
        before = gate.syncs
        run.commit(*[(partition, b"x") for partition in range(64)])

        assert gate.syncs == before + 1


def test_nothing_is_told_before_the_sync_returns(tmp_path: Path) -> None:
    gate = Gate()
    run = JournalRun(tmp_path / "journal", sync=gate)
    # The first group of a segment has another sync, that of the mark.
    run.commit((0, b"begin"))
    log = run.log(0)
    gate.open.clear()
    log.append(b"held back")
    run.journal.flush()
    with pytest.raises(TimeoutError):
        run.wait(lambda: log.durable == 2, timeout_s=0.1)

    assert run.journal.undurable_bytes > 0
    gate.open.set()
    run.wait(lambda: log.durable == 2)
    run.close()


def test_without_other_settings_the_sync_is_that_of_the_system() -> None:
    # Nothing short of pulling the plug would show that it is not.
    assert JournalSettings().sync is os.fdatasync


def test_what_is_flushed_during_a_sync_follows_in_one_group(tmp_path: Path) -> None:
    gate = Gate()
    with JournalRun(tmp_path / "journal", sync=gate) as run:
        run.commit((0, b"begin"))
        log = run.log(0)
        gate.open.clear()
        before = gate.syncs
        for number in range(100):
            log.append(b"%d" % number)
            run.journal.flush()
        gate.open.set()
        run.wait(lambda: log.durable == 101)

        assert gate.syncs == before + 2


def test_a_long_queue_is_cut_into_groups(tmp_path: Path) -> None:
    gate = Gate()
    directory = tmp_path / "journal"
    with JournalRun(directory, sync=gate, group_bytes_max=10_000) as run:
        run.commit(*[(number % 3, b"x" * 900) for number in range(100)])

    assert read_all(directory, range(3)) == {
        0: [b"x" * 900] * 34,
        1: [b"x" * 900] * 33,
        2: [b"x" * 900] * 33,
    }
    assert gate.syncs > 10


@pytest.mark.parametrize("failing", range(12))
def test_after_a_failed_sync_nothing_is_ever_told(failing: int, tmp_path: Path) -> None:
    gate = Gate()
    run = JournalRun(tmp_path / "journal", sync=gate)
    told: list[int] = []
    for number in range(failing):
        run.commit((0, b"%d" % number))
    gate.error = OSError(errno.EIO, "the disk is broken")
    run.commit((0, b"never"))
    log = run.log(0)
    log.on_durable = told.append
    gate.error = None
    for _ in range(3):
        log.append(b"nor this")
        run.journal.flush()
    run.close()

    assert [str(error) for error in run.fatal] == ["[Errno 5] the disk is broken"]
    assert (log.durable, told) == (failing, [])


def test_a_failed_sync_is_never_tried_again(tmp_path: Path) -> None:
    gate = Gate()
    run = JournalRun(tmp_path / "journal", sync=gate)
    gate.error = OSError(errno.EIO, "the disk is broken")
    run.commit((0, b"never"))
    before = gate.syncs
    run.journal.flush()
    run.close()

    assert gate.syncs == before


def test_one_failed_sync_is_fatal_though_the_next_would_pass(tmp_path: Path) -> None:
    """What could not be written is dropped from memory, and the next sync knows nothing of it."""
    errors: list[OSError] = []

    def sync(descriptor: int) -> None:
        if errors and threading.current_thread().name == "perdure-journal":
            raise errors.pop()

    run = JournalRun(tmp_path / "journal", sync=sync)
    run.commit((0, b"fine"))
    errors.append(OSError(errno.EIO, "the disk is broken"))
    run.commit((0, b"never"))

    assert [str(error) for error in run.fatal] == ["[Errno 5] the disk is broken"]
    assert run.log(0).durable == 1
    run.close()


def test_a_failed_write_is_fatal(tmp_path: Path) -> None:
    run = JournalRun(tmp_path / "journal")
    run.commit((0, b"fine"))
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target == str(tmp_path / "journal" / "000000000001.seg"):
                read_only = os.open(target, os.O_RDONLY)
                os.dup2(read_only, int(name))
                os.close(read_only)
    run.commit((0, b"cannot be written"))

    assert [error.errno for error in run.fatal if isinstance(error, OSError)] == [errno.EBADF]
    assert run.log(0).durable == 1
    run.die()


def test_what_was_told_before_the_disk_broke_is_there(tmp_path: Path) -> None:
    gate = Gate()
    directory = tmp_path / "journal"
    run = JournalRun(directory, sync=gate)
    run.commit((0, b"told"))
    gate.error = OSError(errno.EIO, "the disk is broken")
    run.commit((0, b"not told"))
    run.close()

    found = read_all(directory, range(1))[0]

    assert found in ([b"told"], [b"told", b"not told"])


def fill(run: JournalRun) -> int:
    """Write until there is no room for another segment; return the number of records."""
    count = 0
    while run.journal.has_room:
        run.commit((0, b"x" * 3_000))
        count += 1
    return count


def test_room_is_denied_while_what_was_appended_still_fits(tmp_path: Path) -> None:
    with JournalRun(
        tmp_path / "journal", allocate=Room(MARK_BYTES + 3 * SMALL.segment_bytes)
    ) as run:
        count = fill(run)
        run.commit((0, b"already run"), (1, b"already run too"))

        assert run.log(0).durable == count + 1
        assert not run.journal.has_room
        assert not run.fatal


def test_writes_go_on_by_themselves_when_there_is_room_again(tmp_path: Path) -> None:
    room = Room(MARK_BYTES + 3 * SMALL.segment_bytes)
    directory = tmp_path / "journal"
    with JournalRun(directory, allocate=room) as run:
        count = fill(run)
        room.left = 10 * SMALL.segment_bytes
        run.wait_for_room()
        for _ in range(20):
            run.commit((0, b"after"))

        assert run.journal.has_room

    assert len(read_all(directory, range(1))[0]) == count + 20


def test_what_does_not_fit_waits_for_room_and_is_kept(tmp_path: Path) -> None:
    room = Room(MARK_BYTES + 3 * SMALL.segment_bytes)
    directory = tmp_path / "journal"
    with JournalRun(directory, allocate=room) as run:
        count = fill(run)
        log = run.log(0)
        for _ in range(20):
            log.append(b"y" * 10_000)
        run.journal.flush()
        with pytest.raises(TimeoutError):
            run.wait(lambda: log.durable == log.last, timeout_s=0.2)
        room.left = 1 << 20
        run.wait(lambda: log.durable == count + 20)

        assert not run.fatal


def test_trimming_makes_room(tmp_path: Path) -> None:
    room = RoomIn(tmp_path / "journal", MARK_BYTES + 4 * SMALL.segment_bytes)
    with JournalRun(tmp_path / "journal", allocate=room) as run:
        fill(run)
        log = run.log(0)
        log.trim(log.durable)
        run.wait_for_room()
        run.commit((0, b"fits"))

        assert log.durable == log.last


def test_closing_does_not_wait_for_room(tmp_path: Path) -> None:
    run = JournalRun(tmp_path / "journal", allocate=Room(MARK_BYTES + 3 * SMALL.segment_bytes))
    fill(run)
    log = run.log(0)
    for _ in range(20):
        log.append(b"y" * 10_000)
    run.journal.flush()
    run.close()

    assert log.durable < log.last


def test_a_journal_opens_on_a_full_disk_for_reading(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with JournalRun(directory) as run:
        run.commit((0, b"kept"))
    with JournalRun(directory, allocate=Room(0)) as run:
        assert not run.journal.has_room
        assert [record.body for record in run.log(0).read(0)] == [b"kept"]


def test_a_disk_that_breaks_its_word_is_a_full_one(tmp_path: Path) -> None:
    """Some file systems allocate and say later that there is no room, even at the sync."""
    gate = Gate()
    directory = tmp_path / "journal"
    with JournalRun(directory, sync=gate) as run:
        run.commit((0, b"first"))
        log = run.log(0)
        gate.error = OSError(errno.ENOSPC, "no room")
        log.append(b"second")
        run.journal.flush()
        with pytest.raises(TimeoutError):
            run.wait(lambda: log.durable == 2, timeout_s=0.1)
        assert not run.journal.has_room
        gate.error = None
        run.wait(lambda: log.durable == 2)
        run.wait_for_room()

        assert not run.fatal

    assert read_all(directory, range(1))[0] == [b"first", b"second"]


def test_a_record_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    large = os.urandom(5 * SMALL.segment_bytes)
    with JournalRun(directory) as run:
        run.commit((0, b"before"), (0, large), (0, b"after"))

    assert read_all(directory, range(1))[0] == [b"before", large, b"after"]


def test_closing_gives_back_what_the_segment_has_not_used(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with JournalRun(directory, JournalSettings()) as run:
        run.commit((0, b"x"))

    assert [path.stat().st_size for path in segment_files(directory)] == [8_192]


def test_segments_are_deleted_when_every_partition_is_beyond_them(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with JournalRun(directory) as run:
        for _ in range(10):
            run.commit((0, b"x" * 9_000), (1, b"y"))
        assert len(used_files(directory)) > 3
        run.log(0).trim(10)
        run.commit((0, b"z"))
        assert len(used_files(directory)) > 3, "partition 1 still needs them"
        run.log(1).trim(10)
        run.commit((0, b"z"))
        run.commit((0, b"z"))

        assert len(used_files(directory)) <= 2

    with JournalRun(directory) as run:
        assert [record.sequence for record in run.log(0, after=10).read(10)] == [11, 12, 13]
        assert run.log(1, after=10).append(b"goes on") == 11


def test_partitions_that_hold_segments_and_are_not_opened_are_named(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with JournalRun(directory) as run:
        run.commit((0, b"x"), (4, b"x"))
    with JournalRun(directory) as run:
        run.log(0)
        run.commit((7, b"x"))

        assert run.journal.unopened == [4]


def test_a_loop_that_ended_without_closing_leaves_a_journal_that_opens(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    program = f"""
import asyncio
from pathlib import Path
from perdure_node.journal.node_journal import NodeJournal

async def main():
    journal = NodeJournal.open(Path({str(directory)!r}), identity=b"test/n1", on_fatal=print)
    journal.start(asyncio.get_running_loop())
    log = journal.log(0)
    told = asyncio.Event()
    log.on_durable = lambda last: told.set()
    log.append(b"told")
    journal.flush()
    await told.wait()
    log.append(b"nobody was told")
    journal.flush()

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )

    assert (done.stdout, done.stderr) == ("", "")
    found = read_all(directory, range(1))[0]
    assert found in ([b"told"], [b"told", b"nobody was told"])


@contextlib.contextmanager
def one_megabyte(path: Path) -> Iterator[JournalSettings]:
    """Mount a small file system, or count bytes where that is not allowed."""
    if os.geteuid() == 0:
        with mounted(path, 1 << 20):
            yield JournalSettings()
    else:
        path.mkdir()
        yield JournalSettings(allocate=RoomIn(path / "journal", 1 << 20))


def test_a_full_file_system_refuses_and_recovers(tmp_path: Path) -> None:
    with one_megabyte(tmp_path / "disk") as settings:
        directory = tmp_path / "disk" / "journal"
        with JournalRun(directory, settings, segment_bytes=128 << 10, retry_s=0.05) as run:
            count = fill(run)
            run.commit((0, b"already run"))
            log = run.log(0)
            assert log.durable == count + 1
            log.trim(count)
            run.wait_for_room()
            for _ in range(100):
                run.commit((0, b"x" * 3_000))
                log.trim(log.durable)

            assert log.durable == count + 101
            assert not run.fatal


def test_the_mark_is_synced_when_a_segment_is_begun(tmp_path: Path) -> None:
    """So a power cut never takes it further back than that."""
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        if threading.current_thread().name == "perdure-journal":
            synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    with JournalRun(tmp_path / "journal", sync=sync) as run:
        for _ in range(4):
            run.commit((0, b"x" * 20_000))

    assert synced == [name for number in range(1, 5) for name in (f"{number:012d}.seg", "mark")]


def test_a_slow_disk_holds_nothing_up_but_its_own_answers(tmp_path: Path) -> None:
    gate = Gate()
    with JournalRun(tmp_path / "journal", sync=gate) as run:
        run.commit((0, b"begin"))
        gate.open.clear()
        log = run.log(0)

        async def work() -> int:
            for number in range(1_000):
                log.append(b"%d" % number)
                run.journal.flush()
                await asyncio.sleep(0)
            return log.last

        assert run.runner.run(work()) == 1_001
        assert log.durable == 1
        gate.open.set()


def test_closing_starts_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = JournalRun(tmp_path / "journal")
    run.commit((0, b"written"))
    run.log(0).append(b"not even flushed")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as ending:
        # As Python 3.12 does once the process ends.
        ending.setattr(threading.Thread, "start", refuse)
        run.close()

    assert read_all(tmp_path / "journal", range(1)) == {0: [b"written", b"not even flushed"]}
