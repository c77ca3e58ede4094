from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import ConfigError, StorageHeld
from perdure.ring import place
from perdure_node.identity import NEW, OPEN, Identity

NODES = ["n1", "n2", "n3"]


def opened(directory: Path, **other: Any) -> Identity:
    settings: dict[str, Any] = {
        "node": "n1",
        "cluster_id": "c1",
        "nodes": NODES,
        "partition_count": 16,
        "new": False,
    }
    return Identity.open(directory, **(settings | other))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The directory of the node n1, closed after its first opening."""
    directory = tmp_path / "data"
    opened(directory, new=True).close()
    return directory


def test_a_new_directory_gets_the_partitions_that_the_ring_gives_its_node(tmp_path: Path) -> None:
    identity = opened(tmp_path / "data", new=True)

    mine = {number for number, owner in enumerate(place(16, NODES)) if owner == "n1"}
    assert identity.partitions == dict.fromkeys(mine, NEW)
    assert identity.epoch == 1
    identity.close()


def test_every_opening_raises_the_epoch_on_disk_before_it_returns(data: Path) -> None:
    identity = opened(data)

    assert identity.epoch == 2
    assert json.loads((data / "node.json").read_text())["epoch"] == 2
    identity.close()


def test_partitions_marked_open_are_open_in_the_next_opening(data: Path) -> None:
    identity = opened(data)
    first, second, *others = identity.partitions
    identity.mark_open([first, second])
    identity.close()

    again = opened(data)

    assert again.partitions == {first: OPEN, second: OPEN} | dict.fromkeys(others, NEW)
    again.close()


def test_marking_what_is_marked_writes_nothing(data: Path) -> None:
    identity = opened(data)
    identity.mark_open(identity.partitions)
    before = (data / "node.json").stat().st_ino

    identity.mark_open(identity.partitions)

    assert (data / "node.json").stat().st_ino == before
    identity.close()


def test_a_directory_held_by_another_process_is_refused_and_the_text_names_its_pid(
    data: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from perdure_node.identity import Identity\n"
        "i = Identity.open(Path(sys.argv[1]), node='n1', cluster_id='c1',"
        " nodes=['n1', 'n2', 'n3'], partition_count=16, new=False)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"

        with pytest.raises(StorageHeld, match=f"in use by process {holder.pid}:"):
            opened(data)

        holder.stdin.close()
    opened(data).close()


def test_a_directory_held_by_this_process_is_refused_too(data: Path) -> None:
    identity = opened(data)

    with pytest.raises(StorageHeld, match=str(os.getpid())):
        opened(data)

    identity.close()


def test_a_refused_opening_lets_the_directory_go(data: Path) -> None:
    with pytest.raises(ConfigError):
        opened(data, node="n2")

    opened(data).close()


def test_an_empty_directory_is_refused_unless_it_is_said_to_be_new(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is empty: if this node had data there, restore it"):
        opened(tmp_path)

    opened(tmp_path, new=True).close()


def test_a_missing_directory_is_refused_unless_it_is_said_to_be_new(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there: if this node had data there"):
        opened(tmp_path / "data")

    assert not (tmp_path / "data").exists()


def test_a_directory_with_other_things_in_it_is_never_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")

    with pytest.raises(ConfigError, match=r"not empty \(thesis\.txt\)"):
        opened(tmp_path, new=True)


def test_a_first_opening_that_died_in_the_middle_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "node.json.tmp").write_text('{"format": 1, "clus')

    opened(tmp_path, new=True).close()


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"node": "n2"}, "is that of the node 'n1', not of 'n2'"),
        ({"cluster_id": "c2"}, "belongs to the cluster c1, not c2"),
        ({"nodes": ["n1", "n2"]}, "was made for a cluster of n1, n2, n3, not of n1, n2:"),
        ({"nodes": [*NODES, "n4"]}, "start it with the same nodes"),
        ({"partition_count": 64}, "was made with 16 partitions, not 64"),
    ],
)
@pytest.mark.parametrize("new", [False, True])
def test_a_directory_made_for_something_else_is_refused(
    data: Path, other: dict[str, Any], text: str, new: bool
) -> None:
    before = (data / "node.json").read_bytes()

    with pytest.raises(ConfigError, match=text):
        opened(data, **other, new=new)

    assert (data / "node.json").read_bytes() == before


def test_the_order_of_the_nodes_does_not_matter(data: Path) -> None:
    opened(data, nodes=["n3", "n1", "n2"]).close()


def test_without_a_cluster_id_the_directory_keeps_the_random_one_that_it_got(
    tmp_path: Path,
) -> None:
    first = opened(tmp_path / "a", cluster_id=None, new=True)
    other = opened(tmp_path / "b", cluster_id=None, new=True)
    first.close()
    other.close()

    again = opened(tmp_path / "a", cluster_id=None)

    assert again.cluster_id == first.cluster_id != other.cluster_id
    again.close()


def test_the_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)

    for name in ("there", "made"):
        opened(tmp_path / name, new=True).close()
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


def test_no_flipped_bit_of_the_file_goes_unnoticed(data: Path) -> None:
    whole = (data / "node.json").read_bytes()
    for place_ in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[place_ // 8] ^= 1 << place_ % 8
        (data / "node.json").write_bytes(flipped)
        try:
            identity = opened(data)
        except ConfigError:
            continue
        # Only white space may differ without changing what the file says.
        assert json.loads(flipped) == json.loads(whole)
        identity.close()


def test_a_file_of_a_later_format_is_refused(data: Path) -> None:
    import zlib

    content = json.loads((data / "node.json").read_text())
    del content["checksum"]
    content["format"] = 2
    checksum = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    (data / "node.json").write_text(json.dumps(content | {"checksum": checksum}))

    with pytest.raises(ConfigError, match="has the format 2; this release reads 1"):
        opened(data)


def test_a_directory_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")

    with pytest.raises(ConfigError, match="cannot be used: Not a directory"):
        opened(tmp_path / "data", new=True)
