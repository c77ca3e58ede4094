"""kill -9 at random moments: nothing acknowledged is lost, nothing runs twice.

`PERDURE_KILL_ROUNDS=100` plays more rounds than are good for every run.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.app import Ledger
from harness.history import Entry, History, Told
from harness.processes import Cluster, running_cluster

import perdure
from perdure import CallRejected, OutcomeUnknown, durable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

ROUNDS = int(os.environ.get("PERDURE_KILL_ROUNDS", "5"))
VICTIMS = ("one node", "all nodes", "the router", "everything", "one node, politely")
CALLERS = 64
BURSTS = 4
BURST_CALLS = 3
"""Calls that a caller sends to one object before it awaits the first of them."""
LEDGERS = 16
IMPATIENT_EVERY = 8
IMPATIENT_TIMEOUT_S = 0.3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    app = Path(__file__).parents[1] / "harness" / "app.py"
    with running_cluster(app, tmp_path_factory.mktemp("kill9") / "data") as running:
        yield running


class Round:
    """One round: callers at work, a kill in the middle, and what they were told."""

    def __init__(self, number: int) -> None:
        self.chance = random.Random(number)
        self.ids = [f"round-{number}-{k}" for k in range(LEDGERS)]
        self.history = History()
        self.ended_badly: list[str] = []
        self._kill_after = self.chance.randrange(CALLERS * BURSTS * BURST_CALLS * 3 // 4)
        self._done = 0
        self._reached = asyncio.Event()

    async def play(self, cluster: Cluster, victim: str) -> None:
        ledgers = [await Ledger.get_or_create(id) for id in self.ids]
        async with asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                group.create_task(self._call(caller, ledgers))
            await self._reached.wait()
            await asyncio.to_thread(kill, cluster, victim, self.chance)

    async def _call(self, caller: int, ledgers: list[Ledger]) -> None:
        patient = caller % IMPATIENT_EVERY != 0
        for burst in range(BURSTS):
            ledger = self.chance.choice(ledgers)
            if not patient:
                ledger = durable.options(ledger, timeout=IMPATIENT_TIMEOUT_S)
            numbers = range(burst * BURST_CALLS, (burst + 1) * BURST_CALLS)
            calls = [(number, ledger.append(caller, number)) for number in numbers]
            for number, call in calls:
                try:
                    await call
                    told = Told.DONE
                except CallRejected as error:
                    told = Told.REFUSED
                    self._complain(patient, caller, error)
                except OutcomeUnknown as error:
                    told = Told.UNKNOWN
                    self._complain(patient, caller, error)
                self.history.note(ledger.object_id, (caller, number), told)
                self._done += 1
                if self._done > self._kill_after:
                    self._reached.set()

    def _complain(self, patient: bool, caller: int, error: Exception) -> None:
        if patient:
            self.ended_badly.append(f"caller {caller}: {error!r}")

    async def problems(self) -> list[str]:
        held: dict[str, list[Entry]] = {}
        for id in self.ids:
            held[id] = await (await Ledger.get_or_create(id)).read()
        return self.history.problems(held)


def kill(cluster: Cluster, victim: str, chance: random.Random) -> None:
    if victim == "everything":
        cluster.restart_after_kill()
        return
    module = "perdure_router" if victim == "the router" else "perdure_node"
    only = chance.randrange(3) if victim.startswith("one node") else None
    by = signal.SIGTERM if victim.endswith("politely") else signal.SIGKILL
    assert cluster.kill(module, only=only, by=by)


def test_callers_lose_nothing_and_notice_nothing_when_processes_are_killed(
    cluster: Cluster,
) -> None:
    asyncio.run(play_all_rounds(cluster))


async def play_all_rounds(cluster: Cluster) -> None:
    await perdure.connect(cluster.address)
    rounds: list[Round] = []
    for number in range(ROUNDS):
        played = Round(number)
        await played.play(cluster, VICTIMS[number % len(VICTIMS)])

        assert await played.problems() == []
        assert played.ended_badly == []
        rounds.append(played)

    # What was true at the end of its round is still true after all that followed.
    await asyncio.to_thread(cluster.restart_after_kill)
    for played in rounds:
        assert await played.problems() == []
    assert sum(played.history.count(Told.DONE) for played in rounds) > 0
