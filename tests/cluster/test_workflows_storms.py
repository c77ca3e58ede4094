"""Many runs at once on three nodes, one of which dies all the time.

`PERDURE_RUNS=2000` makes more runs than are good for every run, `PERDURE_TOKENS=1000` more tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.claimers import Claimers, running_claimers
from harness.flow_storm import StormLedger, storm_of_ten, storm_streams
from harness.processes import Cluster, running_cluster
from harness.witness import Witness, running_witness

import perdure
from perdure import StreamReset, get_run, resume_hook, start
from perdure.runtime import current_client

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1_800)]

APP = Path(__file__).parents[1] / "harness" / "flow_storm.py"
RUNS = int(os.environ.get("PERDURE_RUNS", "100"))
TOKENS = int(os.environ.get("PERDURE_TOKENS", "25"))
CLAIMS = 12
LEDGERS = 5
KILLS_MIN = 4
"""There are more runs until so many nodes have died."""
LONGEST_S = 300.0
KILL_EVERY_S = 2.0
RUNS_IN_MEMORY = 20
"""On each node: most runs go on with a replay, also where no node has died."""


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    with running_witness(tmp_path / "ledger") as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path, witness: Witness) -> Iterator[Cluster]:
    settings = {
        "PERDURE_SERVICES_STORM_WITNESS_URL": witness.url,
        "PERDURE_LIMITS_RUNS_IN_MEMORY_MAX": str(RUNS_IN_MEMORY),
    }
    with running_cluster(APP, tmp_path / "data", settings=settings) as running:
        yield running


@contextlib.asynccontextmanager
async def dying_nodes(cluster: Cluster, seed: int) -> AsyncIterator[list[int]]:
    """Kill one node after the other: in between all are there for as long as one was away.

    Gives who was killed.
    """
    chance = random.Random(seed)
    killed: list[int] = []
    ending = asyncio.Event()

    async def kill() -> None:
        while not ending.is_set():
            next_s = time.monotonic() + KILL_EVERY_S * chance.uniform(0.75, 1.25)
            killed.extend(cluster.kill("perdure_node", only=chance.randrange(3)))
            began_s = time.monotonic()
            await asyncio.to_thread(cluster.wait_until_served)
            # Where they come back slowly, what they do takes longer too.
            pause_s = max(next_s - time.monotonic(), time.monotonic() - began_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), pause_s)

    await perdure.connect(cluster.address)
    killer = asyncio.create_task(kill())
    try:
        yield killed
    finally:
        ending.set()
        await killer
        await current_client().close()


async def side_by_side(work: Any, at_a_time: int = 200) -> list[Any]:
    room = asyncio.Semaphore(at_a_time)

    async def one(awaitable: Any) -> Any:
        async with room:
            return await asyncio.wait_for(awaitable, LONGEST_S)

    return await asyncio.gather(*(one(awaitable) for awaitable in work))


def test_every_run_ends_and_no_step_is_seen_with_two_results(
    cluster: Cluster, witness: Witness
) -> None:
    async def life(id: str) -> None:
        await start(storm_of_ten, LEDGERS, id=id, timeout=None)
        shown = await resume_hook(f"check:{id}", "show", wait=LONGEST_S, timeout=None)
        # In between its node may have died, and the run was replayed.
        await resume_hook(f"check:{id}", "end", reply=False, timeout=None)
        assert await get_run(id).result() == shown

    ids: list[str] = []

    async def program() -> None:
        async with dying_nodes(cluster, seed=1) as killed:
            while len(killed) < KILLS_MIN:
                wave = [f"run-{n}" for n in range(len(ids), len(ids) + RUNS)]
                await side_by_side(map(life, wave))
                ids.extend(wave)
            print(f"{len(ids)} runs, {len(killed)} kills")
        await perdure.connect(cluster.address)
        put: Counter[str] = Counter()
        for n in range(LEDGERS):
            ledger = await StormLedger.get_or_create(f"l{n}")
            put.update(ledger.put)
        await current_client().close()
        assert put == Counter(ids), "each object call applied once"

    asyncio.run(program())
    charged = Counter(entry["payload"]["run"] for entry in witness.ledger() if entry["applied"])
    assert charged == Counter(ids), "each key recorded once"


def test_of_many_claims_to_a_token_exactly_one_wins(cluster: Cluster) -> None:
    """The claims come from processes of their own, one for each claim."""

    async def fight(claimers: Claimers, token: str) -> None:
        told = claimers.claim(token)
        losers = [await claimers.next_of(told) for _ in range(CLAIMS - 1)]
        ids = {f"{token}-{number}" for number in range(CLAIMS)}
        (winner,) = ids - {loser.run for loser in losers}
        assert {loser.owner for loser in losers} == {winner}, "all others know who has it"
        await resume_hook(token, "enough", reply=False, timeout=None)
        last = await claimers.next_of(told)
        assert (last.run, last.owner) == (winner, None)

    async def program() -> None:
        fought = 0
        async with (
            running_claimers(cluster.address, CLAIMS) as claimers,
            dying_nodes(cluster, seed=2) as killed,
        ):
            while len(killed) < KILLS_MIN:
                tokens = [f"token-{n}" for n in range(fought, fought + TOKENS)]
                await side_by_side((fight(claimers, token) for token in tokens), 20)
                fought += TOKENS
            print(f"{fought} tokens, {CLAIMS} processes, {len(killed)} kills")

    asyncio.run(program())


def test_a_reader_that_comes_and_goes_sees_each_chunk_once_and_then_the_end(
    cluster: Cluster,
) -> None:
    parts, count, readers = 4, 20, 6

    async def read(run: perdure.Run[Any], seed: int) -> list[Any]:
        """Read a stream in parts, some of them again, and return what counts in the end."""
        chance = random.Random(seed)
        got: list[tuple[int, Any]] = []
        seen: dict[int, Any] = {}
        at = 0
        while True:
            if chance.random() < 0.3:
                # As one who has lost the end of what was read: there it begins again.
                at = chance.randrange(at + 1)
                got = [(index, had) for index, had in got if index < at]
            reading = run.readable(start_index=at)
            stop_after = chance.randrange(1, 8)
            ended = True
            async for chunk in reading:
                at = reading.next_index
                if isinstance(chunk, StreamReset):
                    got = [(index, had) for index, had in got if index < chunk.index]
                else:
                    got.append((at - 1, chunk))
                    assert seen.setdefault(at - 1, chunk) == chunk, "an index is used once"
                stop_after -= 1
                if not stop_after:
                    ended = False
                    break
            if ended:
                assert [i for i, _ in got] == sorted({i for i, _ in got}), "in order, each once"
                return [chunk for _, chunk in got]

    def check(chunks: list[Any]) -> None:
        assert chunks.pop() == "end"
        for part in range(parts):
            assert chunks.pop(0) == f"part {part}"
            words, chunks = chunks[:count], chunks[count:]
            assert [number for _, number in words] == list(range(count))
            assert len({attempt for attempt, _ in words}) == 1, "of one attempt"

    async def program() -> None:
        async with dying_nodes(cluster, seed=3) as killed:
            streams = 0
            while len(killed) < KILLS_MIN:
                streams += 1
                run = await start(storm_streams, parts, count, timeout=None)
                found = await side_by_side(read(run, seed) for seed in range(readers))
                assert await run.result() == parts
                assert all(chunks == found[0] for chunks in found), "all have seen the same"
                check(found[0])
            print(f"{streams} streams, {readers} readers each, {len(killed)} kills")

    asyncio.run(program())
