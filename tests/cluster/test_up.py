"""Servers as people start and end them: `perdure up`, `perdure node` and `perdure router`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.commands import COUNTERS, perdure, printed, refused
from harness.processes import READY_S, Cluster, free_port, running_cluster, wait_for_end

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "counters.py"
    path.write_text(COUNTERS)
    return path


def servers(cluster: Cluster) -> list[int]:
    return cluster.pids("perdure_router") + cluster.pids("perdure_node")


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
        pids = servers(cluster)
        assert len(pids) == 3
        supervisor = cluster._supervisor
        assert supervisor is not None

        # As the terminal does at Ctrl-C.
        os.killpg(supervisor.pid, number)

        assert supervisor.wait(READY_S) == 0
        wait_for_end(pids)
        assert "Traceback" not in cluster.output()
        assert "killed" not in cluster.output()


def test_a_second_signal_kills(app: Path, tmp_path: Path) -> None:
    with running_cluster(app, tmp_path / "data", nodes=1) as cluster:
        pids = servers(cluster)
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
        pids = servers(cluster)
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


def test_nobody_else_is_given_the_port_of_a_node_that_is_dead(app: Path, tmp_path: Path) -> None:
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        address = next(iter(cluster.node_addresses().values()))
        host, _, port = address.rpartition(":")

        with cluster.without_node(address), socket.socket() as other:
            with pytest.raises(OSError, match="in use"):
                other.bind((host, int(port)))
            with pytest.raises(ConnectionRefusedError):
                other.connect((host, int(port)))

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
        return self.process.wait(READY_S)

    def log(self) -> str:
        return self._log.read_text()


def wait_until_served(folder: Path, hosts: list[Host]) -> None:
    give_up_s = time.monotonic() + READY_S
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
        assert again.process.wait(READY_S) == 78
        assert "start without --init" in again.log()

        shutil.rmtree(tmp_path / "data" / "n2")
        lost = Host(tmp_path, "node", "--name", "n2")
        hosts.append(lost)
        assert lost.process.wait(READY_S) == 78
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
