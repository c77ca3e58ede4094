"""Conversations with the model of `model_server`, planned to the last word."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable

from harness.model_server import ModelServer, answer_to

CHUNKS_MAX = 5


class Talk:
    """A conversation: what is said in it, and every request that this takes."""

    def __init__(self, number: int, turns: int, *, rolls: bool = True) -> None:
        """Plan it.

        Args:
            number: Of the conversation.
            turns: How often the user says something.
            rolls: Some of it has the tool `roll` called.
        """
        self.id = f"t{number}"
        self.said: list[str] = []
        self.answers: list[str] = []
        self.requests: list[str] = []
        """What the model is asked, as its server's ledger has it, in JSON."""
        self.rolls: list[str] = []
        """The arguments of the tool."""
        conversation: list[list[str]] = []
        for turn in range(turns):
            # Whoever reads the ledger sees which conversation a request is of.
            sides = 1_000 * number + turn
            tool = rolls and turn % 3 == 1
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

    def problems(self, made: list[str]) -> list[str]:
        """Say where a request was made again after the next one had begun, or never."""
        own = [self.requests.index(request) for request in made if request in self.requests]
        problems = [] if set(own) == set(range(len(self.requests))) else [f"{self.id}: not all"]
        return problems + [
            f"{self.id}: {later} came before {earlier}"
            for later, earlier in itertools.pairwise(own)
            if earlier < later
        ]


class Strikes:
    """Strikes while some answer is on its way, and knows which were cut off.

    The server keeps back what is asked meanwhile: so no conversation is over before the last
    strike, however long one takes.
    """

    def __init__(self, server: ModelServer, talks: list[Talk], seed: int) -> None:
        self.cut_off: Counter[str] = Counter()
        """How often each request has been, at least."""
        self._server = server
        self._talks = talks
        self._chance = random.Random(seed)

    def strike(self, act: Callable[[Talk], bool]) -> None:
        """Wait until some request is half answered, and act; True: that has cut it off.

        All is let go by the next strike, or by `end`.
        """
        server = self._server
        ahead = self._chance.randrange(1, len(self._talks))
        request = server.hold_ahead(ahead, chunks=self._chance.randrange(CHUNKS_MAX))
        assert server.wait_until_held()
        held = json.dumps(server.ledger()[request - 1]["conversation"])
        talk = next((talk for talk in self._talks if held in talk.requests), None)
        assert talk is not None, held
        self.cut_off[held] += act(talk)

    def end(self) -> None:
        """Let all go: no strike follows."""
        self._server.release()

    def problems(self, kills: int) -> list[str]:
        """Say what was asked too often, or not often enough."""
        made = [json.dumps(asked["conversation"]) for asked in self._server.ledger()]
        counted = Counter(made)
        print(f"\n{len(counted)} requests, {len(made) - len(counted)} made again: {kills} kills")
        return [
            *(problem for talk in self._talks for problem in talk.problems(made)),
            *(f"not cut off: {r}" for r, times in self.cut_off.items() if counted[r] <= times),
            *(f"too often: {r}" for r, times in counted.items() if times > 1 + kills),
        ]
