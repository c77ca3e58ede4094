"""Workflows for clients in other languages: gRPC's stubs and JSON, no SDK."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from harness.flows import fresh
from harness.processes import Cluster, running_cluster
from harness.raw import NOTIFY, RESULT, RESUME, START, RawClient, Refused, refused

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_200)]

APP = Path(__file__).parents[1] / "harness" / "flow_app.py"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    data = tmp_path_factory.mktemp("raw") / "data"
    with running_cluster(APP, data) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[RawClient]:
    with RawClient(cluster.address) as opened:
        yield opened


def start(client: RawClient, workflow: str, id: str, arguments: Any = None, **options: Any) -> Any:
    return client.ask("workflow", id, workflow, arguments, operation=START, **options)


def resume(client: RawClient, token: str, payload: Any = None, **options: Any) -> Any:
    return client.ask("hook", token, arguments=payload, operation=RESUME, **options)


def notify(client: RawClient, token: str, payload: Any = None, **options: Any) -> Any:
    return client.ask("hook", token, arguments=payload, operation=NOTIFY, **options)


def result(client: RawClient, id: str, **options: Any) -> Any:
    return client.ask("workflow", id, operation=RESULT, **options)


def refusal(ask: Any, *args: Any, **options: Any) -> Refused:
    with pytest.raises(grpc.RpcError) as caught:
        ask(*args, **options)
    return refused(caught.value)


def test_a_counter_is_started_and_resumed_with_json(client: RawClient) -> None:
    id = fresh("raw")
    assert start(client, "flow_counter", id) is True
    assert start(client, "flow_counter", id) is False, "the same id again finds it there"
    assert resume(client, f"counter:{id}", {"type": "increment"}) == {"count": 1}
    assert resume(client, f"counter:{id}", {"type": "increment", "amount": 4}) == {"count": 5}
    assert notify(client, f"counter:{id}", {"type": "decrement"}) is None
    assert resume(client, f"counter:{id}", {"type": "get"}) == {"count": 4}


def test_a_payload_is_checked_and_the_refusal_names_the_fields(client: RawClient) -> None:
    id = fresh("raw")
    start(client, "flow_counter", id)
    found = refusal(resume, client, f"counter:{id}", {"type": "explode", "amount": "many"})
    assert (found.status, found.reason) == ("INVALID_ARGUMENT", "BAD_HOOK_PAYLOAD")
    assert found.applied == "no"
    assert "type" in found.text
    assert "amount" in found.text
    assert resume(client, f"counter:{id}", {"type": "get"}) == {"count": 0}


def test_arguments_go_in_by_position_and_by_name_and_the_result_comes_out(
    client: RawClient,
) -> None:
    for arguments in ([20, 22], {"one": 20, "other": 22}):
        id = fresh("raw")
        assert start(client, "flow_adds", id, arguments) is True
        assert result(client, id) == 42
    found = refusal(start, client, "flow_adds", id, [1, 1])
    assert (found.status, found.reason) == ("ALREADY_EXISTS", "RUN_EXISTS")
    found = refusal(start, client, "flow_adds", fresh("raw"), ["one", 1])
    assert (found.status, found.reason) == ("INVALID_ARGUMENT", "BAD_ARGUMENTS")
    found = refusal(start, client, "flow_ads", fresh("raw"))
    assert (found.status, found.reason) == ("UNIMPLEMENTED", "UNKNOWN_METHOD")


def test_a_result_is_waited_for(client: RawClient) -> None:
    id = fresh("raw")
    start(client, "flow_takes", id, [f"T-{id}", 2])
    asking = threading.Event()

    def ask() -> Any:
        asking.set()
        return result(client, id)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask)
        asking.wait()
        assert notify(client, f"T-{id}", {"a": [1, None, "x"]}) is None
        assert notify(client, f"T-{id}") is None, "no payload is null"
        assert waiting.result(60) == [{"a": [1, None, "x"]}, None]
    assert result(client, id) == [{"a": [1, None, "x"]}, None], "also when it is over"


def test_what_is_not_there_or_not_any_more_is_refused(client: RawClient) -> None:
    found = refusal(resume, client, fresh("nobody's"), 1)
    assert (found.status, found.reason, found.applied) == ("NOT_FOUND", "HOOK_NOT_FOUND", "no")
    found = refusal(result, client, fresh("raw"))
    assert (found.status, found.reason) == ("NOT_FOUND", "RUN_NOT_FOUND")

    id = fresh("raw")
    start(client, "flow_takes", id, [f"T-{id}", 1])
    notify(client, f"T-{id}", 1)
    assert result(client, id) == [1]
    found = refusal(resume, client, f"T-{id}", 2)
    assert (found.status, found.reason) == ("FAILED_PRECONDITION", "HOOK_CLOSED")

    failed = fresh("raw")
    start(client, "flow_fails", failed, ["at once"])
    found = refusal(result, client, failed)
    assert (found.status, found.reason) == ("INTERNAL", "HANDLER_FAILED")
    assert found.facts["class"] == "FlowOutOfStock"


def test_a_token_goes_from_run_to_run(client: RawClient) -> None:
    token = fresh("T")
    for turn in range(3):
        id = fresh("raw")
        start(client, "flow_takes", id, [token, 1])
        assert notify(client, token, turn) is None
        assert result(client, id) == [turn]


def test_a_request_that_means_nothing_says_what_to_write(client: RawClient) -> None:
    for ask, args, words in (
        (client.ask, ("Counter", "a"), "'hook'"),
        (client.ask, ("hook", "a", "method"), "takes no method"),
    ):
        found = refusal(ask, *args, operation=RESUME)
        assert (found.status, found.reason) == ("INVALID_ARGUMENT", "BAD_ARGUMENTS")
        assert words in found.text
    found = refusal(client.ask, "workflow", "r", arguments=[], operation=RESULT)
    assert "takes no arguments" in found.text
    for ask, args in ((resume, ("T", 1)), (start, ("flow_adds", "r"))):
        found = refusal(ask, client, *args, key="k")
        assert (found.status, found.reason) == ("INVALID_ARGUMENT", "BAD_ARGUMENTS")
        assert "idempotency key" in found.text


def test_a_node_resumes_runs_of_other_nodes_for_its_own_tokens(cluster: Cluster) -> None:
    ids = [fresh("raw") for _ in range(6)]
    for id in ids:
        token = f"counter:{id}"
        with RawClient(cluster.owner_address("workflow", id)) as at_the_run:
            assert start(at_the_run, "flow_counter", id) is True
        with RawClient(cluster.owner_address("hook", token)) as at_the_token:
            assert resume(at_the_token, token, {"type": "increment"}) == {"count": 1}
        with RawClient(cluster.other_address("hook", token)) as elsewhere:
            found = refusal(resume, elsewhere, token, {"type": "increment"})
        assert (found.status, found.reason) == ("FAILED_PRECONDITION", "NOT_OWNER")


def test_runs_outlive_kills_for_clients_without_an_sdk(cluster: Cluster) -> None:
    with RawClient(cluster.address) as client:
        id = fresh("raw")
        start(client, "flow_counter", id)
        for count in range(1, 4):
            payload = {"type": "increment"}
            assert resume(client, f"counter:{id}", payload, timeout_s=60) == {"count": count}
            cluster.kill("perdure_node", only=count)
            cluster.wait_until_served()
        assert resume(client, f"counter:{id}", {"type": "get"}) == {"count": 3}
