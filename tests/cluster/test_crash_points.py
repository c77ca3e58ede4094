"""kill -9 at every point where it could matter: no effect is lost or doubled.

`PERDURE_CRASH_KILLS=20` kills more often at each point than is good for every run.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.crash_points import AT_WORK, IN_RECOVERY, wrappable
from harness.errands import ErrandBook, Errands
from harness.lives import Lives, lives_of
from harness.processes import READY_S
from harness.witness import Witness, running_witness

import perdure
from perdure import durable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3_600)]

KILLS = int(os.environ.get("PERDURE_CRASH_KILLS", "1"))
"""At each point."""
CALLS = 20_000 if KILLS >= 20 else 0
"""Keyed calls, at least."""
OBJECTS = 6
CALLERS = 3
"""Of each object."""
SELDOM = ("timer", "firing", "delivery", "store", "recovery", "flushed")
STEP_MADE = "after a step was made"
PASSAGES = 40
PASSAGES_SELDOM = 3
PASSAGES_IN_RECOVERY = 4


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    with running_witness(tmp_path / "ledger") as running:
        yield running


@pytest.fixture
def lives(tmp_path: Path, witness: Witness) -> Iterator[Lives]:
    app = Path(__file__).parents[1] / "harness" / "errands.py"
    with lives_of(app, tmp_path, {"till": witness.url}) as lives:
        yield lives


class Callers:
    """Callers that repeat every call under its key, until they are told to stop."""

    def __init__(self) -> None:
        self.stopped = False
        self.ran: dict[str, list[int]] = {f"e{n}": [] for n in range(OBJECTS)}
        self.added: dict[str, list[int]] = {f"e{n}": [] for n in range(OBJECTS)}
        self.keys = 0

    async def work(self) -> None:
        async with asyncio.TaskGroup() as group:
            for id in self.ran:
                await ErrandBook.get_or_create(f"book of {id}")
                errands = await Errands.get_or_create(id)
                for caller in range(CALLERS):
                    group.create_task(self._call(errands, caller))

    async def _call(self, errands: Errands, caller: int) -> None:
        number, id = caller, errands.object_id
        while not self.stopped:
            number += CALLERS
            keyed = durable.options(errands, key=f"k{number}", timeout=READY_S)
            if number % 5:
                method, noted = keyed.add, self.added[id]
            else:
                method, noted = keyed.run, self.ran[id]
            first = await method(number)
            noted.append(number)
            assert await method(number) == first, f"another answer to k{number} of {id}"
            self.keys += 1

    async def problems(self, witness: Witness) -> list[str]:
        found: list[str] = []
        for id, ran in self.ran.items():
            called, sent, late = await durable.ref(ErrandBook, f"book of {id}").read()
            state = await durable.ref(Errands, id).read()
            held: dict[str, list[int]] = {**state, "called": called, "sent": sent, "late": late}
            for what, numbers in held.items():
                wanted = self.added[id] if what == "plain" else ran
                found += differences(f"{id}.{what}", numbers, wanted)
        charged = [entry["payload"]["errand"] for entry in witness.effects().values()]
        wanted_charges = [f"{id}/{n}" for id, ran in self.ran.items() for n in ran]
        return found + differences("the till", charged, wanted_charges)


def differences(what: str, held: list[Any], wanted: list[Any]) -> list[str]:
    doubled = {each for each in held if held.count(each) > 1} if len(held) < 2_000 else set()
    if len(set(held)) != len(held) and not doubled:
        doubled = {"some"}
    found = [f"{what}: {doubled} more than once"] if doubled else []
    if lost := set(wanted) - set(held):
        found.append(f"{what}: {lost} lost")
    if more := set(held) - set(wanted):
        found.append(f"{what}: {more} from nowhere")
    return found


async def until_quiet(callers: Callers, witness: Witness) -> list[str]:
    """Return the problems that are still there when nothing is under way any more."""
    found: list[str] = []
    async with asyncio.timeout(READY_S):
        while found := await callers.problems(witness):
            if not all("lost" in problem for problem in found):
                break  # What is there will not go away.
            await asyncio.sleep(0.05)
    return found


def plan() -> list[tuple[str, int]]:
    """Return where to die, and at which passage. A start that dies comes after a crash at work."""
    chance = random.Random(0)
    plan: list[tuple[str, int]] = []
    starts = [point for point in wrappable(IN_RECOVERY) for _ in range(KILLS)]
    for point in [point for _ in range(KILLS) for point in wrappable(AT_WORK)]:
        seldom = any(word in point for word in SELDOM)
        plan.append((point, chance.randint(1, PASSAGES_SELDOM if seldom else PASSAGES)))
        if starts:
            start = starts.pop()
            if "goes on" in start:
                # The journal has that it was to be made: that call is to go on.
                plan.append((STEP_MADE, chance.randint(1, PASSAGES)))
            often = PASSAGES_IN_RECOVERY if "partition" in start else 1
            plan.append((start, chance.randint(1, often)))
    return plan


def test_no_effect_is_lost_or_doubled_wherever_the_node_dies(
    lives: Lives, witness: Witness
) -> None:
    asyncio.run(die_everywhere(lives, witness))


async def die_everywhere(lives: Lives, witness: Witness) -> None:
    callers = Callers()
    first, *rest = plan()
    lives.begin("crash_points.arm", *first)
    await perdure.connect(lives.address)
    work = asyncio.create_task(callers.work())
    await lives.death(str(first))
    for point, count in rest:
        await lives.end_of("crash_points.arm", point, count)
        if work.done():
            break
    lives.begin()
    while callers.keys < CALLS and not work.done():
        await asyncio.sleep(0.1)
    callers.stopped = True
    await work

    found = await until_quiet(callers, witness)

    lives.kill()
    await asyncio.to_thread(lives.ended)
    print(f"\n{1 + len(rest)} kills, {callers.keys} keys, {len(witness.ledger())} attempts")
    assert found == [], lives.output()
    assert callers.keys > 0
