"""What may be typed after `perdure bench`, and what is refused with which words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perdure.bench.command import compare_files, measure_all, settings_of, targets_of
from perdure.bench.own import find_own
from perdure.bench.run import Settings
from perdure.bench.scenarios import SCENARIOS
from perdure.cli import bench as cli
from perdure.cli.failure import CommandFailed
from perdure.errors import ConfigError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Where apps are imported from.
    monkeypatch.setattr(sys, "path", list(sys.path))


def targets(**typed: Any) -> list[str]:
    words: dict[str, Any] = {
        "embedded": False,
        "node": False,
        "router": False,
        "nodes": [],
        "addresses": [],
        "routings": "router",
        **typed,
    }
    return [target.name for target in targets_of(**words)]


def typed(**words: Any) -> Settings:
    return settings_of(
        **{
            "scenarios": "counter",
            "targets": targets_of(
                embedded=words.pop("embedded", False),
                node=False,
                router=False,
                nodes=[],
                addresses=[],
                routings="router",
            ),
            "in_flight": None,
            "rate": None,
            "objects": None,
            "processes": 1,
            "rounds": 3,
            "warm_up_s": 1.0,
            "seconds": 5.0,
            "timeout_s": 30.0,
            "seed": 0,
            "app": None,
            "data": None,
            "partitions": None,
            "limits": [],
            "config_file": None,
            **words,
        }
    )


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ({}, ["one node"]),
        ({"embedded": True}, ["embedded"]),
        ({"router": True}, ["router, 1 node"]),
        ({"router": True, "nodes": [3]}, ["router, 3 nodes"]),
        ({"node": True, "nodes": [1, 3, 3]}, ["one node", "router, 1 node", "router, 3 nodes"]),
        ({"nodes": [2], "routings": "direct,router"}, ["router, 2 nodes", "direct, 2 nodes"]),
        ({"addresses": ["h:1"], "routings": "direct"}, ["direct, h:1"]),
        ({"addresses": ["h:1", "h:2"], "embedded": True}, ["embedded", "h:1", "h:2"]),
    ],
)
def test_what_is_called_has_a_name(words: dict[str, Any], names: list[str]) -> None:
    assert targets(**words) == names


def test_ways_to_call_the_same_nodes_share_them() -> None:
    first, second = targets_of(
        embedded=False, node=False, router=False, nodes=[3], addresses=[], routings="router,direct"
    )

    assert first.place == second.place
    assert (first.routing, second.routing) == ("router", "direct")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"routings": "direct"}, "--routing direct is for --nodes and --address"),
        ({"routings": "dirct", "nodes": [2]}, "router, direct, or router,direct, not 'dirct'"),
        ({"routings": "", "nodes": [2]}, "router, direct, or router,direct"),
    ],
)
def test_a_way_to_call_that_is_not_there_is_refused(words: dict[str, Any], text: str) -> None:
    with pytest.raises(CommandFailed, match=text):
        targets(**words)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="an address is host:port"):
        targets(addresses=["nowhere"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"scenarios": "conter"}, "no scenario 'conter': did you mean 'counter'"),
        ({"scenarios": " , "}, "which scenario"),
        ({"scenarios": "shop:"}, "no scenario 'shop:'"),
        ({"rate": 5.0, "in_flight": 5}, "leave --inflight out"),
        ({"in_flight": 2, "processes": 3}, "3 processes cannot share 2 calls in flight"),
        ({"embedded": True, "processes": 2}, "belongs to one process"),
        ({"embedded": True, "config_file": Path("x.toml")}, "reads ./perdure.toml"),
        ({"scenarios": "hot,create", "objects": 5}, "--objects means nothing to hot, create"),
        ({"app": "shop.py"}, "--app is for scenarios of yours"),
        ({"scenarios": "cold", "limits": ["activations_max=5"]}, "cold sets the limit"),
    ],
)
def test_what_does_not_go_together_is_refused(words: dict[str, Any], text: str) -> None:
    with pytest.raises(CommandFailed, match=text) as caught:
        typed(**words)

    assert caught.value.status == 2


def test_every_scenario_against_every_target_is_a_case() -> None:
    chosen = typed(scenarios="hot, counter,hot", in_flight=7)

    assert [str(case) for case in chosen.cases()] == ["hot, one node", "counter, one node"]
    assert chosen.in_flight == 7


def test_objects_are_as_many_as_somebody_says_where_that_means_something() -> None:
    chosen = typed(scenarios="counter,hot,create", objects=50)

    assert [chosen.objects_of(name) for name in chosen.scenarios] == [50, 1, 0]
    assert typed(scenarios="cold").objects_of("cold") == SCENARIOS["cold"].objects


def test_a_missing_extra_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.NEEDED, "hdrhistogram", "no_such_module_anywhere")

    with pytest.raises(CommandFailed, match=r"needs hdrhistogram: pip install 'perdure\[bench\]'"):
        CliRunner().invoke(cli.bench, [], catch_exceptions=False)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    with pytest.raises(CommandFailed, match="cannot be written"):
        measure_all(typed(), None, tmp_path / "no" / "such" / "folder.html")


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": "perdure bench 0"}'])
def test_only_results_are_compared(tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)

    with pytest.raises(CommandFailed, match="was not written by `perdure bench --json`"):
        compare_files(file, file)
    with pytest.raises(CommandFailed, match="cannot be read"):
        compare_files(tmp_path / "none.json", file)


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"format": "perdure bench 1"}')

    with pytest.raises(CommandFailed, match=r"is damaged: there is no 'results'"):
        compare_files(file, file)


# Scenarios of the user's.


OWN = """
async def buy(number, chance): ...
async def too_few(number): ...
def no_coroutine(number, chance): ...
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("by", r"there is no 'by' in .*: did you mean 'buy'"),
        ("too_few", r"async def too_few\(number: int, chance: Random\)"),
        ("no_coroutine", r"async def no_coroutine\("),
    ],
)
def test_a_function_that_cannot_be_a_scenario_says_how_one_looks(
    tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / f"own_functions_{name}.py"
    file.write_text(OWN)

    with pytest.raises(ConfigError, match=text):
        find_own(f"{file}:{name}")


def test_a_function_of_the_users_is_found_with_what_prepares_it(tmp_path: Path) -> None:
    file = tmp_path / "own_functions_b.py"
    file.write_text(f"{OWN}\nasync def prepare(): ...\n")

    own = find_own(f"{file}:buy")

    assert own.function.__name__ == "buy"
    assert own.prepare is not None


def test_a_prepare_that_cannot_be_called_says_how_one_looks(tmp_path: Path) -> None:
    file = tmp_path / "own_functions_c.py"
    file.write_text(f"{OWN}\nasync def prepare(number): ...\n")

    with pytest.raises(ConfigError, match=r"async def prepare\(\)"):
        find_own(f"{file}:buy")
