"""What a node finds in its journal after a crash: a torn tail is cut, damage is found."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from crc32c import crc32c
from harness.journals import (
    SMALL,
    JournalRun,
    flip_bit,
    groups_in,
    overwrite,
    picture,
    read_all,
    segment_files,
    used_files,
)

from perdure_node.journal.format import (
    BODY,
    PAGE,
    pack_chain,
    pack_group,
    pack_prefix,
    unpack_group_header,
)
from perdure_node.journal.node_journal import JournalUnusable, NodeJournal
from perdure_node.log import LogDamaged


@dataclass
class Crash:
    """A journal of three partitions whose last group was written and not yet told."""

    directory: Path
    mark_before: bytes
    """The mark file as it was before the last group."""
    last_file: Path
    last_offset: int
    last_length: int

    def take_back_mark(self) -> None:
        (self.directory / "mark").write_bytes(self.mark_before)


TOLD: dict[int, list[bytes] | str] = {
    0: [b"0-first" * 40, b"0-second", b"0-third"],
    1: [b"1-first"],
    2: [b"2-first", b"2-second"],
}
LAST = b"the last group" * 600


@pytest.fixture
def crash(tmp_path: Path) -> Crash:
    """Groups: {0, 1}, {2}, {0, 2}, {0}, and {0} with a body of several pages."""
    directory = tmp_path / "journal"
    run = JournalRun(directory)
    run.commit((0, b"0-first" * 40), (1, b"1-first"))
    run.commit((2, b"2-first"))
    run.commit((0, b"0-second"), (2, b"2-second"))
    run.commit((0, b"0-third"))
    mark = (directory / "mark").read_bytes()
    run.commit((0, LAST))
    image = picture(directory, tmp_path / "image")
    run.close()
    file = used_files(image)[-1]
    group = groups_in(file)[-1]
    return Crash(image, mark, file, group.offset, -(-len(LAST) // PAGE) * PAGE)


def with_last() -> dict[int, list[bytes] | str]:
    return {**TOLD, 0: [*TOLD[0], LAST]}  # type: ignore[list-item]


def found(crash: Crash) -> dict[int, list[bytes] | str]:
    return read_all(crash.directory, range(3))


def test_everything_told_is_there_again(crash: Crash) -> None:
    assert found(crash) == with_last()


@pytest.mark.parametrize("cut", [0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 17])
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"garbage"])
def test_a_torn_last_group_is_cut(crash: Crash, cut: int, filler: bytes) -> None:
    crash.take_back_mark()
    rest = crash.last_length - cut
    overwrite(crash.last_file, crash.last_offset + cut, (filler * rest)[:rest])

    assert found(crash) == TOLD


def test_a_file_that_ends_in_its_last_group_is_cut(crash: Crash) -> None:
    crash.take_back_mark()
    os.truncate(crash.last_file, crash.last_offset + PAGE + 5)

    assert found(crash) == TOLD


def test_the_first_page_of_the_last_group_may_be_lost_and_the_second_there(crash: Crash) -> None:
    crash.take_back_mark()
    overwrite(crash.last_file, crash.last_offset, bytes(PAGE))

    assert found(crash) == TOLD


def test_groups_of_another_segment_behind_the_torn_one_count_for_nothing(
    crash: Crash, tmp_path: Path
) -> None:
    with JournalRun(tmp_path / "other") as run:
        for number in range(9):
            run.commit((0, b"%d" % number))
        old = segment_files(tmp_path / "other")[0].read_bytes()[PAGE:]
    crash.take_back_mark()
    overwrite(crash.last_file, crash.last_offset, b"torn" * 256)
    overwrite(crash.last_file, crash.last_offset + PAGE, old[: 12 * PAGE])

    assert found(crash) == TOLD


def test_a_last_group_that_nobody_was_told_of_is_written_again_before_it_is_read(
    crash: Crash,
) -> None:
    """It may be in the page cache only, where the death of a process leaves it."""
    crash.take_back_mark()
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    before = used_files(crash.directory)
    assert read_all(crash.directory, range(3), sync=sync) == with_last()

    [copy] = set(used_files(crash.directory)) - set(before)
    assert synced[:2] == [f"{copy.stem}.tmp", crash.directory.name]
    assert [group.number for group in groups_in(copy)] == [5]


def test_the_place_where_a_group_was_first_written_does_not_matter_any_more(crash: Crash) -> None:
    crash.take_back_mark()
    assert found(crash) == with_last()
    overwrite(crash.last_file, crash.last_offset, os.urandom(crash.last_length))

    assert found(crash) == with_last()


def test_what_was_cut_never_comes_back(crash: Crash) -> None:
    crash.take_back_mark()
    whole = crash.last_file.read_bytes()
    overwrite(crash.last_file, crash.last_offset, bytes(PAGE))
    with JournalRun(crash.directory) as run:
        run.commit((0, b"another fourth"))
    crash.last_file.write_bytes(whole)

    assert found(crash) == {**TOLD, 0: [*TOLD[0], b"another fourth"]}


def test_a_copy_that_was_not_finished_is_made_again(crash: Crash) -> None:
    crash.take_back_mark()
    (crash.directory / "000000000009.tmp").write_bytes(b"half a segment")

    assert found(crash) == with_last()
    assert not list(crash.directory.glob("*.tmp"))


def refused(what: object) -> bool:
    return isinstance(what, str)


def test_damage_in_the_last_group_that_was_told_is_not_taken_for_a_torn_tail(crash: Crash) -> None:
    flip_bit(crash.last_file, (crash.last_offset + 2 * PAGE) * 8)

    all = found(crash)

    assert all[0] == "records up to 4 were durable, the last that can be read is 3"
    assert (all[1], all[2]) == (TOLD[1], TOLD[2])


def test_damage_before_a_later_group_is_found_without_the_mark(crash: Crash) -> None:
    """After a power cut the mark may be older than what it should say."""
    group = groups_in(crash.last_file)[2]
    flip_bit(crash.last_file, (group.body_offset + 35) * 8)
    blank = JournalRun(crash.directory.parent / "blank")
    blank.close()
    (crash.directory / "mark").write_bytes((crash.directory.parent / "blank" / "mark").read_bytes())

    all = found(crash)

    assert all[0] == "records 1 to 2 are lost"
    assert all[1] == TOLD[1]
    assert all[2] == TOLD[2], "its own record in that group is whole"


@pytest.mark.parametrize("bit", [0, 30 * 8, 36 * 8, 45 * 8])
def test_a_partition_whose_only_record_was_in_a_lost_group_is_refused_alone(
    crash: Crash, bit: int
) -> None:
    """The header is gone, so only the mark knows that partition 1 was in there."""
    group = groups_in(crash.last_file)[0]
    flip_bit(crash.last_file, group.offset * 8 + bit)

    all = found(crash)

    assert refused(all[1])
    assert refused(all[0]), "its first record is lost, and no store has it"
    assert all[2] == TOLD[2]


def test_damage_to_what_the_store_has_already_is_no_loss(crash: Crash) -> None:
    group = groups_in(crash.last_file)[0]
    flip_bit(crash.last_file, group.offset * 8)

    with JournalRun(crash.directory) as run:
        assert [record.body for record in run.log(0, after=1).read(1)] == with_last()[0][1:]
        assert list(run.log(1, after=1).read(1)) == []
        run.commit((1, b"1-second"))

    with JournalRun(crash.directory) as run:
        assert [record.body for record in run.log(1, after=1).read(1)] == [b"1-second"]


def test_what_comes_before_a_gap_is_not_taken_for_what_comes_behind_it(crash: Crash) -> None:
    group = groups_in(crash.last_file)[2]
    flip_bit(crash.last_file, group.offset * 8)

    with JournalRun(crash.directory) as run:
        assert list(run.log(0, after=2).bodies(2)) == with_last()[0][2:]


@pytest.mark.parametrize("kept", [0, 300, 400, 10_000])
def test_a_journal_may_be_longer_than_what_is_kept_of_it(crash: Crash, kept: int) -> None:
    with JournalRun(crash.directory, kept_bytes=kept) as run:
        for partition, bodies in with_last().items():
            assert list(run.log(partition).bodies(0)) == bodies


def lose_header_and_mark(crash: Crash) -> None:
    group = groups_in(crash.last_file)[2]
    overwrite(crash.last_file, group.offset, bytes(64))
    overwrite(crash.directory / "mark", 0, bytes((crash.directory / "mark").stat().st_size))


def test_without_header_and_mark_every_partition_without_a_later_record_is_refused(
    crash: Crash,
) -> None:
    lose_header_and_mark(crash)

    all = read_all(crash.directory, range(5))

    assert {partition for partition, what in all.items() if refused(what)} == {0, 1, 2, 3, 4}
    assert all[0] == "records 1 to 2 are lost", "it has later records, after a gap"


def test_a_loss_that_nobody_can_name_is_not_forgotten(crash: Crash) -> None:
    lose_header_and_mark(crash)
    first = read_all(crash.directory, range(5))
    with JournalRun(crash.directory) as run:
        run.log(0, after=2)
        run.commit((0, b"goes on"))

    assert read_all(crash.directory, range(5)) == first


@pytest.mark.parametrize("slot", range(3))
def test_any_one_slot_of_the_mark_may_be_damaged(crash: Crash, slot: int) -> None:
    flip_bit(crash.directory / "mark", (slot * (64 << 10) + 9) * 8)

    assert found(crash) == with_last()


def test_the_mark_may_be_damaged_altogether_when_the_groups_are_whole(crash: Crash) -> None:
    overwrite(crash.directory / "mark", 0, os.urandom(3 * (64 << 10)))

    assert found(crash) == with_last()


def test_a_missing_mark_is_made_again(crash: Crash) -> None:
    (crash.directory / "mark").unlink()

    assert found(crash) == with_last()
    assert found(crash) == with_last()


def test_a_torn_tail_cannot_be_told_from_damage_without_the_mark(crash: Crash) -> None:
    (crash.directory / "mark").unlink()
    flip_bit(crash.last_file, (crash.last_offset + PAGE) * 8)

    assert refused(found(crash)[0])
    assert found(crash)[1] == TOLD[1]


def test_a_segment_is_read_without_its_header(crash: Crash) -> None:
    overwrite(crash.last_file, 0, b"\xff" * PAGE)

    assert found(crash) == with_last()


def test_a_record_of_another_history_does_not_pass_for_the_one_before(crash: Crash) -> None:
    """Every checksum of the group is right: only the chain shows that this is another record."""
    group = groups_in(crash.last_file)[2]
    header = unpack_group_header(crash.last_file.read_bytes(), group.offset)
    assert header is not None
    prefix = pack_prefix(5, 0, 0, 2, BODY, 4_711)
    record = prefix + pack_chain(crc32c(b"other", crc32c(prefix, 4_711))) + b"other"
    forged = pack_group(header.segment_id, group.number, {0: 2}, record)
    overwrite(crash.last_file, group.offset, forged)

    assert found(crash)[0] == "records 1 to 2 are lost"


def test_a_journal_of_another_node_is_refused(crash: Crash) -> None:
    with pytest.raises(JournalUnusable, match="belongs to b'test/n1', not to b'test/n2'"):
        NodeJournal.open(crash.directory, identity=b"test/n2", settings=SMALL, on_fatal=pytest.fail)


def test_a_journal_that_must_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match="holds no journal"):
        NodeJournal.open(
            tmp_path / "j", identity=b"n1", settings=SMALL, on_fatal=pytest.fail, new=False
        )

    assert not (tmp_path / "j").exists()


def test_a_journal_that_must_not_exist_is_not_taken_over(crash: Crash) -> None:
    with pytest.raises(JournalUnusable, match="already holds a journal"):
        NodeJournal.open(
            crash.directory, identity=b"test/n1", settings=SMALL, on_fatal=pytest.fail, new=True
        )


def test_a_store_of_a_lost_journal_is_not_served(tmp_path: Path) -> None:
    """The directory was emptied: records above the store's position may have been in it."""
    with JournalRun(tmp_path / "journal") as run, pytest.raises(LogDamaged) as raised:
        run.log(3, after=57)

    assert raised.value.text == "its store holds record 57, but the journal ends at 0"


def test_a_lost_segment_is_found(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with JournalRun(directory) as run:
        for number in range(30):
            run.commit((number % 3, b"%d" % number * 3_000))
    files = used_files(directory)
    assert len(files) > 4

    for victim in (files[0], files[2], files[-1]):
        image = picture(directory, tmp_path / f"without-{victim.stem}")
        (image / victim.name).unlink()
        assert all(refused(what) for what in read_all(image, range(3)).values()), victim.name


def test_all_segments_lost_is_found(crash: Crash) -> None:
    for path in segment_files(crash.directory):
        path.unlink()

    assert all(refused(what) for what in found(crash).values())
