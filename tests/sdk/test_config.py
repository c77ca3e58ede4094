from __future__ import annotations

from pathlib import Path

import pytest

from perdure.config import Config, load_config, routing_of_clients
from perdure.errors import ConfigError

WHOLE = """
app = "shop.py"
data = "data"
log_level = "debug"
restart_wait_max = 0.5

[cluster]
id = "shop"
partitions = 32
routers = ["10.0.0.1:7400", "[::1]:7400"]

[cluster.nodes]
n1 = "10.0.0.1:7401"
n2 = "host-2.example:7401"

[limits]
activations_max = 1_000
retry_after_s = 0.1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "perdure.toml"


def test_a_file_describes_a_whole_cluster_and_its_paths_are_seen_from_it(file: Path) -> None:
    file.write_text(WHOLE)

    assert load_config(file, {}, {}) == Config(
        file=file,
        app=str(file.parent / "shop.py"),
        data=file.parent / "data",
        log_level="debug",
        restart_wait_max_s=0.5,
        cluster_id="shop",
        partitions=32,
        nodes={"n1": "10.0.0.1:7401", "n2": "host-2.example:7401"},
        routers=("10.0.0.1:7400", "[::1]:7400"),
        limits={"activations_max": 1_000, "retry_after_s": 0.1},
    )


def test_an_app_named_as_a_module_stays_a_name(file: Path) -> None:
    file.write_text('app = "shop.app"\n')

    assert load_config(file, {}, {}).app == "shop.app"


def test_the_file_of_the_current_folder_is_found(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[cluster]\npartitions = 5\n")
    monkeypatch.chdir(file.parent)

    assert load_config(None, {}, {}).partitions == 5


def test_without_a_file_nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert load_config(None, {}, {}) == Config()


def test_the_environment_wins_over_the_file_and_a_flag_over_both(file: Path) -> None:
    file.write_text(WHOLE)
    environment = {"PERDURE_CLUSTER_PARTITIONS": "16", "PERDURE_DATA": "/env"}

    config = load_config(file, environment, {"data": Path("/flag"), "app": None})

    assert (config.partitions, config.data) == (16, Path("/flag"))
    assert config.app == str(file.parent / "shop.py")


def test_every_setting_can_come_from_the_environment() -> None:
    environment = {
        "PERDURE_APP": "shop.py",
        "PERDURE_ADDRESS": "localhost:7400",
        "PERDURE_ROUTING": "direct",
        "PERDURE_LOG_LEVEL": "error",
        "PERDURE_RESTART_WAIT_MAX": "1",
        "PERDURE_CLUSTER_ID": "shop",
        "PERDURE_CLUSTER_NODES": "n1=10.0.0.1:7401, n2=10.0.0.2:7401",
        "PERDURE_CLUSTER_ROUTERS": "10.0.0.1:7400,10.0.0.2:7400",
        "PERDURE_LIMITS_ACTIVATIONS_MAX": "7",
        "PERDURE_LIMITS_RETRY_AFTER_S": "0.5",
        "PERDURE_SERVICE_HOST": "set by somebody else for something else",
    }

    assert load_config(None, environment, {}) == Config(
        app="shop.py",
        address="localhost:7400",
        routing="direct",
        log_level="error",
        restart_wait_max_s=1,
        cluster_id="shop",
        nodes={"n1": "10.0.0.1:7401", "n2": "10.0.0.2:7401"},
        routers=("10.0.0.1:7400", "10.0.0.2:7400"),
        limits={"activations_max": 7, "retry_after_s": 0.5},
    )


def test_clients_route_as_the_environment_says_else_the_file_else_by_the_router(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert routing_of_clients({}) == "router"

    file.write_text('routing = "direct"\n')

    assert routing_of_clients({}) == "direct"
    assert routing_of_clients({"PERDURE_ROUTING": "router"}) == "router"
    # What else a client's environment holds is none of its business.
    assert routing_of_clients({"PERDURE_CLUSTER_NODES": "no nodes"}) == "direct"


def test_a_routing_that_there_is_not_is_refused_and_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(ConfigError, match="PERDURE_ROUTING: router or direct, not 'fast'"):
        routing_of_clients({"PERDURE_ROUTING": "fast"})

    file.write_text("routing = 1\n")
    with pytest.raises(ConfigError, match=r"perdure\.toml: routing: router or direct, not 1"):
        routing_of_clients({})


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_config(None, {"PERDURE_ADDRESS": ""}, {}).address is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[cluster]\npartition = 3\n",
            r"cluster.partition is no setting: did you mean 'cluster.par",
        ),
        ("dta = 'x'\n", "dta is no setting: did you mean 'data'"),
        ("cluster = 3\n", r"cluster is a table: \[cluster\]"),
        ("[cluster]\npartitions = 0\n", "a number from 1 to 4096, not 0"),
        ("[cluster]\npartitions = 4097\n", "a number from 1 to 4096, not 4097"),
        ("[cluster]\npartitions = 'many'\n", "a number that is not negative, not 'many'"),
        ("[cluster]\npartitions = true\n", "a number that is not negative, not True"),
        ("[cluster]\nrouters = ['here']\n", "an address is host:port, not 'here'"),
        ("[cluster]\nrouters = ['here:99999']\n", "an address is host:port, not 'here:99999'"),
        ("[cluster]\nrouters = 'a:1,b'\n", "an address is host:port, not 'b'"),
        ("[cluster.nodes]\nn1 = 7\n", "nodes.n1: an address is host:port, not 7"),
        ("[cluster.nodes]\n'../x' = 'a:1'\n", r"a node's name has .* not '\.\./x'"),
        ("[cluster.nodes]\na = 'h:1'\nb = 'h:1'\n", "two nodes have the same address"),
        ("[cluster.nodes]\n", "a table of names and addresses"),
        ("[limits]\nactivations_max = -1\n", "a number that is not negative, not -1"),
        ("[limits]\nactivations_max = inf\n", "a number that is not negative, not inf"),
        ("restart_wait_max = -1\n", "a number that is not negative, not -1"),
        ("log_level = 'loud'\n", "debug, info, warning or error, not 'loud'"),
        ("data = ''\n", "a text that is not empty, not ''"),
        ("data = [\n", "is no TOML"),
        ("data = '\xff'\n", "is no TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(file: Path, text: str, problem: str) -> None:
    file.write_bytes(text.encode("latin-1"))

    with pytest.raises(ConfigError, match=problem) as caught:
        load_config(file, {}, {})

    assert str(file) in str(caught.value)


def test_a_mistake_in_the_environment_is_named_with_the_variable() -> None:
    with pytest.raises(ConfigError, match="PERDURE_CLUSTER_PARTITIONS: a number"):
        load_config(None, {"PERDURE_CLUSTER_PARTITIONS": "x"}, {})


def test_a_node_named_twice_in_the_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="a name is given twice"):
        load_config(None, {"PERDURE_CLUSTER_NODES": "n1=a:1,n1=b:1"}, {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        load_config(tmp_path / "none.toml", {}, {})
