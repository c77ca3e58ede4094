"""Every kind of bad input, sent to the router and straight to a node.

Each is answered with the status that its kind has, and changes nothing: a good call to the same
object follows, and finds the state as it was before.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from harness.app import until_entered
from harness.bad_inputs import EXHAUSTED, MIB, TABLE, bomb, nested
from harness.processes import READY_S, Cluster, rss_bytes, running_cluster
from harness.raw import GET, GET_OR_CREATE, RawClient, refused, request, told

pytestmark = pytest.mark.cluster

MAILBOX_CALLS_MAX = 100


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    app = Path(__file__).parents[1] / "harness" / "app.py"
    settings = {"PERDURE_LIMITS_MAILBOX_CALLS_MAX": str(MAILBOX_CALLS_MAX)}
    data = tmp_path_factory.mktemp("bad") / "data"
    with running_cluster(app, data, settings=settings) as running:
        yield running


TYPES = ("Sink", "TestCounter", "Caller")


class Server:
    """A router, or the node that owns the objects of a test."""

    def __init__(self, cluster: Cluster, kind: str, name: str, type: str = "Sink") -> None:
        self.id = name
        self.address = cluster.address
        if kind == "node":
            self.id = next(
                id
                for id in (f"{name}-{n}" for n in range(1_000))
                if len({cluster.owner_address(each, id) for each in (*TYPES, type)}) == 1
            )
            self.address = cluster.owner_address("Sink", self.id)
        self.client = RawClient(self.address)
        for each in TYPES:
            self.client.ask(each, self.id, operation=GET_OR_CREATE)
        self.client.ask("TestCounter", self.id, "add", [1], key=f"key-{self.id}")
        with RawClient(cluster.address) as router:
            router.ask("Caller", f"{self.id}-b", operation=GET_OR_CREATE)

    def state(self) -> dict[str, Any]:
        """What the objects hold."""
        return {type: self.client.ask(type, self.id, operation=GET) for type in TYPES}


@pytest.mark.parametrize("kind", ["router", "node"])
@pytest.mark.parametrize("row", range(len(TABLE)), ids=[bad.name for bad in TABLE])
def test_bad_input_is_refused_with_its_status_and_changes_nothing(
    cluster: Cluster, row: int, kind: str
) -> None:
    bad = TABLE[row]
    server = Server(cluster, kind, f"{kind}-{row}", bad.type)
    before = server.state()

    with pytest.raises(grpc.RpcError) as caught:
        bad.send(server.client, server.id)
    how = refused(caught.value)

    assert (how.status, how.reason) == (bad.status, bad.reason)
    if bad.reason:
        assert how.applied == bad.applied
    assert bad.says in how.text
    assert not [text for text in bad.never_says if text in how.text]
    assert server.state() == before
    assert server.client.ask("Sink", server.id, "echo", ["good"]) == "good"
    assert server.client.ask("Sink", server.id, operation=GET)["entered"] == 1
    server.client.channel.close()


@pytest.mark.parametrize("kind", ["router", "node"])
@pytest.mark.parametrize(
    "text",
    [
        *("0.1", "1e-320", "9007199254740991", '"a\\u0000b"', '"\\ud83d\\ude00"', "[[]]"),
        *(
            '{"$float": "-0.0"}',
            '{"$float": "nan"}',
            '{"$float": "inf"}',
            '{"$int": "' + "9" * 4_000 + '"}',
        ),
        *('{"$bytes": "AP8="}', '{"$set": [1, 2]}', '{"$tuple": [1, [2]]}', "null", "{}"),
        *('{"$datetime": "2024-02-29T12:00:00+01:00"}', '{"$dict": [[1, "a"]]}', nested(60)),
    ],
)
def test_a_value_comes_back_exactly_as_it_was_sent(cluster: Cluster, kind: str, text: str) -> None:
    server = Server(cluster, kind, f"echo-{kind}")

    answer = server.client.stub.Call(request("Sink", server.id, "echo", text=f"[{text}]"))

    assert json.loads(answer.result.data) == json.loads(text)
    server.client.channel.close()


@pytest.mark.parametrize("kind", ["router", "node"])
def test_ids_are_kept_byte_for_byte(cluster: Cluster, kind: str) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    addresses = {
        id: cluster.address if kind == "router" else cluster.owner_address("TestCounter", id)
        for id in (composed, decomposed, "x" * 512, " ", "\u202e\U0001f600")
    }
    for amount, (id, address) in enumerate(addresses.items(), start=1):
        with RawClient(address) as client:
            client.ask("TestCounter", id, operation=GET_OR_CREATE)
            before = client.ask("TestCounter", id, "get")
            assert client.ask("TestCounter", id, "add", [amount]) == before + amount


@pytest.mark.parametrize("kind", ["router", "node"])
def test_the_same_key_and_arguments_get_the_first_answer_again(cluster: Cluster, kind: str) -> None:
    server = Server(cluster, kind, f"again-{kind}")

    answers = [
        server.client.ask("TestCounter", server.id, "add", arguments, key=f"key-{server.id}")
        for arguments in ([1], {"amount": 1}, [1])
    ]

    assert answers == [1, 1, 1]
    assert server.client.ask("TestCounter", server.id, "get") == 1
    server.client.channel.close()


@pytest.mark.parametrize("kind", ["router", "node"])
@pytest.mark.parametrize("timeout_s", [None, 3e8, 90_000.0])
def test_a_missing_or_absurd_deadline_is_no_error(
    cluster: Cluster, kind: str, timeout_s: float | None
) -> None:
    server = Server(cluster, kind, f"deadline-{kind}")

    assert server.client.ask("Sink", server.id, "echo", [1], timeout_s=timeout_s) == 1
    server.client.channel.close()


@pytest.mark.parametrize("kind", ["router", "node"])
def test_a_call_whose_deadline_passes_while_it_waits_does_not_run(
    cluster: Cluster, kind: str, tmp_path: Path
) -> None:
    server = Server(cluster, kind, f"late-{kind}")
    gate = next(
        id
        for id in (f"gate-{kind}-{n}" for n in range(1_000))
        if kind == "router" or cluster.owner_address("Gate", id) == server.address
    )
    door = tmp_path / "door"
    server.client.ask("Gate", gate, operation=GET_OR_CREATE)
    inside = server.client.stub.Call.future(request("Gate", gate, "wait_for", [str(door)]))
    until_entered(door)

    how = told(server.client, "Gate", gate, "pass_by", timeout_s=0.3)
    door.touch()

    assert how.status == "DEADLINE_EXCEEDED"
    assert json.loads(inside.result(timeout=READY_S).result.data) == 1
    assert server.client.ask("Gate", gate, "pass_by") == 2
    server.client.channel.close()


@pytest.mark.parametrize("type", ["Sink", "TestCounter", "Ledger"])
def test_a_node_refuses_what_it_does_not_own_and_says_that_nothing_was_done(
    cluster: Cluster, type: str
) -> None:
    with (
        RawClient(cluster.address) as router,
        RawClient(cluster.other_address(type, "elsewhere")) as node,
    ):
        router.ask(type, "elsewhere", operation=GET_OR_CREATE)
        before = router.ask(type, "elsewhere", operation=GET)

        with pytest.raises(grpc.RpcError) as caught:
            node.ask(type, "elsewhere", "add", [1])
        how = refused(caught.value)

        assert (how.status, how.reason, how.applied) == ("FAILED_PRECONDITION", "NOT_OWNER", "no")
        assert how.facts["epoch"].isdigit()
        assert router.ask(type, "elsewhere", operation=GET) == before


@pytest.mark.parametrize("kind", ["router", "node"])
def test_a_full_mailbox_refuses_at_once_and_says_when_to_try_again(
    cluster: Cluster, kind: str, tmp_path: Path
) -> None:
    gate = f"full-{kind}"
    address = cluster.address if kind == "router" else cluster.owner_address("Gate", gate)
    door = tmp_path / "door"
    with RawClient(address) as client:
        client.ask("Gate", gate, operation=GET_OR_CREATE)
        inside = client.stub.Call.future(request("Gate", gate, "wait_for", [str(door)]))
        until_entered(door)
        waiting = [
            client.stub.Call.future(request("Gate", gate, "pass_by"))
            for _ in range(3 * MAILBOX_CALLS_MAX)
        ]
        first_refused = next(call for call in done_first(waiting) if call.exception() is not None)
        door.touch()
        answered = [call for call in waiting if call.exception() is None]

        how = refused(first_refused.exception())
        assert (how.status, how.reason, how.applied) == (EXHAUSTED, "BACKPRESSURE", "no")
        assert int(how.facts["retry_after_ms"]) > 0
        assert json.loads(inside.result().result.data) == 1
        # Every call that was not refused has run, once, and no other has.
        assert client.ask("Gate", gate, operation=GET)["passed"] == 1 + len(answered)


def done_first(calls: list[Any]) -> Iterator[Any]:
    """Yield calls as they end."""
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for call in calls:
        call.add_done_callback(ended.put)
    for _ in calls:
        yield ended.get(timeout=READY_S)


@pytest.mark.parametrize("kind", ["perdure_router", "perdure_node"])
def test_a_compressed_bomb_costs_no_memory(cluster: Cluster, kind: str) -> None:
    server = Server(cluster, kind.removeprefix("perdure_"), f"bomb-{kind[8:]}")
    before = {pid: rss_bytes(pid) for pid in cluster.pids(kind)}

    with pytest.raises(grpc.RpcError):
        bomb(200_000_000)(server.client, server.id)

    grown = max(rss_bytes(pid) - size for pid, size in before.items())
    assert grown < 40 * MIB
    server.client.channel.close()
