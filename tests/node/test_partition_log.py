"""What every `PartitionLog` promises, shown for each implementation."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from harness.journals import IDENTITY, SMALL

from perdure_node.journal.memory import MemoryJournal
from perdure_node.journal.node_journal import NodeJournal
from perdure_node.log import LogDamaged, LogRecord, PartitionLog


class Journal(Protocol):
    def log(self, partition: int, after: int = 0) -> PartitionLog: ...
    def flush(self) -> None: ...
    async def close(self) -> None: ...


class Machine(Protocol):
    """Something that a journal lives on: it can be opened again and again."""

    def open(self) -> Journal: ...
    async def crash(self, journal: Journal) -> Journal: ...


class Disk:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> NodeJournal:
        journal = NodeJournal.open(
            self._directory, identity=IDENTITY, settings=SMALL, on_fatal=pytest.fail
        )
        journal.start(asyncio.get_running_loop())
        return journal

    async def crash(self, journal: Journal) -> NodeJournal:
        assert isinstance(journal, NodeJournal)
        journal.abandon()
        return self.open()


class Memory:
    def open(self) -> MemoryJournal:
        journal = MemoryJournal()
        journal.start(asyncio.get_running_loop())
        return journal

    async def crash(self, journal: Journal) -> MemoryJournal:
        assert isinstance(journal, MemoryJournal)
        survivor = journal.crash()
        survivor.start(asyncio.get_running_loop())
        return survivor


@pytest.fixture(params=["disk", "memory"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    yield Disk(tmp_path / "journal") if request.param == "disk" else Memory()


Story = Callable[[Machine], Awaitable[None]]


def tells(story: Story) -> Callable[[Machine], None]:
    """Run a test that is a coroutine."""

    def test(machine: Machine) -> None:
        asyncio.run(story(machine))

    test.__name__ = story.__name__
    return test


async def durable(journal: Journal, log: PartitionLog) -> None:
    """Flush, and wait until everything of a log is durable."""
    reached = asyncio.Event()
    log.on_durable = lambda last: reached.set() if last == log.last else None
    journal.flush()
    await asyncio.wait_for(reached.wait(), 60)


def bodies(log: PartitionLog, after: int = 0) -> list[bytes]:
    return [record.body for record in log.read(after)]


@tells
async def test_sequences_are_dense_and_given_at_the_call(machine: Machine) -> None:
    log = machine.open().log(3)

    assert [log.append(b"a"), log.append(b"b"), log.claim(1, "n1")] == [1, 2, 3]
    assert (log.first, log.last, log.durable) == (1, 3, 0)


@tells
async def test_each_partition_counts_its_own_records(machine: Machine) -> None:
    journal = machine.open()

    assert [journal.log(p).append(b"x") for p in (0, 1, 0, 1)] == [1, 1, 2, 2]


@tells
async def test_a_record_is_told_to_be_durable_once_and_in_order(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    told: list[int] = []
    reached = asyncio.Event()

    def note(last: int) -> None:
        told.append(last)
        assert log.durable == last
        if last == 20:
            reached.set()

    log.on_durable = note
    for _ in range(20):
        log.append(b"x")
        journal.flush()
        await asyncio.sleep(0)
    await asyncio.wait_for(reached.wait(), 60)

    assert told == sorted(set(told))


@tells
async def test_nothing_is_durable_before_a_flush(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.append(b"x")
    for _ in range(10):
        await asyncio.sleep(0)

    assert log.durable == 0
    assert bodies(log) == []


@tells
async def test_what_was_durable_is_read_again_after_a_crash(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(5)
    log.claim(7, "n1")
    log.append(b"one")
    log.append(b"")
    await durable(journal, log)

    again = (await machine.crash(journal)).log(5)

    assert list(again.read(0)) == [
        LogRecord(1, 7, True, b"n1"),
        LogRecord(2, 7, False, b"one"),
        LogRecord(3, 7, False, b""),
    ]
    assert (again.first, again.last, again.durable, again.epoch) == (1, 3, 3, 7)


@tells
async def test_recovery_reads_the_same_from_anywhere_however_often(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.claim(7, "n1")
    for number in range(5):
        log.append(b"%d" % number)
        await durable(journal, log)

    for after in (0, 3, 6):
        journal = await machine.crash(journal)
        again = journal.log(0)
        again.append(b"not durable")
        wanted = [None, b"0", b"1", b"2", b"3", b"4"][after:]
        assert list(again.bodies(after)) == list(again.bodies(after)) == wanted
        assert list(again.bodies(0)) == [None, b"0", b"1", b"2", b"3", b"4"]


@tells
async def test_sequences_go_on_after_a_crash(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.append(b"one")
    await durable(journal, log)
    journal = await machine.crash(journal)
    log = journal.log(0)

    assert log.append(b"two") == 2
    await durable(journal, log)
    assert bodies((await machine.crash(journal)).log(0)) == [b"one", b"two"]


@tells
async def test_what_was_never_flushed_is_gone_after_a_crash(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.append(b"kept")
    await durable(journal, log)
    log.append(b"never told")

    again = (await machine.crash(journal)).log(0)

    assert bodies(again) == [b"kept"]
    assert again.append(b"other") == 2


@tells
async def test_durable_records_are_read_while_the_log_is_written(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    other = journal.log(1)
    for number in range(50):
        log.append(b"%d" % number)
        other.append(b"-")
        await durable(journal, log)

    assert bodies(log, 40) == [b"%d" % number for number in range(40, 50)]
    assert bodies(log, 50) == []


@tells
async def test_a_large_record_is_kept_whole(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    large = bytes(range(256)) * 2_000
    log.append(b"before")
    log.append(large)
    log.append(b"after")
    await durable(journal, log)

    assert bodies((await machine.crash(journal)).log(0)) == [b"before", large, b"after"]


@tells
async def test_an_epoch_never_goes_back(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.claim(4, "n1")
    await durable(journal, log)
    again = (await machine.crash(journal)).log(0)

    with pytest.raises(ValueError, match="epoch 4 is not above 4"):
        again.claim(4, "n2")


@tells
async def test_records_carry_the_epoch_in_which_they_were_appended(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.claim(1, "n1")
    log.append(b"a")
    log.claim(2, "n2")
    log.append(b"b")
    await durable(journal, log)

    assert [record.epoch for record in log.read(0)] == [1, 1, 2, 2]


@tells
async def test_what_was_trimmed_is_refused_and_not_left_out(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    for number in range(5):
        log.append(b"%d" % number)
    await durable(journal, log)
    log.trim(3)

    assert log.first == 4
    assert bodies(log, 3) == list(log.bodies(3)) == [b"3", b"4"]
    with pytest.raises(LogDamaged, match="records 3 to 3 are not there"):
        log.read(2)
    with pytest.raises(LogDamaged, match="records 3 to 3 are not there"):
        log.bodies(2)


@tells
async def test_trimming_takes_durable_records_only(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.append(b"durable")
    await durable(journal, log)
    log.append(b"not yet")
    log.trim(2)
    await durable(journal, log)

    assert log.first == 2
    assert bodies(log, 1) == [b"not yet"]


@tells
async def test_a_log_that_ends_before_its_store_is_refused(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.append(b"one")
    await durable(journal, log)
    journal = await machine.crash(journal)

    with pytest.raises(LogDamaged):
        journal.log(0, after=2)


@tells
async def test_ownership_is_proven_where_nobody_else_can_write(machine: Machine) -> None:
    assert machine.open().log(0).barrier()


@tells
async def test_closing_makes_durable_what_was_appended(machine: Machine) -> None:
    journal = machine.open()
    log = journal.log(0)
    log.append(b"one")
    await journal.close()

    assert log.durable == 1
