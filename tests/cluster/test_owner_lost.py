"""What a caller is told when the node that owns an object is away, or goes away."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from harness.app import has_entered, until_entered
from harness.processes import READY_S, Cluster, running_cluster
from harness.raw import GET_OR_CREATE, RawClient, Refused, refused, request, told

pytestmark = pytest.mark.cluster

APP = Path(__file__).parents[1] / "harness" / "app.py"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(APP, tmp_path_factory.mktemp("owner") / "data") as running:
        yield running


@pytest.mark.parametrize("method", ["add", "get"])
def test_a_call_to_an_owner_that_is_away_did_not_run_and_says_so(
    cluster: Cluster, method: str
) -> None:
    with RawClient(cluster.address) as client:
        client.ask("TestCounter", "away", operation=GET_OR_CREATE)
        before = client.ask("TestCounter", "away", "get")
        with cluster.without_node(cluster.owner_address("TestCounter", "away")):
            # A first call may still find the connection that is about to break.
            with pytest.raises(grpc.RpcError):
                client.ask("TestCounter", "away", "get", timeout_s=2.0)
            how = told(client, "TestCounter", "away", method, timeout_s=2.0)

        assert (how.status, how.reason, how.applied) == ("UNAVAILABLE", "NO_OWNER", "no")
        assert client.ask("TestCounter", "away", "get") == before


def test_objects_of_other_nodes_answer_while_one_is_away(cluster: Cluster) -> None:
    away = cluster.owner_address("TestCounter", "away")
    other = next(
        f"other-{n}"
        for n in range(1_000)
        if cluster.owner_address("TestCounter", f"other-{n}") != away
    )
    with RawClient(cluster.address) as client, cluster.without_node(away):
        client.ask("TestCounter", other, operation=GET_OR_CREATE)

        assert client.ask("TestCounter", other, "add", [3]) == 3


def test_a_call_whose_owner_dies_in_its_middle_is_told_that_it_may_have_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    door = tmp_path / "door"
    with RawClient(cluster.address) as client:
        client.ask("Gate", "dies", operation=GET_OR_CREATE)
        timeout_s = 3.0
        while not (how := die_in_its_middle(cluster, client, door, timeout_s)).reason:
            timeout_s *= 2  # A machine that is busy says nothing in time.
        door.touch()

        assert how.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert how.reason in ("OWNER_LOST", "DEADLINE_EXCEEDED")
        assert how.applied == "unknown"


def die_in_its_middle(cluster: Cluster, client: RawClient, door: Path, timeout_s: float) -> Refused:
    """Return what is said of a call whose owner dies while it runs; nothing: it was too late."""
    inside = client.stub.Call.future(
        request("Gate", "dies", "wait_for", [str(door)]), timeout=timeout_s
    )
    while not (has_entered(door) or inside.done()):
        time.sleep(0.01)
    with (
        cluster.without_node(cluster.owner_address("Gate", "dies")),
        pytest.raises(grpc.RpcError) as caught,
    ):
        inside.result()
    return refused(caught.value)


def test_a_call_whose_owner_comes_back_in_time_is_answered_and_has_run_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    door = tmp_path / "door"
    with RawClient(cluster.address) as client:
        client.ask("Gate", "back", operation=GET_OR_CREATE)
        inside = client.stub.Call.future(
            request("Gate", "back", "wait_for", [str(door)]), timeout=READY_S
        )
        until_entered(door)
        with cluster.without_node(cluster.owner_address("Gate", "back")):
            door.touch()

        assert json.loads(inside.result().result.data) == 1
        assert client.ask("Gate", "back", "pass_by") == 2


@pytest.mark.parametrize("kind", ["perdure_router", "perdure_node"])
def test_a_server_that_is_stopped_politely_answers_the_calls_it_has(
    cluster: Cluster, tmp_path: Path, kind: str
) -> None:
    door = tmp_path / "door"
    gate = f"stopped-{kind}"
    with RawClient(cluster.address) as client:
        client.ask("Gate", gate, operation=GET_OR_CREATE)
        inside = client.stub.Call.future(
            request("Gate", gate, "wait_for", [str(door)]), timeout=READY_S
        )
        until_entered(door)

        stopped = cluster.kill(kind, by=signal.SIGTERM)
        door.touch()

        assert stopped
        assert json.loads(inside.result().result.data) == 1
        cluster.wait_until_served()
        assert client.ask("Gate", gate, "pass_by") == 2
