"""kill -9 at random moments: nothing acknowledged is lost, nothing runs twice.

`PERDURE_KILL_ROUNDS=100` plays more rounds than are good for every run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.history import Told
from harness.kill_rounds import Round
from harness.processes import Cluster, running_cluster

import perdure

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

ROUNDS = int(os.environ.get("PERDURE_KILL_ROUNDS", "5"))
VICTIMS = ("one node", "all nodes", "the router", "everything", "one node, politely")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    app = Path(__file__).parents[1] / "harness" / "app.py"
    with running_cluster(app, tmp_path_factory.mktemp("kill9") / "data") as running:
        yield running


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
