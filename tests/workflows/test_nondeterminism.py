"""Code that asks for other things than before: found at its first replay, nothing done, mended."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from harness.world import Served

import perdure
from perdure import (
    DurableObject,
    Parked,
    codec,
    define_hook,
    durable,
    get_run,
    resume_hook,
    sleep,
    start,
    step,
    workflow,
)

Code = Callable[[], Coroutine[Any, Any, Any]]

anything = define_hook()

SET_ORDER = Path(__file__).parents[1] / "harness" / "set_order.py"

DONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


@step
async def buy(what: str) -> str:
    DONE.append(what)
    return what


@step
async def sell(what: str) -> str:
    DONE.append(f"sold {what}")
    return what


@durable.object
class MutableShop(DurableObject):
    def __init__(self, shop_id: str) -> None:
        super().__init__(shop_id)
        self.visits: list[str] = []

    async def visit(self, who: str) -> int:
        self.visits.append(who)
        return len(self.visits)

    async def leave(self, who: str) -> int:
        self.visits.append(f"-{who}")
        return len(self.visits)


async def visit(shop: str, method: str = "visit") -> Any:
    handle = await MutableShop.get_or_create(shop)
    return await durable.call(getattr(handle, method), "run")


async def wait() -> Any:
    return await anything.create(token="go on")


async def original() -> list[Any]:
    bought = [await buy("apples"), await buy("pears")]
    await visit("corner")
    bought += await asyncio.gather(buy("nuts"), sell("nuts"))
    return [*bought, await wait()]


async def other_step() -> None:
    await buy("apples")
    await sell("pears")


async def other_order() -> None:
    await buy("apples")
    await visit("corner")


async def other_object() -> None:
    await buy("apples")
    await buy("pears")
    await visit("mall")


async def other_method() -> None:
    await buy("apples")
    await buy("pears")
    await visit("corner", "leave")


async def other_gather() -> None:
    await buy("apples")
    await buy("pears")
    await visit("corner")
    await asyncio.gather(sell("nuts"), buy("nuts"))


async def removed() -> None:
    await buy("apples")
    await visit("corner")
    await wait()


async def removed_at_the_end() -> None:
    await buy("apples")
    await buy("pears")
    await visit("corner")
    await asyncio.gather(buy("nuts"), sell("nuts"))
    await asyncio.Event().wait()


async def returned_early() -> None:
    await buy("apples")
    await buy("pears")


async def added() -> None:
    await buy("apples")
    await sleep(0)
    await buy("pears")


async def other_token() -> None:
    await buy("apples")
    await buy("pears")
    await visit("corner")
    await asyncio.gather(buy("nuts"), sell("nuts"))
    await anything.create(token="go back")


async def other_argument() -> None:
    await buy("apples")
    await buy("plums")


async def other_argument_of_a_call() -> None:
    await buy("apples")
    await buy("pears")
    await durable.call((await MutableShop.get_or_create("corner")).visit, "a thief")


CHANGED = {
    other_step: ("step buy", "step sell"),
    other_order: ("step buy", "MutableShop[corner].get_or_create"),
    other_object: ("MutableShop[corner]", "MutableShop[mall]"),
    other_method: ("MutableShop[corner].visit", "MutableShop[corner].leave"),
    other_gather: ("step buy", "step sell"),
    removed: ("step buy", "MutableShop[corner].get_or_create"),
    removed_at_the_end: ("hook go on", "nothing more"),
    returned_early: ("MutableShop[corner].get_or_create", "nothing more"),
    added: ("step buy", "sleep"),
    other_token: ("hook go on", "hook go back"),
    other_argument: ("step buy('pears')", "step buy('plums')"),
    other_argument_of_a_call: (
        "MutableShop[corner].visit('run')",
        "MutableShop[corner].visit('a thief')",
    ),
}


async def begun(run: perdure.Run[Any]) -> None:
    """Return once the run has done all that it does before it waits for its hook."""
    while not [e for e in await run.events() if e.kind == "hook_created"]:
        await asyncio.sleep(0)


def deploy(code: Code) -> Any:
    return workflow(name="mutable")(code)


@pytest.mark.parametrize("changed", CHANGED, ids=lambda code: code.__name__)
def test_a_changed_program_does_nothing_and_a_mended_one_goes_on(
    tmp_path: Path, changed: Code
) -> None:
    world = Served(tmp_path / "data")

    async def begin() -> None:
        await begun(await start(deploy(original), id="r"))

    async def go_on_changed() -> str:
        while (parked := (await get_run("r").status()).parked) is None:
            await asyncio.sleep(0)
        with pytest.raises(Parked):
            await get_run("r").result()
        return parked

    async def go_on_mended() -> Any:
        await resume_hook("go on", "mended", reply=False)
        return await get_run("r").result()

    world.run(begin)
    done = list(DONE)
    deploy(changed)
    parked = world.run(go_on_changed)
    recorded, asked = CHANGED[changed]
    assert recorded in parked
    assert asked in parked
    assert done == DONE, "nothing was done"
    deploy(original)
    assert world.run(go_on_mended) == ["apples", "pears", "nuts", "nuts", "mended"]
    assert done == DONE, "nothing was done twice"


CHANCE = random.Random()


class Watershed:
    """A moment that the wall clock passes between two runs."""

    at_s = 0.0


async def by_the_clock() -> list[Any]:
    bought = await (buy if time.time() < Watershed.at_s else sell)("apples")
    return [bought, await wait()]


async def of_the_time() -> list[Any]:
    bought = await buy(f"apples at {time.time() < Watershed.at_s}")
    return [bought, await wait()]


async def by_chance() -> list[Any]:
    bought = await (buy if CHANCE.random() < 0.5 else sell)("apples")
    return [bought, await wait()]


async def some_of_many() -> list[Any]:
    bought = await buy(f"{CHANCE.randrange(1 << 64)} apples")
    return [bought, await wait()]


async def with_an_id() -> list[Any]:
    bought = await buy(f"apples for {uuid4()}")
    return [bought, await wait()]


async def to_some_object() -> list[Any]:
    await visit(f"shop {CHANCE.randrange(1 << 64)}")
    return ["apples", await wait()]


UNSTEADY: dict[Code, tuple[str, str]] = {
    by_the_clock: ("step buy", "step sell"),
    of_the_time: ("step buy('apples at True')", "step buy('apples at False')"),
    by_chance: ("step buy", "step sell"),
    some_of_many: ("step buy('14089", "step buy('10431"),
    with_an_id: ("step buy('apples for ", "step buy('apples for "),
    to_some_object: ("MutableShop[shop 14089", "MutableShop[shop 10431"),
}


@pytest.mark.parametrize("unsteady", UNSTEADY, ids=lambda code: code.__name__)
def test_a_program_that_does_not_do_the_same_again_is_found_at_its_first_replay(
    tmp_path: Path, unsteady: Code
) -> None:
    world = Served(tmp_path / "data")

    async def begin() -> None:
        await begun(await start(deploy(unsteady), id="r"))

    async def go_on() -> tuple[str, list[str]]:
        while (parked := (await get_run("r").status()).parked) is None:
            await asyncio.sleep(0)
        [packed] = [e.packed for e in await get_run("r").events() if e.kind == "step_scheduled"][:1]
        return parked, codec.decode(packed)[0] if packed else []

    async def mended() -> Any:
        await resume_hook("go on", "mended", reply=False)
        return await get_run("r").result()

    Watershed.at_s = float("inf")
    CHANCE.seed(1)
    world.run(begin)
    done = list(DONE)
    Watershed.at_s = 0.0
    CHANCE.seed(2)
    parked, given = world.run(go_on)
    recorded, asked = UNSTEADY[unsteady]
    assert recorded in parked.partition(" in the journal")[0]
    assert asked in parked.partition("this code asks for")[2]
    assert done == DONE, "nothing was done"

    # What it has done is in its journal: a program that does the same can go on with it.
    async def steady() -> list[Any]:
        if unsteady is to_some_object:
            await visit(recorded_shop)
        else:
            await buy(*given)
        return ["mended", await wait()]

    recorded_shop = parked.partition("MutableShop[")[2].partition("]")[0]
    deploy(steady)
    assert world.run(mended) == ["mended", "mended"]
    assert done == DONE, "nothing was done twice"


def test_the_order_of_a_set_is_found_to_be_another_in_another_process(tmp_path: Path) -> None:
    def play(part: str, hash_seed: int) -> Any:
        environment = {
            **os.environ,
            "PYTHONHASHSEED": str(hash_seed),
            "PERDURE_DATA": str(tmp_path / "data"),
        }
        environment.pop("PERDURE_ADDRESS", None)
        told = subprocess.run(
            [sys.executable, SET_ORDER, part],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
        return json.loads(told.stdout)

    one = play("order", 1)
    other_seed = next(seed for seed in range(2, 100) if play("order", seed)[0] != one[0])
    assert play("begin", 1) == one
    found = play("look", other_seed)
    assert f"step pick({one[0]!r})" in found["parked"]
    assert f"step pick({play('order', other_seed)[0]!r})" in found["parked"]
    assert found["picked"] == [], "nothing was done"
    assert play("end", 1) == {"result": one, "picked": []}


def test_a_run_whose_workflow_is_gone_waits_for_it(tmp_path: Path) -> None:
    from perdure.workflows import definitions

    world = Served(tmp_path / "data")

    async def begin() -> None:
        await begun(await start(deploy(original), id="r"))

    async def without() -> str:
        while (parked := (await get_run("r").status()).parked) is None:
            await asyncio.sleep(0)
        return parked

    async def again() -> Any:
        await resume_hook("go on", 1, reply=False)
        return await get_run("r").result()

    world.run(begin)
    gone = definitions._workflows.pop("mutable")
    assert "mutable" in world.run(without)
    definitions._workflows["mutable"] = gone
    assert world.run(again)[-1] == 1
