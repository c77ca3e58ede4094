"""`perdure runs` on a real cluster: what it prints of runs, and what it does to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from harness.commands import perdure, printed, refused
from harness.processes import READY_S, Cluster, running_cluster

pytestmark = pytest.mark.cluster

APP = """
import asyncio
import os
import sys

from pydantic import BaseModel

from perdure import (
    DurableObject, define_hook, durable, get_step_metadata, get_workflow_metadata, get_writable,
    sleep, start, step, workflow,
)


class Approval(BaseModel):
    by: str
    amount: int = 1


class Verdict(BaseModel):
    is_final: bool


approval = define_hook(schema=Approval)
anything = define_hook()


@durable.object
class Shelf(DurableObject):
    def __init__(self, shelf_id):
        super().__init__(shelf_id)
        self.left = 10

    async def take(self, count: int) -> int:
        self.left -= count
        return self.left


@step(retries=3, backoff=0.02)
async def charge(order: str) -> str:
    if get_step_metadata().attempt == 1:
        await get_writable("receipts").write("void")
        raise ConnectionError("the till is closed")
    await get_writable("receipts").write("paid")
    return "receipt of " + order


@step
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@workflow
async def order(order_id: str) -> dict:
    shelf = await Shelf.get_or_create(order_id)
    left, receipt, _ = await asyncio.gather(shelf.take(2), charge(order_id), nap(0.1))
    hook = approval.create(token=f"approve:{order_id}")
    approved = await hook
    await hook.reply(Verdict(is_final=True))
    return {"left": left, "receipt": receipt, "by": approved.by}


@workflow
async def sleeper() -> str:
    await sleep(3600)
    return "awake"


@workflow
async def talker(token: str) -> None:
    out = get_writable()
    hook = anything.create(token=token)
    async for words in hook:
        if words is None:
            return
        await out.write(words)


@workflow
async def broken(why: str) -> None:
    raise ValueError(why)


if __name__ == "__main__":
    flow, run_id, *args = sys.argv[1:]
    asyncio.run(start(globals()[flow], *args, id=run_id))
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "runs_app.py"
    path.write_text(APP)
    return path


@pytest.fixture(scope="module")
def cluster(app: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(app, tmp_path_factory.mktemp("runs") / "data", nodes=2) as running:
        yield running


@pytest.fixture
def at(cluster: Cluster) -> str:
    return cluster.address


def begin(app: Path, at: str, flow: str, id: str, *args: str) -> None:
    """Start a run, as a program does that has the classes."""
    environment = os.environ | {"PERDURE_ADDRESS": at}
    subprocess.run([sys.executable, str(app), flow, id, *args], check=True, env=environment)


def show(at: str, id: str) -> Any:
    return json.loads(printed("runs", "show", id, "--json", address=at))


def show_when(at: str, id: str, state: str) -> Any:
    """Ask until a run is in a state: each question takes its time."""
    for _ in range(100):
        run = show(at, id)
        if run["state"] == state:
            return run
    raise AssertionError(f"{id} is never {state}: {run}")


def finish(at: str, id: str) -> None:
    words = ("runs", "resume", f"approve:{id}", '{"by": "Ada"}', "--wait", "30")
    assert json.loads(printed(*words, address=at)) == {"$value": ["Verdict", {"is_final": True}]}


def test_a_run_is_shown_while_it_waits_and_when_it_is_over(app: Path, at: str) -> None:
    begin(app, at, "order", "show-1", "show-1")
    printed("runs", "show", "show-1", address=at)
    # Its hook is there once everything before it is over.
    finish(at, "show-1")
    run = show_when(at, "show-1", "completed")

    assert run["workflow"] == "order"
    assert run["input"] == {"positional": ["show-1"], "named": {}}
    assert run["result"] == {"left": 8, "receipt": "receipt of show-1", "by": "Ada"}
    assert run["streams"] == {"receipts": 3}
    names = [(item["kind"], item["name"]) for item in run["timeline"]]
    assert names == [
        ("call", "Shelf[show-1].get_or_create"),
        ("call", "Shelf[show-1].take"),
        ("step", "charge"),
        ("step", "nap"),
        ("hook", "approve:show-1"),
        ("payload", "approve:show-1"),
        ("reply", "approve:show-1"),
    ]
    charge = run["timeline"][2]
    [attempt] = charge["failed_attempts"]
    assert attempt["error"]["message"] == "the till is closed"
    assert charge["got"] == "receipt of show-1"
    assert run["timeline"][3]["took_ms"] >= 100
    assert run["timeline"][5]["given"]["$value"][:2] == ["Approval", {"by": "Ada", "amount": 1}]

    text = printed("runs", "show", "show-1", address=at)
    assert '│●  step 3    charge("show-1") → "receipt of show-1"' in text
    assert "││● step 4    nap(0.1) → 0.1" in text
    assert 'approve:show-1 ← Approval(by="Ada", amount=1)' in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_run_that_waits_says_for_what(app: Path, at: str) -> None:
    begin(app, at, "order", "waits-1", "waits-1")
    for _ in range(100):
        waits = show(at, "waits-1")["waits_for"]
        if waits and waits[0]["kind"] == "hook" and waits[0]["claimed"]:
            break
    [hook] = waits
    assert (hook["name"], hook["payloads"]) == ("approve:waits-1", 0)

    text = printed("runs", "show", "waits-1", address=at)

    assert "waits for  a payload for the hook approve:waits-1, for " in text
    assert "perdure runs resume approve:waits-1 JSON" in text
    finish(at, "waits-1")


def test_a_run_that_has_failed_says_why(app: Path, at: str) -> None:
    begin(app, at, "broken", "broken-1", "there is no more of it")

    run = show_when(at, "broken-1", "failed")

    assert run["error"]["class"] == "ValueError"
    assert run["error"]["message"] == "there is no more of it"
    assert "runs_app.py" in run["error"]["traceback"]
    text = printed("runs", "show", "broken-1", address=at)
    assert "error     ValueError: there is no more of it" in text


def test_raw_events_are_one_a_line(app: Path, at: str) -> None:
    begin(app, at, "broken", "raw-1", "x")
    show_when(at, "raw-1", "failed")

    [event] = printed("runs", "show", "raw-1", "--events", "--json", address=at).splitlines()

    assert json.loads(event)["kind"] == "ended"
    assert printed("runs", "show", "raw-1", "--events", address=at).endswith("  ended\n")


def test_runs_are_listed_in_order_page_by_page_and_by_how_they_stand(app: Path, at: str) -> None:
    ids = [f"list-{number}" for number in range(6)]
    for id in ids[:4]:
        begin(app, at, "sleeper", id)
    for id in ids[4:]:
        begin(app, at, "broken", id, "x")
        show_when(at, id, "failed")

    def listed(*words: str) -> Any:
        words = ("runs", "list", "--prefix", "list-", "--json", *words)
        content = json.loads(printed(*words, address=at))
        return [run["id"] for run in content["runs"]], content["after"]

    assert listed() == (ids, None)
    assert listed("--limit", "4") == (ids[:4], "list-3")
    assert listed("--limit", "4", "--after", "list-3") == (ids[4:], None)
    assert listed("--workflow", "broken") == (ids[4:], None)
    assert listed("--status", "running", "--limit", "2") == (ids[:2], "list-1")
    assert listed("--status", "parked") == ([], None)
    done = perdure("runs", "list", "--prefix", "list-", "--limit", "2", address=at)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["run", *ids[:2]]
    assert done.stderr == "there are more: --after 'list-1' goes on\n"


def test_a_run_is_woken_and_a_run_is_ended(app: Path, at: str) -> None:
    begin(app, at, "sleeper", "wake-1")
    begin(app, at, "sleeper", "cancel-1")
    while not show(at, "wake-1")["waits_for"]:
        pass

    text = printed("runs", "wake", "wake-1", address=at)
    assert text == "the run wake-1 sleeps no longer\n"
    assert show_when(at, "wake-1", "completed")["result"] == "awake"
    assert "ended early" in printed("runs", "show", "wake-1", address=at)
    refusal = refused("runs", "wake", "wake-1", address=at)
    assert refusal.startswith("the run wake-1 does not sleep")

    text = printed("runs", "cancel", "cancel-1", "--reason", "no longer wanted", address=at)
    assert text == "the run cancel-1 is told to end\n"
    run = show_when(at, "cancel-1", "cancelled")
    assert run["error"]["class"] == "CallCancelled"
    assert refused("runs", "cancel", "cancel-1", address=at) == "the run cancel-1 is over"


def test_a_payload_is_checked_and_a_hook_that_takes_none_says_so(app: Path, at: str) -> None:
    begin(app, at, "order", "check-1", "check-1")
    printed("runs", "resume", "approve:check-1", '{"by": "Ada"}', "--wait", "30", address=at)
    show_when(at, "check-1", "completed")
    begin(app, at, "order", "check-2", "check-2")
    token = "approve:check-2"
    # What does not fit is refused, and the run waits on.
    words = ("runs", "resume", token, '{"amount": "many"}', "--wait", "30")
    refusal = refused(*words, address=at)
    assert "by" in refusal
    assert "amount" in refusal
    assert printed("runs", "resume", token, '{"by": "Bob"}', "--no-reply", address=at) == ""
    assert show_when(at, "check-2", "completed")["result"]["by"] == "Bob"

    closed = refused("runs", "resume", "approve:check-1", '{"by": "Ada"}', address=at)
    assert closed == "the hook 'approve:check-1' is closed: the run 'check-1' has completed"
    missing = refused("runs", "resume", "nobody's", "1", address=at)
    assert missing.startswith('no run has a hook with the token "nobody\'s": --wait 10 waits')


def test_a_run_that_is_not_there_is_named(at: str) -> None:
    for command in ("show", "cancel", "wake", "tail"):
        refusal = refused("runs", command, "none-1", address=at)
        assert refusal == "there is no run 'none-1': perdure runs list shows all"


def test_a_node_that_has_not_all_runs_sends_to_a_router(cluster: Cluster) -> None:
    node = next(iter(cluster.node_addresses().values()))

    refusal = refused("runs", "list", address=node)

    assert refusal == f"{node} is a node and has some of all runs: ask a router"


def tailing(at: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "perdure.cli.main", "runs", "tail", *words, "--address", at]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    out: IO[str] | None = process.stdout
    assert out is not None
    return out.readline()


def say(at: str, token: str, words: str) -> None:
    printed("runs", "resume", token, words, "--no-reply", "--wait", "30", address=at)


def test_a_stream_is_followed_as_it_is_written_until_the_run_ends(app: Path, at: str) -> None:
    begin(app, at, "talker", "talk-1", "talk:1")
    with tailing(at, "talk-1") as tail:
        say(at, "talk:1", '"one"')
        assert line_of(tail) == "one\n"
        say(at, "talk:1", '{"two": 2}')
        assert line_of(tail) == '{"two": 2}\n'
        say(at, "talk:1", '"drei ü"')
        assert line_of(tail) == "drei ü\n"
        say(at, "talk:1", "null")
        out, err = tail.communicate(timeout=READY_S)
    assert (out, err, tail.returncode) == ("", "", 0)

    text = printed("runs", "tail", "talk-1", "--from", "-2", "--json", address=at)
    assert [json.loads(line) for line in text.splitlines()] == [
        {"index": 1, "chunk": {"two": 2}},
        {"index": 2, "chunk": "drei ü"},
    ]
    text = printed("runs", "tail", "talk-1", "--join", address=at)
    assert text == 'one{"two": 2}drei ü\n'
    refusal = refused("runs", "tail", "talk-1", "--stream", "defautl", address=at)
    assert refusal == "the run talk-1 has no stream 'defautl': did you mean 'default'?"


def test_what_is_there_is_printed_without_waiting_for_more(app: Path, at: str) -> None:
    begin(app, at, "talker", "talk-2", "talk:2")
    say(at, "talk:2", '"one"')
    while not show(at, "talk-2")["streams"]:
        pass

    assert printed("runs", "tail", "talk-2", "--no-follow", address=at) == "one\n"


def test_who_has_had_enough_of_a_stream_leaves_quietly(app: Path, at: str) -> None:
    begin(app, at, "talker", "talk-3", "talk:3")
    say(at, "talk:3", '"one"')
    took_s: list[float] = []
    # Once is enough: what else this machine does takes its time too.
    while not took_s or (took_s[-1] >= 8 and len(took_s) < 5):
        with tailing(at, "talk-3") as tail:
            assert line_of(tail) == "one\n"
            tail.send_signal(signal.SIGINT)
            began_s = time.monotonic()
            out, err = tail.communicate(timeout=READY_S)
            took_s.append(time.monotonic() - began_s)
        assert (out, err, tail.returncode) == ("", "", 130)

    assert min(took_s) < 8, "not after the ten seconds that calls have which may have run"


def test_chunks_of_an_attempt_that_has_failed_are_void(app: Path, at: str) -> None:
    begin(app, at, "order", "void-1", "void-1")
    finish(at, "void-1")

    text = printed("runs", "tail", "void-1", "--stream", "receipts", address=at)
    assert text == "paid\n"
    # Who begins behind the void chunk is told, as one would be who has read it.
    done = perdure("runs", "tail", "void-1", "--stream", "receipts", "--from", "1", address=at)
    assert done.stdout == "paid\n"
    assert "forget the chunks from 0 on" in done.stderr


def test_nothing_of_a_run_is_lost_when_all_processes_are_killed(app: Path, tmp_path: Path) -> None:
    with running_cluster(app, tmp_path / "data", nodes=2) as cluster:
        at = cluster.address
        begin(app, at, "order", "kill-1", "kill-1")
        finish(at, "kill-1")
        begin(app, at, "talker", "kill-2", "kill:2")
        say(at, "kill:2", '"one"')
        before = show_when(at, "kill-1", "completed")
        with tailing(at, "kill-2") as tail:
            assert line_of(tail) == "one\n"

            cluster.restart_after_kill()

            assert show(at, "kill-1") == before
            # The run goes on, and so does whoever follows it.
            say(at, "kill:2", '"two"')
            assert line_of(tail) == "two\n"
            say(at, "kill:2", "null")
            out, _ = tail.communicate(timeout=READY_S)
        assert (out, tail.returncode) == ("", 0)
        payloads = [i for i in show(at, "kill-2")["timeline"] if i["kind"] == "payload"]
        assert [payload["given"] for payload in payloads] == ["one", "two", None]
