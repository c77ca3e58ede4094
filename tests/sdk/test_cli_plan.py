from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from perdure.cli.plan import open_plan
from perdure.errors import ConfigError
from perdure_node.identity import Identity


def test_a_new_folder_becomes_a_cluster_and_each_node_gets_what_the_plan_says(
    tmp_path: Path,
) -> None:
    plan = open_plan(tmp_path, 3, 16)

    assert plan.nodes == ["n1", "n2", "n3"]
    assert sorted(Counter(plan.placement).values()) == [5, 5, 6]
    for node in plan.nodes:
        identity = Identity.open(
            tmp_path / node,
            node=node,
            cluster_id=plan.cluster_id,
            nodes=plan.nodes,
            partition_count=16,
            new=False,
        )
        assert set(identity.partitions) == {
            number for number, owner in enumerate(plan.placement) if owner == node
        }
        identity.close()


def test_a_cluster_is_the_same_at_its_next_start(tmp_path: Path) -> None:
    plan = open_plan(tmp_path, 3, 16)

    assert open_plan(tmp_path, None, None) == plan
    assert open_plan(tmp_path, 3, 16) == plan


def test_a_new_cluster_has_one_node_and_64_partitions_unless_said_otherwise(
    tmp_path: Path,
) -> None:
    plan = open_plan(tmp_path, None, None)

    assert (plan.nodes, plan.partition_count) == (["n1"], 64)


def test_other_nodes_than_the_cluster_was_made_with_are_refused(tmp_path: Path) -> None:
    open_plan(tmp_path, 3, 16)

    with pytest.raises(ConfigError, match=r"made with 3 nodes, not 4.*start it with --nodes 3"):
        open_plan(tmp_path, 4, None)


def test_other_partitions_than_the_cluster_was_made_with_are_refused(tmp_path: Path) -> None:
    open_plan(tmp_path, 3, 16)

    with pytest.raises(ConfigError, match=r"made with 16 partitions, not 64.*leave --partitions"):
        open_plan(tmp_path, 3, 64)


def test_a_making_that_died_in_the_middle_is_finished_by_the_next(tmp_path: Path) -> None:
    plan = open_plan(tmp_path, 3, 16)
    content = json.loads((tmp_path / "cluster.json").read_text())
    (tmp_path / "cluster.json").write_text(json.dumps(content | {"made": False}))
    for file in (tmp_path / "n3").iterdir():
        file.unlink()
    (tmp_path / "n3").rmdir()

    assert open_plan(tmp_path, None, None) == plan
    assert (tmp_path / "n3" / "node.json").exists()


def test_a_node_folder_lost_later_is_not_made_anew(tmp_path: Path) -> None:
    open_plan(tmp_path, 2, 16)
    (tmp_path / "n2" / "node.json").unlink()

    open_plan(tmp_path, None, None)

    assert not (tmp_path / "n2" / "node.json").exists()


def test_the_folder_of_an_embedded_node_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text("{}")

    with pytest.raises(ConfigError, match="a program that runs without a cluster"):
        open_plan(tmp_path, 3, 16)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")

    with pytest.raises(ConfigError, match=r"not empty \(thesis\.txt\)"):
        open_plan(tmp_path, 3, 16)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "x": 2}'])
def test_a_damaged_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cluster.json").write_text(content)

    with pytest.raises(ConfigError, match="is damaged: restore it"):
        open_plan(tmp_path, None, None)


def test_a_plan_of_a_later_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"format": 2}')

    with pytest.raises(ConfigError, match="has the format 2; this release reads 1"):
        open_plan(tmp_path, None, None)


def test_more_nodes_than_partitions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 nodes have too little to do with 2 partitions"):
        open_plan(tmp_path, 3, 2)

    assert list(tmp_path.iterdir()) == []
