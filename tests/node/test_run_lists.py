"""Lists of runs: a question is answered after few looks, however rare it is what it asks for."""

from __future__ import annotations

from typing import Any

import pytest
from harness.run_world import RunWorld, key_of

from perdure import codec
from perdure.frames import Kind

COUNT = 1_000


@pytest.fixture
def world() -> RunWorld:
    """A partition with a thousand runs in its store, one of which is of another workflow."""
    world = RunWorld()
    for number in range(COUNT):
        world.begin(f"r{number:04}", "rare" if number == 777 else "often")
        if number % 100 == 99:
            world.sync()
        if number % 2:
            world.end(f"r{number:04}")
    world.sync()
    world.apply()
    return world


def ask(world: RunWorld, *args: Any, prefix: str = "") -> tuple[list[str], str | None]:
    world.answers()
    key = key_of(prefix)
    world.call(0, "list", kind=Kind.ASK, target=key, arguments=codec.encode([*args]))
    [(_, code, told)] = world.answers()
    assert code == 0
    found, after = codec.decode(told)
    return [row["id"] for row in found], after


def all_of(world: RunWorld, *args: Any, prefix: str = "") -> list[list[str]]:
    """Return the ids in each answer."""
    answers: list[list[str]] = []
    after: str | None = ""
    while after is not None:
        ids, after = ask(world, after, *args, prefix=prefix)
        answers.append(ids)
    return answers


def flat(answers: list[list[str]]) -> list[str]:
    return [id for answer in answers for id in answer]


def test_what_is_rare_is_found_in_many_short_answers(world: RunWorld) -> None:
    answers = all_of(world, "rare", None)
    assert flat(answers) == ["r0777"]
    assert len(answers) == 5, "200 runs are looked at for each"


def test_nothing_is_brought_into_memory_or_thrown_out_of_it(world: RunWorld) -> None:
    world.crash()  # What has ended is only in the store.
    counters, there = world.residents.counters, len(world.memory._states)
    loads = counters.loads
    assert len(flat(all_of(world, "often", "completed"))) == COUNT // 2 - 1
    assert (counters.loads, len(world.memory._states)) == (loads, there)


@pytest.mark.parametrize("limit", [1, 3, 200, 201, 500])
def test_each_run_is_told_once_and_in_order_whatever_the_limit(world: RunWorld, limit: int) -> None:
    ids = [f"r{number:04}" for number in range(400, 700)]
    for id in ids[::7]:
        world.begin(f"{id}x", "often")
    world.sync()  # And not in the store.
    expected = sorted([*ids, *(f"{id}x" for id in ids[::7])])
    found: list[str] = []
    after: str | None = "r03999"
    while after is not None and after < "r07":
        some, after = ask(world, after, None, None, limit)
        assert len(some) <= limit
        found += some
    assert [id for id in found if id < "r07"] == expected


def test_what_has_gone_is_not_told(world: RunWorld) -> None:
    world.wall_ms += 1_000_000
    world.sweep(limit=100)
    world.sync()
    left = flat(all_of(world, None, "completed"))
    assert left == [f"r{number:04}" for number in range(201, COUNT, 2)]
    assert flat(all_of(world, None, "running", prefix="r01")) == [
        f"r{number:04}" for number in range(100, 200, 2)
    ]
