"""Conversations with a model over HTTP, whose nodes are killed in the middle of answers.

`PERDURE_TALK_KILLS=50` kills more often than is good for every run.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.conversations import HeldConversation
from harness.model_server import ModelServer, running_model_server
from harness.processes import Cluster, running_cluster
from harness.talks import Strikes, Talk

import perdure
from perdure import durable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

KILLS = int(os.environ.get("PERDURE_TALK_KILLS", "6"))
VICTIMS = ("its node", "everything", "its node", "the router")
TALKS = 6

APP = Path(__file__).parents[1] / "harness" / "conversations.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModelServer]:
    with running_model_server(tmp_path / "asked") as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path, server: ModelServer) -> Iterator[Cluster]:
    (tmp_path / "pages").mkdir()
    (tmp_path / "rolled").touch()
    settings = {
        **server.settings,
        "CONVERSATIONS_ROLLED": str(tmp_path / "rolled"),
        "CONVERSATIONS_PAGES": str(tmp_path / "pages"),
    }
    with running_cluster(APP, tmp_path / "data", settings=settings) as running:
        yield running


def attempts(server: ModelServer) -> Counter[str]:
    """Return how often the model was asked to go on with each conversation as it was then."""
    return Counter(json.dumps(asked["conversation"]) for asked in server.ledger())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_a_kill_in_the_middle_of_an_answer_repeats_that_request_and_nothing_before_it(
    cluster: Cluster, server: ModelServer, tmp_path: Path
) -> None:
    asyncio.run(talk_through_a_kill(cluster, server, tmp_path))


async def talk_through_a_kill(cluster: Cluster, server: ModelServer, folder: Path) -> None:
    await perdure.connect(cluster.address)
    talk = durable.options(await HeldConversation.get_or_create("talk"), timeout=None)
    assert await talk.say("hello") == "answer 1 to: hello"

    # The second answer takes two requests, with a tool between them.
    server.hold(request=3, chunks=2)
    call = talk.say('call roll {"sides": 6}')
    assert await asyncio.to_thread(server.wait_until_held)
    pages = folder / "pages" / "talk"
    await until(lambda: pages.read_text() == "answer 1 to: hello roll says ")
    await asyncio.to_thread(cluster.restart_after_kill)
    server.release()

    assert await call == "roll says 6 of 6"
    assert await talk.say("and now?") == "answer 3 to: and now?"
    await durable.refresh(talk)
    assert [message["content"].rstrip() for message in talk.messages] == [
        "hello",
        "answer 1 to: hello",
        'call roll {"sides": 6}',
        "roll says 6 of 6",
        "and now?",
        "answer 3 to: and now?",
    ]
    asked = server.ledger()
    assert [entry["finished"] for entry in asked] == [True, True, False, True, True]
    assert asked[2]["conversation"] == asked[3]["conversation"]
    assert sorted(attempts(server).values()) == [1, 1, 1, 2]
    assert (folder / "rolled").read_text() == "6\n"
    assert pages.read_text().endswith("roll says roll says 6 of 6 answer 3 to: and now? ")


def test_no_request_whose_answer_was_recorded_is_made_again_whatever_is_killed(
    cluster: Cluster, server: ModelServer, tmp_path: Path
) -> None:
    asyncio.run(talk_through_kills(cluster, server, tmp_path))


async def talk_through_kills(cluster: Cluster, server: ModelServer, folder: Path) -> None:
    await perdure.connect(cluster.address)
    # So many requests that each kill finds some to wait for.
    talks = [Talk(number, 4 + 2 * KILLS) for number in range(TALKS)]
    strikes = Strikes(server, talks, seed=KILLS)
    talking = asyncio.gather(*(hold(talk) for talk in talks))
    for kill in range(KILLS):
        victim = VICTIMS[kill % len(VICTIMS)]
        strike = functools.partial(kill_one, cluster, victim)
        await asyncio.to_thread(strikes.strike, strike)
    strikes.end()
    await talking

    assert strikes.problems(KILLS) == []
    rolled = set((folder / "rolled").read_text().split())
    assert rolled == {sides for talk in talks for sides in talk.rolls}
    for talk in talks:
        held_by = await HeldConversation.get_or_create(talk.id)
        answers = [m["content"] for m in held_by.messages if m["role"] == "assistant"]
        assert [answer.rstrip() for answer in answers] == talk.answers


async def hold(talk: Talk) -> None:
    handle = durable.options(await HeldConversation.get_or_create(talk.id), timeout=None)
    for text, answer in zip(talk.said, talk.answers, strict=True):
        assert await handle.say(text) == answer


def kill_one(cluster: Cluster, victim: str, talk: Talk) -> bool:
    """Kill -9 something, and wait until all is served again. False: that is only the router."""
    if victim == "everything":
        cluster.restart_after_kill()
    elif victim == "its node":
        cluster.kill_node(cluster.owner_address("HeldConversation", talk.id))
    else:
        assert cluster.kill("perdure_router")
    return victim != "the router"
