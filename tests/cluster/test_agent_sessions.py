"""Sessions with a model as workflows, whose nodes are killed in the middle of answers."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.held_sessions import Reader, held_session
from harness.model_server import ModelServer, running_model_server
from harness.processes import Cluster, running_cluster
from harness.talks import Strikes, Talk

import perdure
from perdure import get_run, resume_hook, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

KILLS = 4
TALKS = 4

APP = Path(__file__).parents[1] / "harness" / "held_sessions.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModelServer]:
    with running_model_server(tmp_path / "asked") as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path, server: ModelServer) -> Iterator[Cluster]:
    with running_cluster(APP, tmp_path / "data", settings=server.settings) as running:
        yield running


async def say(id: str, text: str) -> None:
    await resume_hook(f"session:{id}", {"content": text}, reply=False)


def test_a_session_goes_on_when_everything_is_killed_in_the_middle_of_an_answer(
    cluster: Cluster, server: ModelServer
) -> None:
    asyncio.run(go_through_a_kill(cluster, server))


async def go_through_a_kill(cluster: Cluster, server: ModelServer) -> None:
    await perdure.connect(cluster.address)
    await start(held_session, id="chat-1")
    reader = Reader("chat-1")
    await say("chat-1", "hello")
    assert await reader.until("hello ") == "answer 1 to: hello "

    server.hold(request=2, chunks=3)
    await say("chat-1", "again")
    assert await asyncio.to_thread(server.wait_until_held)
    assert await reader.until("2 to: ") == "answer 1 to: hello answer 2 to: "
    await asyncio.to_thread(cluster.restart_after_kill)
    server.release()

    whole = "answer 1 to: hello answer 2 to: again "
    assert await reader.until("again ") == whole
    assert reader.resets == 1
    assert await Reader("chat-1").until("again ") == whole
    asked = server.ledger()
    assert [entry["finished"] for entry in asked] == [True, False, True]
    assert asked[1]["conversation"] == asked[2]["conversation"]
    assert asked[0]["instructions"] == "You are a helpful assistant."
    await get_run("chat-1").cancel()


def test_readers_see_every_chunk_of_every_answer_once_whatever_is_killed(
    cluster: Cluster, server: ModelServer
) -> None:
    asyncio.run(go_through_kills(cluster, server))


async def go_through_kills(cluster: Cluster, server: ModelServer) -> None:
    await perdure.connect(cluster.address)
    talks = [Talk(number, 4 + 3 * KILLS, rolls=False) for number in range(TALKS)]
    strikes = Strikes(server, talks, seed=KILLS)
    talking = asyncio.gather(*(hold(talk) for talk in talks))
    for kill in range(KILLS):
        strike = functools.partial(kill_one, cluster, everything=kill % 2 == 1)
        await asyncio.to_thread(strikes.strike, strike)
    strikes.end()
    await talking

    assert strikes.problems(KILLS) == []
    for talk in talks:
        whole = "".join(f"{answer} " for answer in talk.answers)
        assert await Reader(talk.id).until(f"{talk.answers[-1]} ") == whole
        await get_run(talk.id).cancel()


async def hold(talk: Talk) -> None:
    """Have a conversation, and read along."""
    await start(held_session, id=talk.id)
    reader = Reader(talk.id)
    whole = ""
    for text, answer in zip(talk.said, talk.answers, strict=True):
        await say(talk.id, text)
        whole += f"{answer} "
        assert await reader.until(f"{answer} ") == whole


def kill_one(cluster: Cluster, talk: Talk, *, everything: bool) -> bool:
    """Kill -9 everything or the node of a session, and wait until all is served again."""
    if everything:
        cluster.restart_after_kill()
    else:
        cluster.kill_node(cluster.owner_address("workflow", talk.id))
    return True
