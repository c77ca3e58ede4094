"""One node as a process: how it ends, and what is there afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from harness.app import until_entered
from harness.processes import READY_S, describe, free_port
from harness.raw import GET_OR_CREATE, RawClient, request

pytestmark = pytest.mark.cluster

APP = Path(__file__).parents[1] / "harness" / "app.py"

PROGRAM = """
import asyncio, errno, os, sys
from pathlib import Path

from perdure_node.app import import_app
from perdure_node.journal.settings import JournalSettings
from perdure_node.server import serve
from perdure_node.settings import NodeSettings

app, data, port, new, broken = sys.argv[1:]

def sync(descriptor: int) -> None:
    if Path(broken).exists():
        raise OSError(errno.EIO, "the disk is broken")
    os.fdatasync(descriptor)

import_app(app)
address = f"127.0.0.1:{port}"
settings = NodeSettings(
    name="n1", data=Path(data), nodes={"n1": address}, listen=address, cluster_id="c",
    new=new == "new", journal=JournalSettings(sync=sync),
)
sys.exit(asyncio.run(serve(settings)))
"""


class NodeProcess:
    """A node whose disk breaks as soon as the file `broken` is there."""

    def __init__(self, folder: Path) -> None:
        self.broken = folder / "broken"
        self.port = free_port()
        self._data = folder / "data"

    def command(self, port: int) -> list[str]:
        """Return what starts a node process on these data."""
        new = "old" if self._data.exists() else "new"
        arguments = [APP, self._data, port, new, self.broken]
        return [sys.executable, "-c", PROGRAM, *map(str, arguments)]

    @contextmanager
    def running(self) -> Iterator[tuple[subprocess.Popen[bytes], RawClient]]:
        """Start it, and give the process and a client; kill it in the end if it still runs."""
        process = subprocess.Popen(self.command(self.port))
        try:
            describe(f"127.0.0.1:{self.port}", timeout_s=READY_S)
            with RawClient(f"127.0.0.1:{self.port}") as client:
                yield process, client
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def node(tmp_path: Path) -> NodeProcess:
    return NodeProcess(tmp_path)


def test_a_node_that_is_told_to_end_answers_the_calls_that_are_there_and_exits_with_0(
    node: NodeProcess, tmp_path: Path
) -> None:
    door = tmp_path / "door"
    with node.running() as (process, client):
        client.ask("Gate", "g", operation=GET_OR_CREATE)
        inside = client.stub.Call.future(request("Gate", "g", "wait_for", [str(door)]))
        until_entered(door)
        client.ask("TestCounter", "c", operation=GET_OR_CREATE)

        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as refused:
            while True:
                client.ask("TestCounter", "c", "add", [1])
        door.touch()

        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert json.loads(inside.result(timeout=READY_S).result.data) == 1
        assert process.wait(READY_S) == 0


def test_a_node_whose_disk_fails_acknowledges_nothing_more_and_exits_with_70(
    node: NodeProcess,
) -> None:
    with node.running() as (process, client):
        client.ask("TestCounter", "c", operation=GET_OR_CREATE)
        for raised in range(1, 6):
            assert client.ask("TestCounter", "c", "add", [1]) == raised

        node.broken.touch()
        with pytest.raises(grpc.RpcError) as caught:
            client.ask("TestCounter", "c", "add", [1])

        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS)
        assert process.wait(READY_S) == 70

    os.remove(node.broken)
    with node.running() as (_, client):
        # The last call was never acknowledged: it may be there or not.
        assert client.ask("TestCounter", "c", "get") in (5, 6)


def test_a_second_process_on_the_same_data_is_refused_and_the_first_serves_on(
    node: NodeProcess,
) -> None:
    with node.running() as (_, client):
        second = subprocess.run(
            node.command(free_port()), stderr=subprocess.PIPE, timeout=READY_S, check=False
        )

        assert second.returncode != 0
        assert b"StorageHeld" in second.stderr
        assert client.ask("TestCounter", "c", operation=GET_OR_CREATE) == {"value": 0}


def test_a_second_process_on_the_same_port_is_refused(node: NodeProcess, tmp_path: Path) -> None:
    other = NodeProcess(tmp_path / "other")
    with node.running() as (_, client):
        second = subprocess.run(
            other.command(node.port), stderr=subprocess.PIPE, timeout=READY_S, check=False
        )

        assert second.returncode != 0
        assert b"another process" in second.stderr
        assert client.ask("TestCounter", "c", operation=GET_OR_CREATE) == {"value": 0}
