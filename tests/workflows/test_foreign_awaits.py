"""What a workflow cannot wait for: it is refused at once, and the error names what to use."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from harness.world import Served

import perdure
from perdure import NonDeterministic, define_hook, get_run, start, step, workflow

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


async def wait() -> Any:
    return await anything.create(token="go on")


def deploy(code: Code) -> Any:
    return workflow(name="foreign")(code)


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
def test_what_a_replay_could_not_wait_for_is_refused_and_a_fixed_program_goes_on(
    tmp_path: Path, foreign: Code
) -> None:
    world = Served(tmp_path / "data")

    async def refused() -> str:
        with pytest.raises(NonDeterministic) as caught:
            await start(deploy(foreign), id="r")
        assert (await get_run("r").status()).parked is not None
        return str(caught.value)

    async def fixed() -> str:
        await perdure.sleep(0.001)
        return await buy("in the end")

    async def result() -> Any:
        return await get_run("r").result()

    assert FOREIGN[foreign] in world.run(refused)
    assert not DONE, "the error names the fix, and nothing was done"
    deploy(fixed)
    assert world.run(result) == "in the end"
    assert DONE == ["in the end"]


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
