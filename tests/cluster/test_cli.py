"""The command line as people use it: real processes, real signals, what is printed and returned."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from harness.processes import Cluster, free_port, running_cluster

pytestmark = pytest.mark.cluster

APP = """
from perdure import DurableObject, durable


@durable.object
class Counter(DurableObject):
    def __init__(self, counter_id):
        super().__init__(counter_id)
        self.value = 0

    async def increment(self, amount: int = 1, *, note: str = "") -> int:
        self.value += amount
        return self.value

    async def fail(self):
        raise ValueError("no luck\\ntoday")

    @durable.shared
    async def peek(self) -> dict:
        return {"value": self.value, "id": self.object_id}


@durable.object
class Empty(DurableObject):
    pass


if __name__ == "__main__":
    raise SystemExit("never run as a script")
"""


def perdure(
    *words: str,
    address: str | None = None,
    cwd: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {name: value for name, value in os.environ.items() if "PERDURE" not in name}
    environment |= settings or {}
    if address is not None:
        environment["PERDURE_ADDRESS"] = address
    return subprocess.run(
        [sys.executable, "-m", "perdure.cli.main", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=90,
    )


def printed(*words: str, address: str) -> str:
    """Run a command that must succeed, and return its output."""
    done = perdure(*words, address=address)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(*words: str, address: str | None = None, cwd: Path | None = None) -> str:
    """Run a command that must fail with one line, and return the line."""
    done = perdure(*words, address=address, cwd=cwd)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("perdure: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("perdure: ").rstrip()


def wait_for_end(pids: list[int]) -> None:
    """Return once none of these processes lives; they need not be our children."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], 30)[0], f"process {pid} lives on"
        finally:
            os.close(descriptor)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "counters.py"
    path.write_text(APP)
    return path


@pytest.fixture(scope="module")
def cluster(app: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(app, tmp_path_factory.mktemp("shared") / "data", nodes=2) as running:
        yield running


def test_a_method_is_called_with_arguments_by_name_by_position_or_as_json(
    cluster: Cluster,
) -> None:
    at = cluster.address

    assert printed("call", "--create", "Counter/args", "increment", address=at) == "1\n"
    assert printed("call", "Counter/args", "increment", "amount=2", "note=x", address=at) == "3\n"
    assert printed("call", "Counter/args", "increment", "3", address=at) == "6\n"
    assert printed("call", "Counter/args", "increment", "[4]", address=at) == "10\n"
    assert printed("call", "Counter/args", "increment", '{"amount": 5}', address=at) == "15\n"
    assert json.loads(printed("call", "Counter/args", "peek", address=at)) == {
        "value": 15,
        "id": "args",
    }


def test_a_call_with_the_same_key_gets_the_first_answer_again(cluster: Cluster) -> None:
    words = ("call", "--create", "Counter/keyed", "increment", "--key", "k1")

    assert printed(*words, address=cluster.address) == "1\n"
    assert printed(*words, address=cluster.address) == "1\n"


def test_the_address_flag_wins_over_the_environment(cluster: Cluster) -> None:
    words = ("call", "--create", "Counter/flag", "peek", "--address", cluster.address)

    assert json.loads(printed(*words, address="127.0.0.1:1"))["value"] == 0


def test_get_prints_the_committed_state(cluster: Cluster) -> None:
    printed("call", "--create", "Counter/state", "increment", "7", address=cluster.address)

    assert json.loads(printed("get", "Counter/state", address=cluster.address)) == {"value": 7}


def test_an_object_that_is_not_there_is_not_made_by_looking(cluster: Cluster) -> None:
    at = cluster.address

    assert refused("get", "Counter/none", address=at) == "there is no Counter/none"
    assert refused("delete", "Counter/none", address=at) == "there is no Counter/none"
    assert refused("call", "Counter/none", "peek", address=at) == (
        "there is no Counter/none: --create makes one"
    )
    assert printed("ls", "Counter", "--prefix", "none", address=at) == ""


def test_a_deleted_object_is_gone(cluster: Cluster) -> None:
    at = cluster.address
    printed("call", "--create", "Counter/gone", "increment", address=at)

    assert printed("delete", "Counter/gone", address=at) == "deleted Counter/gone\n"
    assert refused("get", "Counter/gone", address=at) == "there is no Counter/gone"


def test_ls_lists_ids_of_all_partitions_in_order_page_by_page(cluster: Cluster) -> None:
    at = cluster.address
    ids = sorted(["page-ä", "page-z", *(f"page-{number}" for number in range(5))], key=str.encode)
    for id in reversed(ids):
        printed("call", "--create", f"Counter/{id}", "peek", address=at)

    assert printed("ls", "Counter", "--prefix", "page-", address=at).splitlines() == ids

    first = json.loads(
        printed("ls", "Counter", "--prefix", "page-", "--limit", "4", "--json", address=at)
    )
    assert first == {"ids": ids[:4], "after": ids[3]}
    words = ("ls", "Counter", "--prefix", "page-", "--json", "--after", first["after"])
    assert json.loads(printed(*words, address=at)) == {"ids": ids[4:], "after": None}

    cut = perdure("ls", "Counter", "--prefix", "page-", "--limit", "4", address=at)
    assert cut.stdout.splitlines() == ids[:4]
    assert f"--after {ids[3]!r}" in cut.stderr


def test_an_id_that_would_break_lines_is_listed_as_json(cluster: Cluster) -> None:
    id = "line\nbreak"
    printed("call", "--create", f"Counter/{id}", "peek", address=cluster.address)

    lines = printed("ls", "Counter", "--prefix", "line", address=cluster.address).splitlines()

    assert [json.loads(line) for line in lines] == [id]


def test_where_names_slot_partition_node_and_epoch(cluster: Cluster) -> None:
    at = cluster.address

    place = json.loads(printed("where", "Counter/anywhere", "--json", address=at))

    assert place["node"] in ("n1", "n2")
    assert place["address"] == cluster.owner_address("Counter", "anywhere")
    assert place["partition"] == place["slot"] * 64 >> 16
    assert place["epoch"] >= 1
    lines = printed("where", "Counter/anywhere", address=at).splitlines()
    assert [line.split() for line in lines] == [
        [name, str(place[name])]
        for name in ("slot", "partition", "node", "address", "epoch", "state")
    ]


def test_status_tells_that_every_partition_is_served(cluster: Cluster) -> None:
    at = cluster.address

    content = json.loads(printed("status", "--json", address=at))

    assert content["served"] is True
    assert content["partitions_served"] == content["partition_count"] == 64
    assert [node["name"] for node in content["nodes"]] == ["n1", "n2"]
    assert set(content["types"]) == {"Counter", "Empty"}
    text = printed("status", address=at)
    assert "32 of 32" in text
    assert "increment(" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("call", "Conter/x", "peek"), "did you mean 'Counter'"),
        (("call", "--create", "Counter/x", "increase"), "has no method 'increase'"),
        (("call", "--create", "Counter/x", "increment", "amount=many"), "amount"),
        (("call", "--create", "Counter/x", "increment", "amuont=1"), "amuont"),
        (("call", "--create", "Counter/x", "fail"), "no luck today"),
        (("call", "--create", "Counter/\0".replace("\0", "x" * 600), "peek"), "at most 512 bytes"),
        (("ls", "Conter"), "did you mean 'Counter'"),
    ],
)
def test_what_the_cluster_refuses_is_said_in_one_line(
    cluster: Cluster, words: tuple[str, ...], text: str
) -> None:
    assert text in refused(*words, address=cluster.address)


@pytest.mark.parametrize(
    "words", [("call", "Counter", "peek"), ("call", "Counter/x"), ("nothing",), ("ls",)]
)
def test_what_is_typed_wrongly_ends_with_status_2(words: tuple[str, ...]) -> None:
    done = perdure(*words, address="127.0.0.1:1")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_output_that_nobody_reads_any_more_is_no_error(cluster: Cluster) -> None:
    for number in range(3):
        printed("call", "--create", f"Counter/pipe-{number}", "peek", address=cluster.address)
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "perdure.cli.main", "ls", "Counter"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PERDURE_ADDRESS": cluster.address},
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        assert process.stderr.read() == b""


def test_without_an_address_the_text_says_what_to_set(tmp_path: Path) -> None:
    text = refused("status", cwd=tmp_path)

    assert "--address" in text
    assert "PERDURE_ADDRESS" in text


def test_status_of_nothing_is_1_at_once() -> None:
    assert "nothing answers at 127.0.0.1:" in refused("status", address=f"127.0.0.1:{free_port()}")


def test_status_of_something_that_does_not_answer_is_1_after_two_seconds_at_most() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_s = time.monotonic()

        refused("status", address=f"127.0.0.1:{silent.getsockname()[1]}")

        assert time.monotonic() - started_s < 2.0


def test_up_prints_addresses_types_and_methods_and_ignores_the_address_for_clients(
    app: Path, tmp_path: Path
) -> None:
    settings = {"PERDURE_ADDRESS": "127.0.0.1:1"}
    with running_cluster(app, tmp_path / "data", nodes=2, settings=settings) as cluster:
        addresses = cluster.node_addresses()
        assert cluster.stop() == 0
        text = cluster.output()

    for expected in (cluster.address, *addresses.values(), "Counter", "Empty", "peek()", "shared"):
        assert expected in text
    assert "increment(amount: int = 1" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_stops_all_cleanly(
    app: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        pids = cluster.pids("perdure_")
        assert len(pids) == 3
        supervisor = cluster._supervisor
        assert supervisor is not None

        # As the terminal does at Ctrl-C.
        os.killpg(supervisor.pid, number)

        assert supervisor.wait(30) == 0
        wait_for_end(pids)
        assert "Traceback" not in cluster.output()
        assert "killed" not in cluster.output()


def test_a_second_signal_kills(app: Path, tmp_path: Path) -> None:
    with running_cluster(app, tmp_path / "data", nodes=1) as cluster:
        pids = cluster.pids("perdure_")
        [node] = cluster.pids("perdure_node")
        supervisor = cluster._supervisor
        assert supervisor is not None
        # A frozen node does not drain.
        os.kill(node, signal.SIGSTOP)
        supervisor.send_signal(signal.SIGTERM)
        wait_for_end(cluster.pids("perdure_router"))

        supervisor.send_signal(signal.SIGTERM)

        supervisor.wait(15)
        wait_for_end(pids)


def test_nothing_outlives_a_supervisor_that_is_killed(app: Path, tmp_path: Path) -> None:
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        pids = cluster.pids("perdure_")
        supervisor = cluster._supervisor
        assert supervisor is not None

        supervisor.kill()
        supervisor.wait()

        wait_for_end(pids)
        cluster.start()
        assert cluster.stop() == 0


def test_a_node_that_is_killed_comes_back_on_its_port_with_its_data(
    app: Path, tmp_path: Path
) -> None:
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        at = cluster.address
        printed("call", "--create", "Counter/kept", "increment", "7", address=at)
        before = cluster.node_addresses()

        wait_for_end(cluster.kill("perdure_node"))

        assert printed("call", "Counter/kept", "increment", address=at) == "8\n"
        cluster.wait_until_served()
        assert cluster.node_addresses() == before
        assert "was ended by SIGKILL; starts again" in cluster.output()
        assert cluster.stop() == 0


def test_a_cluster_keeps_its_data_over_a_restart_and_another_port(
    app: Path, tmp_path: Path
) -> None:
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        printed("call", "--create", "Counter/kept", "increment", "7", address=cluster.address)
        assert cluster.stop() == 0
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        assert printed("call", "Counter/kept", "increment", address=cluster.address) == "8\n"


def test_other_nodes_than_the_data_was_made_with_are_refused(app: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_cluster(app, data, nodes=2) as cluster:
        held = refused("up", str(app), "--data", str(data))
        assert f"in use by process {cluster._supervisor.pid}" in held  # type: ignore[union-attr]
        assert cluster.stop() == 0

    text = refused("up", str(app), "--nodes", "3", "--data", str(data))
    assert "was made with 2 nodes, not 3" in text
    assert "--nodes 2" in text

    shutil.rmtree(data / "n2")
    done = perdure("up", str(app), "--data", str(data), "--port", str(free_port()))
    assert done.returncode == 1
    assert "n2 is not there: if this node had data there, restore it" in done.stderr


def test_a_port_in_use_is_named(app: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        text = refused("up", str(app), "--data", str(tmp_path / "data"), "--port", port)

    assert text.startswith(f"the port {port} is in use")


def test_an_app_that_cannot_be_imported_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import json\n\nprice = json.prices\n")
    words = ("--nodes", "2", "--data", str(tmp_path / "data"), "--port", str(free_port()))

    text = refused("up", str(tmp_path / "bad.py"), *words)

    assert "AttributeError: module 'json' has no attribute 'prices'" in text
    assert f"{tmp_path / 'bad.py'}, line 3" in text


def test_an_unknown_limit_is_named(app: Path, tmp_path: Path) -> None:
    words = ("--data", str(tmp_path / "data"), "--port", str(free_port()))

    text = refused("up", str(app), "--limit", "activation_max=5", *words)

    assert "there is no limit 'activation_max': did you mean 'activations_max'?" in text


class Host:
    """A server started by hand, as on a host of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._log = folder / f"{'-'.join(words[:3])}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "perdure.cli.main", *words],
                cwd=folder,
                stdout=log,
                stderr=log,
                env={**os.environ, "PERDURE_ADDRESS": "127.0.0.1:1"},
            )

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def log(self) -> str:
        return self._log.read_text()


def wait_until_served(folder: Path, hosts: list[Host]) -> None:
    give_up_s = time.monotonic() + 60
    while perdure("status", cwd=folder).returncode:
        assert time.monotonic() < give_up_s, [host.log() for host in hosts]
        for host in hosts:
            assert host.process.poll() is None, host.log()


def test_hosts_that_share_a_perdure_toml_are_a_cluster(app: Path, tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    (tmp_path / "perdure.toml").write_text(f"""
app = "{app}"
data = "data"

[cluster]
id = "shop"
partitions = 8
routers = ["127.0.0.1:{ports[0]}"]

[cluster.nodes]
n1 = "127.0.0.1:{ports[1]}"
n2 = "127.0.0.1:{ports[2]}"

[limits]
activations_max = 100
""")
    hosts = [
        Host(tmp_path, "node", "--name", "n1", "--init"),
        Host(tmp_path, "node", "--name", "n2", "--init"),
        Host(tmp_path, "router"),
    ]
    try:
        wait_until_served(tmp_path, hosts)
        done = perdure("call", "--create", "Counter/x", "increment", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "1\n")
        assert [host.stop() for host in reversed(hosts)] == [0, 0, 0]

        again = Host(tmp_path, "node", "--name", "n1", "--init")
        hosts.append(again)
        assert again.process.wait(30) == 78
        assert "start without --init" in again.log()

        shutil.rmtree(tmp_path / "data" / "n2")
        lost = Host(tmp_path, "node", "--name", "n2")
        hosts.append(lost)
        assert lost.process.wait(30) == 78
        assert "n2 is not there: if this node had data there, restore it" in lost.log()
        assert "there is no node 'n9'" in refused("node", "--name", "n9", cwd=tmp_path)
    finally:
        for host in hosts:
            host.process.kill()
            host.process.wait()


def test_a_described_cluster_that_says_too_little_is_refused(tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text('[cluster.nodes]\nn1 = "127.0.0.1:1"\n')

    assert "[cluster.nodes]" not in refused("node", "--name", "n1", cwd=tmp_path)
    assert "--listen" in refused("router", cwd=tmp_path)
