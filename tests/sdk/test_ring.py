from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from perdure.ring import place


@pytest.mark.parametrize("partition_count", [1, 2, 16, 64, 255])
@pytest.mark.parametrize("node_count", [1, 2, 3, 7, 20])
def test_every_partition_gets_a_node_and_no_node_more_than_its_share(
    partition_count: int, node_count: int
) -> None:
    nodes = [f"n{i}" for i in range(1, node_count + 1)]

    placement = place(partition_count, nodes)

    assert len(placement) == partition_count
    assert set(placement) <= set(nodes)
    assert max(Counter(placement).values()) <= -(-partition_count // node_count)


def test_the_order_of_the_names_does_not_matter() -> None:
    assert place(64, ["n3", "n1", "n2"]) == place(64, ["n1", "n2", "n3"])


def test_another_process_places_alike() -> None:
    code = "from perdure.ring import place; print(','.join(place(16, ['n1', 'n2', 'n3'])))"

    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout

    assert printed.strip().split(",") == place(16, ["n1", "n2", "n3"])


def test_a_placement_never_changes_between_releases() -> None:
    # Nodes of one cluster made by different releases must agree on who has what.
    assert place(8, ["n1", "n2", "n3"]) == ["n3", "n3", "n2", "n1", "n1", "n3", "n1", "n2"]


def test_most_partitions_stay_where_they_are_when_a_node_is_added() -> None:
    before = place(64, ["n1", "n2", "n3"])
    after = place(64, ["n1", "n2", "n3", "n4"])

    moved = sum(a != b for a, b in zip(before, after, strict=True))

    assert 16 <= moved <= 32
