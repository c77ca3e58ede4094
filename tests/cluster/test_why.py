"""`perdure why` and `perdure calls`, on a real cluster."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.commands import answered, perdure, printed, refused
from harness.processes import READY_S, Cluster, describe, running_cluster, served_partitions

from perdure.ids import ObjectKey, partition_of

pytestmark = pytest.mark.cluster

APP = """
import asyncio
import os
from pathlib import Path

from perdure import DurableContext, DurableObject, durable

FOLDER = Path(os.environ["WHY_FOLDER"])


@durable.service("doors")
class Doors:
    async def pass_through(self, payload: dict) -> str:
        while not (FOLDER / payload["door"]).exists():
            await asyncio.sleep(0.01)
        return "passed"


@durable.object
class Stuck(DurableObject):
    def __init__(self, object_id):
        super().__init__(object_id)
        self.n = 0

    async def pass_door(self, ctx: DurableContext, door: str) -> int:
        self.n += 1
        await self.save()
        await ctx.call("doors", "pass_through", {"door": door})
        self.n += 10
        return self.n

    async def change_mind(self, ctx: DurableContext) -> str:
        one = (FOLDER / "mind").read_text()
        await ctx.run("same", lambda: 1)
        await ctx.run(one, lambda: 2)
        self.n += 1
        await self.save()
        await ctx.call("doors", "pass_through", {"door": "mind-door"})
        return one

    async def ask(self, other: str) -> int:
        return await durable.ref(Stuck, other).add()

    async def add(self) -> int:
        self.n += 1
        return self.n

    async def bill_later(self, ctx: DurableContext) -> None:
        ctx.after(7200, self.add, name="bill")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doors")


@pytest.fixture(scope="module")
def cluster(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    app = tmp_path_factory.mktemp("app") / "stuck.py"
    app.write_text(APP)
    data = tmp_path_factory.mktemp("why") / "data"
    with running_cluster(app, data, nodes=2, settings={"WHY_FOLDER": str(folder)}) as running:
        yield running


@contextmanager
def calling(at: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Make a call that takes as long as the block, or longer."""
    command = [sys.executable, "-m", "perdure.cli.main", "call", *words]
    command += ["--address", at, "--timeout", str(READY_S)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def why(at: str, target: str) -> Any:
    return json.loads(answered("why", target, "--json", address=at).stdout)


def why_when(at: str, target: str, state: str) -> Any:
    """Ask until an object is in a state: each question takes its time."""
    for _ in range(100):
        answer = why(at, target)
        if answer["state"] == state:
            return answer
    raise AssertionError(f"{target} is never {state}: {answer['sentence']}")


def test_a_blocked_object_names_its_call_its_step_and_who_waits(
    cluster: Cluster, folder: Path
) -> None:
    at = cluster.address
    printed("call", "--create", "Stuck/s1", "add", address=at)
    with calling(at, "Stuck/s1", "pass_door", "door=d1") as first:
        why_when(at, "Stuck/s1", "running")
        with calling(at, "Stuck/s1", "add") as second:
            answer = why_when(at, "Stuck/s1", "blocked")

            assert re.fullmatch(
                r"Stuck/s1 has been running pass_door \(call [0-9a-f]{32}:\d+:\d+\) for [\d.]+ s, "
                r"at step 1 \(service doors\.pass_through\) for [\d.]+ s; "
                r"1 call waits, add, for [\d.]+ s",
                answer["sentence"],
            )
            assert (answer["node"], answer["partition"]) == owner("s1", cluster)
            assert answer["running"][0]["steps"][0]["attempt"] == 1
            text = printed("why", "Stuck", "s1", address=at)
            assert text.startswith("Stuck/s1 has been running pass_door")

            [held] = [c for c in listed(at, "--type", "Stuck") if c["state"] == "running"]
            assert (held["id"], held["method"], held["journalled"]) == ("s1", "pass_door", True)
            [waits] = [c for c in listed(at, "--older", "0") if c["state"] == "waiting"]
            assert (waits["id"], waits["method"]) == ("s1", "add")
            assert listed(at, "--parked") == []

            (folder / "d1").touch()
            assert first.communicate(timeout=READY_S)[0] == "12\n"
            assert second.communicate(timeout=READY_S)[0] == "13\n"
    assert why(at, "Stuck/s1")["state"] == "idle"


def owner(id: str, cluster: Cluster) -> tuple[str, int]:
    """Return the node and the partition of an object."""
    description = describe(cluster.address)
    partition = partition_of(ObjectKey("Stuck", id), description.partition_count)
    return served_partitions(description)[partition], partition


def listed(at: str, *words: str) -> list[Any]:
    calls: list[Any] = json.loads(printed("calls", "--json", *words, address=at))["calls"]
    return calls


def test_a_call_that_waits_for_another_object_says_whom_to_look_at_next(
    cluster: Cluster, folder: Path
) -> None:
    at = cluster.address
    for id in ("asks", "asked"):
        printed("call", "--create", f"Stuck/{id}", "add", address=at)
    with calling(at, "Stuck/asked", "pass_door", "door=d2") as first:
        why_when(at, "Stuck/asked", "running")
        with calling(at, "Stuck/asks", "ask", "other=asked") as second:
            why_when(at, "Stuck/asked", "blocked")
            text = printed("why", "Stuck/asks", address=at)
            (folder / "d2").touch()
            assert (first.wait(READY_S), second.wait(READY_S)) == (0, 0)

    assert "at step 1 (call Stuck[asked].add) for" in text
    assert "perdure why Stuck/asked" in text


def test_an_idle_object_says_whether_it_is_in_memory_and_when_its_timer_fires(
    cluster: Cluster,
) -> None:
    at = cluster.address
    printed("call", "--create", "Stuck/idle", "add", address=at)
    first = why(at, "Stuck/idle")
    printed("call", "Stuck/idle", "bill_later", address=at)

    assert first["sentence"] == (
        "Stuck/idle is idle (in memory): no call runs or waits, and it has no timers"
    )
    assert why(at, "Stuck/idle")["sentence"] == (
        "Stuck/idle is idle (in memory): no call runs or waits, and its next timer 'bill' "
        "(method add) fires in 2.0 h"
    )


def test_what_is_not_there_is_said_in_one_line(cluster: Cluster) -> None:
    at = cluster.address

    assert refused("why", "Stuck/none", address=at) == "there is no Stuck/none"
    assert refused("why", "Stukc/s1", address=at) == (
        "there is no type 'Stukc': did you mean 'Stuck'?"
    )
    assert why(at, "Stuck/none")["state"] == "missing"
    assert refused("calls", "retry", "Stuck/none", address=at) == (
        "no call of Stuck/none is parked: perdure why Stuck/none says more"
    )
    assert refused("calls", "--node", "nx", address=at).startswith("there is no node 'nx'")
    assert refused("calls", "retry-timer", "Stuck/none", "bill", address=at) == (
        "no timer 'bill' of Stuck/none is parked"
    )


def test_a_parked_call_is_retried_or_dropped(cluster: Cluster, folder: Path) -> None:
    at = cluster.address
    (folder / "mind").write_text("one")
    for id in ("p1", "p2"):
        printed("call", "--create", f"Stuck/{id}", "add", address=at)
    with calling(at, "Stuck/p1", "change_mind"), calling(at, "Stuck/p2", "change_mind"):
        for id in ("p1", "p2"):
            while not any(
                s["kind"] == "service"
                for c in why(at, f"Stuck/{id}")["running"]
                for s in c["steps"]
            ):
                pass
        (folder / "mind").write_text("two")
        cluster.kill("perdure_node")
        cluster.wait_until_served()

        sentence = why_when(at, "Stuck/p1", "parked")["sentence"]
        why_when(at, "Stuck/p2", "parked")
        assert re.fullmatch(
            r"Stuck/p1 is held by the parked change_mind \(call [0-9a-f:]+\), which does not go on "
            r"because step 2 is run one in the journal, and this code asks for run two: "
            r"`perdure calls retry Stuck/p1` runs it again, `perdure calls drop Stuck/p1` ends it",
            sentence,
        )
        assert [c["id"] for c in listed(at, "--parked")] == ["p1", "p2"]
        first = json.loads(printed("calls", "--parked", "--limit", "1", "--json", address=at))
        assert [c["id"] for c in first["calls"]] == ["p1"]
        rest = listed(at, "--parked", "--after", first["after"])
        assert [c["id"] for c in rest] == ["p2"]
        assert "step 2 is run one" in printed("calls", "--parked", address=at)

        printed("calls", "drop", "Stuck/p2", address=at)
        assert printed("call", "Stuck/p2", "add", address=at) == "3\n", "what it saved has stayed"

        (folder / "mind").write_text("one")
        printed("calls", "retry", "Stuck/p1", address=at)
        why_when(at, "Stuck/p1", "running")
        (folder / "mind-door").touch()
        assert printed("call", "Stuck/p1", "add", address=at) == "3\n"
    assert listed(at, "--parked") == []


def test_a_running_call_is_cancelled_by_its_id(cluster: Cluster) -> None:
    at = cluster.address
    printed("call", "--create", "Stuck/c1", "add", address=at)
    with calling(at, "Stuck/c1", "pass_door", "door=never") as caller:
        id = why_when(at, "Stuck/c1", "running")["running"][0]["call_id"]
        printed("calls", "cancel", id, "--object", "Stuck/c1", address=at)
        assert "cancelled" in caller.communicate(timeout=READY_S)[1]
    assert printed("call", "Stuck/c1", "add", address=at) == "3\n"


def test_a_node_that_is_down_is_named(cluster: Cluster) -> None:
    at = cluster.address
    printed("call", "--create", "Stuck/down", "add", address=at)
    answer = why(at, "Stuck/down")
    with cluster.without_node(cluster.owner_address("Stuck", "down")):
        down = perdure("why", "Stuck/down", address=at)
        left_out = perdure("calls", address=at)

    name = answer["node"]
    assert down.stderr == f"perdure: Stuck/down is on node {name}, which does not answer\n"
    assert left_out.returncode == 1
    assert f"not in this list: node {name} (does not answer)" in left_out.stderr
