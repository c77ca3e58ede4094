"""Code that asks for other things than before: found at its first replay, nothing done, mended."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from harness.world import Served

import perdure
from perdure import (
    DurableObject,
    NonDeterministic,
    Parked,
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


async def by_the_clock() -> None:
    if time.time() > 0:
        await sell("apples")


async def by_chance() -> None:
    for what in {"pears", "plums"}:  # noqa: PLC0208 - the order of a set is what it is about
        if what == "plums":
            await sell(what)


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
    by_the_clock: ("step buy", "step sell"),
    by_chance: ("step buy", "step sell"),
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


async def sleeps() -> None:
    await asyncio.sleep(0.01)


async def times_out() -> None:
    await asyncio.wait_for(asyncio.ensure_future(wait()), 0.01)


async def has_a_timeout() -> None:
    async with asyncio.timeout(0.01):
        await wait()


async def waits_a_while() -> None:
    await asyncio.wait([asyncio.ensure_future(wait())], timeout=0.01)


async def calls_later() -> None:
    asyncio.get_running_loop().call_later(0.01, print)


async def uses_a_thread() -> None:
    await asyncio.to_thread(print)


async def opens_a_connection() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def reads_a_socket() -> None:
    with socket.socket() as one:
        one.setblocking(False)
        await asyncio.get_running_loop().sock_recv(one, 1)


FOREIGN = {
    sleeps: "perdure.sleep",
    times_out: "perdure.wait_for",
    has_a_timeout: "perdure.wait_for",
    waits_a_while: "perdure.wait_for",
    calls_later: "perdure.sleep",
    uses_a_thread: "@step",
    opens_a_connection: "@step",
    reads_a_socket: "@step",
}


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda code: code.__name__)
def test_what_a_replay_could_not_wait_for_is_refused_and_the_fix_is_named(
    tmp_path: Path, foreign: Code
) -> None:
    async def program() -> str:
        with pytest.raises(NonDeterministic) as refused:
            await start(deploy(foreign), id="r")
        assert (await get_run("r").status()).parked is not None
        return str(refused.value)

    assert FOREIGN[foreign] in Served(tmp_path / "data").run(program)


async def swallows() -> str:
    try:
        await asyncio.sleep(1)
    except Exception:
        return await buy("regardless")
    return "slept"


def test_a_refusal_cannot_be_swallowed(tmp_path: Path) -> None:
    async def program() -> None:
        with pytest.raises(NonDeterministic):
            await start(deploy(swallows), id="r")

    Served(tmp_path / "data").run(program)
    assert not DONE


async def is_fine() -> list[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def put(what: str) -> None:
        async with asyncio.Lock():
            await queue.put(await buy(what))

    async with asyncio.TaskGroup() as group:
        for what in ("a", "b", "c"):
            group.create_task(put(what))
    await asyncio.sleep(0)
    done, pending = await asyncio.wait([asyncio.create_task(_bought("d"))])
    assert not pending
    first = await next(iter(asyncio.as_completed([_bought("e")])))
    got = [queue.get_nowait() for _ in range(3)]
    late = await perdure.wait_for(_bought("f"), 60)
    return [*got, *(task.result() for task in done), first, late]


async def _bought(what: str) -> str:
    return await buy(what)


def test_what_asyncio_offers_without_a_clock_is_fine(tmp_path: Path) -> None:
    async def program() -> Any:
        return await (await start(deploy(is_fine))).result()

    assert Served(tmp_path / "data").run(program) == ["a", "b", "c", "d", "e", "f"]


async def too_late() -> str:
    hook = anything.create(token="never")
    try:
        return str(await perdure.wait_for(hook, 0.01))
    except TimeoutError:
        return "timed out"


def test_a_wait_with_a_durable_clock_ends(tmp_path: Path) -> None:
    async def program() -> Any:
        return await (await start(deploy(too_late))).result()

    assert Served(tmp_path / "data").run(program) == "timed out"


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
