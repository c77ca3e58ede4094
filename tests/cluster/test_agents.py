"""Conversations with a model over HTTP, whose nodes are killed in the middle of answers.

`PERDURE_TALK_KILLS=50` kills more often than is good for every run.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.conversations import HeldConversation
from harness.model_server import ModelServer, answer_to, running_model_server
from harness.processes import Cluster, running_cluster

import perdure
from perdure import durable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

KILLS = int(os.environ.get("PERDURE_TALK_KILLS", "6"))
VICTIMS = ("its node", "everything", "its node", "the router")
TALKS = 6
PIECES_MAX = 5

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
    server.hold(request=3, pieces=2)
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


class Talk:
    """A conversation: what is said in it, and every request that this takes."""

    def __init__(self, number: int, turns: int) -> None:
        self.id = f"t{number}"
        self.said: list[str] = []
        self.rolls: list[str] = []
        self.requests: list[str] = []
        self.answers: list[str] = []
        conversation: list[list[str]] = []
        for turn in range(turns):
            # Whoever reads the ledger sees which conversation a request is of.
            sides = 1_000 * number + turn
            tool = turn % 3 == 1
            text = f'call roll {{"sides":{sides}}}' if tool else f"{self.id} turn {turn}"
            self.said.append(text)
            conversation.append(["user", text])
            self.requests.append(json.dumps(conversation))
            answer, _ = answer_to(conversation)
            if tool:
                self.rolls.append(str(sides))
                rolled = f"{sides} of {sides}"
                asking = [*conversation, ["call", text.removeprefix("call ")], ["tool", rolled]]
                self.requests.append(json.dumps(asking))
                answer, _ = answer_to(asking)
            self.answers.append(answer)
            conversation.append(["assistant", f"{answer} "])

    async def talk(self) -> None:
        handle = durable.options(await HeldConversation.get_or_create(self.id), timeout=None)
        for text, answer in zip(self.said, self.answers, strict=True):
            assert await handle.say(text) == answer

    def problems(self, made: list[str]) -> list[str]:
        """Say where a request was made again after the next one had begun, or never."""
        own = [self.requests.index(request) for request in made if request in self.requests]
        problems = [] if set(own) == set(range(len(self.requests))) else [f"{self.id}: not all"]
        return problems + [
            f"{self.id}: {later} came before {earlier}"
            for later, earlier in itertools.pairwise(own)
            if earlier < later
        ]


def test_no_request_whose_answer_was_recorded_is_made_again_whatever_is_killed(
    cluster: Cluster, server: ModelServer, tmp_path: Path
) -> None:
    asyncio.run(talk_through_kills(cluster, server, tmp_path))


async def talk_through_kills(cluster: Cluster, server: ModelServer, folder: Path) -> None:
    await perdure.connect(cluster.address)
    chance = random.Random(KILLS)
    # So many requests that each kill finds some to wait for.
    talks = [Talk(number, 4 + 2 * KILLS) for number in range(TALKS)]
    talking = asyncio.gather(*(talk.talk() for talk in talks))
    cut_off: Counter[str] = Counter()
    for kill in range(KILLS):
        request = len(server.ledger()) + chance.randrange(1, TALKS)
        server.hold(request, pieces=chance.randrange(PIECES_MAX))
        assert await asyncio.to_thread(server.wait_until_held)
        held = json.dumps(server.ledger()[request - 1]["conversation"])
        talk = next((talk for talk in talks if held in talk.requests), None)
        assert talk is not None, held
        victim = VICTIMS[kill % len(VICTIMS)]
        await asyncio.to_thread(strike, cluster, victim, talk.id)
        cut_off[held] += victim != "the router"
        server.release()
    await talking

    made = [json.dumps(asked["conversation"]) for asked in server.ledger()]
    assert [problem for talk in talks for problem in talk.problems(made)] == []
    counted = Counter(made)
    for request, times in cut_off.items():
        assert counted[request] >= 1 + times, f"{request} was not cut off"
    # What else was on its way when everything, or the same node, was killed.
    assert max(counted.values()) <= 1 + KILLS
    rolled = set((folder / "rolled").read_text().split())
    assert rolled == {sides for talk in talks for sides in talk.rolls}
    for talk in talks:
        held_by = await HeldConversation.get_or_create(talk.id)
        answers = [m["content"] for m in held_by.messages if m["role"] == "assistant"]
        assert [answer.rstrip() for answer in answers] == talk.answers
    again = len(made) - len(counted)
    print(f"\n{len(counted)} requests, {again} of them made again in {KILLS} kills")


def strike(cluster: Cluster, victim: str, id: str) -> None:
    """Kill -9 something, and wait until all is served again."""
    if victim == "everything":
        cluster.restart_after_kill()
    elif victim == "its node":
        cluster.kill_node(cluster.owner_address("HeldConversation", id))
    else:
        assert cluster.kill("perdure_router")
