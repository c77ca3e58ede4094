"""Many runs at once on three nodes, one of which dies all the time.

`PERDURE_RUNS=2000` makes more runs than are good for every run, `PERDURE_TOKENS=1000` more tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.flow_storm import StormLedger, storm_claims, storm_of_ten, storm_streams
from harness.processes import Cluster, running_cluster
from harness.witness import Witness, running_witness

import perdure
from perdure import StreamReset, get_run, resume_hook, start
from perdure.runtime import current_client

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

APP = Path(__file__).parents[1] / "harness" / "flow_storm.py"
RUNS = int(os.environ.get("PERDURE_RUNS", "100"))
TOKENS = int(os.environ.get("PERDURE_TOKENS", "25"))
CLAIMS = 12
LEDGERS = 5
KILLS_MIN = 4
"""There are more runs until so many nodes have died."""
LONGEST_S = 300.0


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    with running_witness(tmp_path / "ledger") as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path, witness: Witness) -> Iterator[Cluster]:
    settings = {"PERDURE_SERVICES_STORM_WITNESS_URL": witness.url}
    with running_cluster(APP, tmp_path / "data", settings=settings) as running:
        yield running


@contextlib.asynccontextmanager
async def dying_nodes(cluster: Cluster, seed: int) -> AsyncIterator[list[int]]:
    """Kill one node after the other, each when all are there again. Gives who was killed."""
    chance = random.Random(seed)
    killed: list[int] = []
    ending = asyncio.Event()

    async def kill() -> None:
        while not ending.is_set():
            killed.extend(cluster.kill("perdure_node", only=chance.randrange(3)))
            await asyncio.to_thread(cluster.wait_until_served)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), chance.uniform(0.2, 2.0))

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
    async def fight(token: str) -> None:
        ids = [f"{token}-{n}" for n in range(CLAIMS)]
        await asyncio.gather(*(start(storm_claims, token, id=id, timeout=None) for id in ids))
        ended: dict[str, Any] = {}

        async def wait(id: str) -> None:
            ended[id] = await get_run(id).result()

        waiting = [asyncio.create_task(wait(id)) for id in ids]
        while len(ended) < CLAIMS - 1:
            await asyncio.wait(
                [task for task in waiting if not task.done()], return_when=asyncio.FIRST_COMPLETED
            )
            for task in waiting:
                if task.done():
                    task.result()
        (winner,) = set(ids) - set(ended)
        assert set(ended.values()) == {winner}, "all others know who has it"
        await resume_hook(token, "enough", reply=False, timeout=None)
        await asyncio.gather(*waiting)
        assert ended[winner] is None

    async def program() -> None:
        fought = 0
        async with dying_nodes(cluster, seed=2) as killed:
            while len(killed) < KILLS_MIN:
                tokens = [f"token-{n}" for n in range(fought, fought + TOKENS)]
                await side_by_side(map(fight, tokens), 20)
                fought += TOKENS

    asyncio.run(program())


def test_a_reader_that_comes_and_goes_sees_each_chunk_once_and_then_the_end(
    cluster: Cluster,
) -> None:
    parts, count, readers = 4, 20, 6

    async def read(run: perdure.Run[Any], seed: int) -> list[Any]:
        chance = random.Random(seed)
        got: list[tuple[int, Any]] = []
        at = 0
        while True:
            reading = run.readable(start_index=at)
            stop_after = chance.randrange(1, 8)
            ended = True
            async for chunk in reading:
                at = reading.next_index
                if isinstance(chunk, StreamReset):
                    got = [(index, had) for index, had in got if index < chunk.index]
                else:
                    got.append((at - 1, chunk))
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
            while len(killed) < KILLS_MIN:
                run = await start(storm_streams, parts, count, timeout=None)
                found = await side_by_side(read(run, seed) for seed in range(readers))
                assert await run.result() == parts
                assert all(chunks == found[0] for chunks in found), "all have seen the same"
                check(found[0])

    asyncio.run(program())
