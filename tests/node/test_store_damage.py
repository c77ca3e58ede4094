"""Damaged, lost and full stores: an error, never a short or an old result taken for a good one."""

import os
import random
import shutil
from pathlib import Path

import pytest
from harness.disks import small_disk
from harness.journals import JournalRun, flip_bit

from perdure_node.log import LogDamaged
from perdure_node.store import Store, StoreDamaged, StoreFull

State = dict[bytes, bytes]

PARTITION = 3


class Node:
    """A partition's store and log, written together; what was flushed is trimmed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state: State = {}
        self.last = 0

    def write(self, rng: random.Random) -> None:
        with JournalRun(self.directory / "journal") as run:
            store = Store.create(self.directory / "store")
            log = run.log(PARTITION)
            for _ in range(12):
                changes = {b"k%03d" % rng.randrange(400): rng.randbytes(200) for _ in range(100)}
                run.commit((PARTITION, encode(changes)))
                self.state.update(changes)
                self.last = log.last
                store.write(list(changes.items()), [], log.last)
                if log.last % 4 == 0:
                    log.trim(store.flush())
            store.close()


def encode(changes: State) -> bytes:
    return b"".join(key + value for key, value in changes.items())


def decode(body: bytes) -> State:
    return {body[n : n + 4]: body[n + 4 : n + 204] for n in range(0, len(body), 204)}


def recover(directory: Path) -> State:
    """Do what a node does: open the store, replay the log, read everything."""
    store = Store.open(directory / "store")
    try:
        with JournalRun(directory / "journal") as run:
            for record in run.log(PARTITION, after=store.applied).read(store.applied):
                store.write(list(decode(record.body).items()), [], record.sequence)
        scanned = dict(store.scan(b"k"))
        assert scanned == {key: store.get(key) for key in scanned}
        return scanned
    finally:
        store.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    node = Node(tmp_path_factory.mktemp("node") / "data")
    node.directory.mkdir()
    node.write(random.Random(1))
    return node


def image_of(node: Node, target: Path) -> Path:
    return Path(shutil.copytree(node.directory, target))


def test_an_undamaged_store_and_its_log_give_everything(node: Node, tmp_path: Path) -> None:
    assert recover(image_of(node, tmp_path / "image")) == node.state


@pytest.mark.parametrize("block", range(20))
def test_a_flipped_bit_in_a_store_is_repaired_or_found(
    block: int, node: Node, tmp_path: Path
) -> None:
    rng = random.Random(block)
    for number in range(10):
        image = image_of(node, tmp_path / str(number))
        files = [p for p in sorted((image / "store").iterdir()) if p.stat().st_size]
        path = rng.choice(files)
        flip_bit(path, rng.randrange(path.stat().st_size * 8))

        try:
            found = recover(image)
        except (StoreDamaged, LogDamaged):
            continue

        assert found == node.state, path.name


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST", ".sst", "OPTIONS", "rocksdict-config"])
def test_a_lost_file_of_a_store_is_missed_or_was_not_needed(
    name: str, node: Node, tmp_path: Path
) -> None:
    image = image_of(node, tmp_path / "image")
    for path in (image / "store").iterdir():
        if name in path.name:
            path.unlink()
            break

    try:
        found = recover(image)
    except (StoreDamaged, LogDamaged):
        found = node.state

    assert found == node.state


def test_every_prefix_of_the_manifest_is_the_whole_or_found(node: Node, tmp_path: Path) -> None:
    """RocksDB takes a cut list of files for an older one."""
    size = next((node.directory / "store").glob("MANIFEST-*")).stat().st_size
    for number, cut in enumerate(range(1, size, max(1, size // 40))):
        image = image_of(node, tmp_path / str(number))
        os.truncate(next((image / "store").glob("MANIFEST-*")), cut)

        try:
            found = recover(image)
        except (StoreDamaged, LogDamaged):
            continue

        assert found == node.state


def test_a_damaged_block_ends_a_scan_with_an_error(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    noise = random.Random(1)
    store.write([(b"k%06d" % number, noise.randbytes(100)) for number in range(5_000)], [], 1)
    store.flush()
    store.close()
    [table] = (tmp_path / "store").glob("*.sst")
    flip_bit(table, table.stat().st_size // 2 * 8)
    store = Store.open(tmp_path / "store")

    with pytest.raises(StoreDamaged, match="Corruption"):
        store.scan(b"k", limit=10_000)

    store.close()


def test_an_old_copy_of_a_store_is_refused(node: Node, tmp_path: Path) -> None:
    """Restored from yesterday: what the log has since trimmed is missing."""
    image = image_of(node, tmp_path / "image")
    shutil.rmtree(image / "store")
    old = Store.create(image / "store")
    old.write([(b"k001", b"yesterday")], [], 2)
    old.close()

    with pytest.raises(LogDamaged, match=r"records 3 to \d+ are lost"):
        recover(image)


def test_a_store_of_a_newer_log_is_refused(node: Node, tmp_path: Path) -> None:
    image = image_of(node, tmp_path / "image")
    store = Store.open(image / "store")
    store.write([], [], node.last + 1)
    store.close()

    with pytest.raises(LogDamaged, match="its store holds record 13, but the journal ends at 12"):
        recover(image)


def fill(store: Store, key: bytes) -> int:
    """Write and flush until the disk is full; return the last position that was flushed."""
    flushed = 0
    while True:
        try:
            rows = [(key + os.urandom(8), os.urandom(1_000)) for _ in range(300)]
            store.write(rows, [], store.applied + 1)
            flushed = store.flush()
        except StoreFull:
            return flushed


def test_a_full_disk_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as make_room:
        path = tmp_path / "disk" / "store"
        store = Store.create(path)
        store.write([(b"first", b"value")], [], 1)
        store.flush()
        flushed = fill(store, b"k")
        assert store.get(b"first") == b"value", "reads go on"
        with pytest.raises(StoreFull):
            store.flush()
        with pytest.raises(StoreFull):
            store.close()

        make_room()
        store = Store.open(path)
        assert store.applied >= flushed
        assert len(store.scan(b"k", limit=100_000)) == max(0, store.applied - 1) * 300
        store.write([], [], store.applied + 1)
        assert store.flush() == store.applied
        store.close()
