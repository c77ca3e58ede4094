"""Flipped bits anywhere in a journal: repaired, or found in the partitions concerned alone."""

import random
from pathlib import Path

import pytest
from harness.journals import JournalRun, flip_bit, groups_in, overwrite, picture, read_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure_node.journal.analysis import Group
from perdure_node.journal.format import PAGE
from perdure_node.journal.settings import JournalSettings

PARTITIONS = range(6)
Bodies = dict[int, list[bytes]]


def write(directory: Path, rng: random.Random, groups: int) -> Bodies:
    """Write groups of random records, and close. Partition 5 has a record at the start only."""
    written: Bodies = {partition: [] for partition in PARTITIONS}
    with JournalRun(directory) as run:
        for number in range(groups):
            records = [
                (rng.randrange(5), rng.randbytes(rng.choice([0, 10, 200, 6_000])))
                for _ in range(rng.randint(1, 8))
            ]
            if number == 0:
                records.append((5, b"idle ever after"))
            run.commit(*records)
            for partition, body in records:
                written[partition].append(body)
    return written


def group_hit(path: Path, offset: int) -> Group | None:
    for group in groups_in(path):
        if group.offset <= offset < group.body_offset + group.body_length:
            return group
    return None


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bodies]:
    directory = tmp_path_factory.mktemp("damage") / "journal"
    return directory, write(directory, random.Random(7), groups=40)


@pytest.mark.parametrize("block", range(20))
def test_a_flipped_bit_is_repaired_or_found_in_the_partitions_of_its_group(
    block: int, journal: tuple[Path, Bodies], tmp_path: Path
) -> None:
    original, written = journal
    rng = random.Random(block)
    for number in range(10):
        image = picture(original, tmp_path / str(number))
        path = rng.choice(sorted(image.iterdir()))
        used = path.stat().st_size if path.suffix == ".seg" else 3 * (64 << 10)
        bit = rng.randrange(used * 8)
        hit = group_hit(path, bit // 8) if path.suffix == ".seg" else None
        flip_bit(path, bit)

        found = read_all(image, PARTITIONS)

        concerned = {partition for partition, _ in hit.lasts} if hit else set()
        refused = {partition for partition, what in found.items() if isinstance(what, str)}
        assert refused <= concerned
        assert bool(refused) == (hit is not None), "damage to a record is never passed over"
        for partition in set(PARTITIONS) - refused:
            assert found[partition] == written[partition]
        # Finding it changed nothing: it is found again.
        assert read_all(image, PARTITIONS) == found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    groups=st.integers(1, 12),
    cut=st.floats(0, 1),
    filler=st.sampled_from(["old", "zeros", "noise", "pages"]),
    marked=st.booleans(),
)
def test_a_crash_in_the_last_group_leaves_all_of_it_or_nothing(
    seed: int,
    groups: int,
    cut: float,
    filler: str,
    marked: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rng = random.Random(seed)
    base = tmp_path_factory.mktemp("crash")
    run = JournalRun(base / "journal")
    told: Bodies = {partition: [] for partition in PARTITIONS}
    for _ in range(groups):
        before = picture(base / "journal", base / f"before-{rng.random()}")
        last = [(rng.randrange(3), rng.randbytes(rng.choice([0, 50, 9_000]))) for _ in range(4)]
        run.commit(*last)
        for partition, body in last:
            told[partition].append(body)
    image = picture(base / "journal", base / "image")
    run.die()
    if not marked:
        (image / "mark").write_bytes((before / "mark").read_bytes())
        for path in image.glob("*.seg"):
            old = before / path.name
            tear(path, old.read_bytes() if old.exists() else b"", cut, filler, rng)

    found = read_all(image, PARTITIONS)

    without = {
        p: bodies[: len(bodies) - sum(q == p for q, _ in last)] for p, bodies in told.items()
    }
    assert found in ([told] if marked else [told, without])
    assert read_all(image, PARTITIONS) == found


def tear(path: Path, old: bytes, cut: float, filler: str, rng: random.Random) -> None:
    """Undo a part of what was written last into a file."""
    new = path.read_bytes()
    old = old.ljust(len(new), b"\0")
    pages = [n for n in range(0, len(new), PAGE) if new[n : n + PAGE] != old[n : n + PAGE]]
    if not pages:
        return
    start = pages[0] + int((pages[-1] + PAGE - pages[0]) * cut)
    end = pages[-1] + PAGE
    if filler == "old":
        overwrite(path, start, old[start:end])
    elif filler == "zeros":
        overwrite(path, start, bytes(end - start))
    elif filler == "noise":
        overwrite(path, start, rng.randbytes(end - start))
    else:
        for page in rng.sample(pages, k=int(len(pages) * cut)):
            overwrite(path, page, old[page : page + PAGE])


def test_a_damaged_partition_keeps_its_segments_and_nobody_elses(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with JournalRun(directory) as run:
        run.commit((0, b"lost soon"), (1, b"x"))
        for _ in range(20):
            run.commit((1, b"y" * 9_000))
    first = directory / "000000000001.seg"
    group = groups_in(first)[0]
    overwrite(first, group.body_offset + 35, b"#")

    with JournalRun(directory) as run:
        log = run.log(1)
        assert isinstance(read_partition(run, 0), str)
        log.trim(log.last)
        run.commit((1, b"z"))
        run.commit((1, b"z"))
        kept = sorted(path.name for path in directory.glob("*.seg"))

    assert first.name in kept
    assert len(kept) <= 4
    assert isinstance(read_all(directory, range(1))[0], str)


def read_partition(run: JournalRun, partition: int) -> list[bytes] | str:
    from perdure_node.log import LogDamaged

    try:
        return [record.body for record in run.log(partition).read(0)]
    except LogDamaged as error:
        return error.text


def test_damage_that_comes_while_the_node_runs_is_found_when_read(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with JournalRun(directory) as run:
        run.commit((0, b"first"), (0, b"second"))
        group = groups_in(directory / "000000000001.seg")[0]
        overwrite(directory / "000000000001.seg", group.body_offset + 40 + 33, b"#")

        assert read_partition(run, 0) == "record 2 cannot be read any more"


def test_defaults_hold_many_small_groups_in_a_segment() -> None:
    assert JournalSettings().segment_bytes // PAGE > 2_000
