"""Durable functions on a real node: they run once, survive crashes, and leave nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, running, settings
from harness.tally import settled

from perdure import DurableContext, DurableObject, UnknownMethod, ctx, durable
from perdure.ids import ObjectKey
from perdure_node.node import Node

GATES: dict[str, asyncio.Event] = {}
MADE: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    GATES.clear()
    MADE.clear()


@durable.function
async def doubled(number: int) -> int:
    """Return twice as much."""
    MADE.append(number)
    return 2 * number


@durable.function
def tripled(number: int, *, plus: int = 0) -> int:
    MADE.append(number)
    return 3 * number + plus


@durable.function(name="looks-around")
async def look_around(context: DurableContext, word: str) -> list[Any]:
    recorded = await context.run("note", lambda: MADE.append(word))
    return [word, recorded, context.call_id == ctx.call_id, ctx.attempt]


@durable.function
async def in_steps(word: str) -> str:
    first = await ctx.run("first", lambda: MADE.append(f"first {word}"))
    await GATES["go"].wait()
    await ctx.run("second", lambda: MADE.append(f"second {word}"))
    return f"{word} {first}"


@durable.function
async def refused() -> None:
    MADE.append("refused")
    raise ValueError("not today")


@durable.function
async def factorial(number: int) -> int:
    return 1 if number == 0 else number * await factorial(number - 1)


@durable.object
class AsksFunctions(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.found: list[Any] = []

    async def ask(self, number: int) -> list[Any]:
        results = await asyncio.gather(doubled(number), tripled(number, plus=1))
        await GATES["go"].wait()
        self.found = [*results, await ctx.call("doubled", "call", number + 1)]
        return self.found


def client_of(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.remote.current_client", lambda: caller.client)


def left(node: Node) -> list[Any]:
    """What there is in memory of calls of functions."""
    found: list[Any] = []
    for host in node._hosts:
        memory = host.partition.memory
        for known in (memory._states, memory._pinned, memory.progress):
            found += [key for key in known if key.type.startswith("function:")]
        found += list(memory.underway.outbox)
    return found


def rows(node: Node) -> list[bytes]:
    """All that the stores have that names a function."""
    found = []
    for host in node._hosts:
        store = host.partition.memory._store
        found += [key for key, _ in store.scan(b"", b"", 10_000) if b"function:" in key]
    return found


async def until(condition: Any) -> None:
    while not condition():
        await settled()


@on_loop
async def test_a_function_runs_on_the_cluster_and_gives_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        client_of(caller, monkeypatch)
        assert await doubled(4) == 8
        assert await tripled(5, plus=2) == 17
        assert await asyncio.gather(*(doubled(n) for n in range(50))) == [2 * n for n in range(50)]
        assert await look_around("here") == ["here", None, True, 1]
        assert await factorial(6) == 720
        assert left(node) == []
        # What a store got while a call went on leaves with the next batch.
        await until(lambda: rows(node) == [])
    assert repr(look_around) == "<durable function looks-around>"
    assert doubled.__doc__ == "Return twice as much."


@on_loop
async def test_what_a_function_raises_is_its_outcome_and_it_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        client_of(caller, monkeypatch)
        with pytest.raises(ValueError, match="not today"):
            await refused()
        assert MADE == ["refused"]
        assert left(node) == []


@on_loop
async def test_calls_with_one_key_are_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        client_of(caller, monkeypatch)
        once = durable.options(doubled, key="order 7")
        assert await asyncio.gather(once(4), once(4)) == [8, 8]
        assert await once(4) == 8
        assert await durable.options(doubled, key="order 8")(4) == 8
        assert left(node) == []
    async with running(settings(tmp_path)) as (_, caller):
        client_of(caller, monkeypatch)
        assert await once(4) == 8
    assert MADE == [4, 4]


@on_loop
async def test_a_function_goes_on_after_a_crash_without_its_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GATES["go"] = asyncio.Event()
    async with running(settings(tmp_path), crash=True) as (node, caller):
        client_of(caller, monkeypatch)
        in_steps("a")
        await until(lambda: any("d" in [e.tag for e in p.events] for p in progress(node)))
        await caller.create("AsksFunctions")
    async with running(settings(tmp_path)) as (node, caller):
        GATES["go"].set()
        await until(lambda: not progress(node))
        assert left(node) == []
    assert MADE == ["first a", "second a"]
    async with running(settings(tmp_path)) as (node, _):
        await until(lambda: rows(node) == [])


def progress(node: Node) -> list[Any]:
    return [p for host in node._hosts for p in host.partition.memory.progress.values()]


@on_loop
async def test_a_method_that_runs_again_gets_the_results_of_the_same_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GATES["go"] = asyncio.Event()
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.create("AsksFunctions")
        caller.send("AsksFunctions", "ask", 5)
        await until(lambda: any([e.tag for e in p.events].count("d") == 2 for p in progress(node)))
        await caller.create("AsksFunctions", "other")
    assert sorted(MADE) == [5, 5]
    GATES["go"].set()
    async with running(settings(tmp_path)) as (node, caller):
        while not (found := (await caller.state("AsksFunctions"))["found"]):
            await settled()
        assert found == [10, 16, 12]
        assert left(node) == []
    assert sorted(MADE) == [5, 5, 6]


@on_loop
async def test_nobody_can_make_an_object_of_a_function(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        with pytest.raises(UnknownMethod, match="a durable function has no objects"):
            raise await refusal_of(caller)


async def refusal_of(caller: Caller) -> Exception:
    from harness.nodes import result_of

    try:
        result_of(await caller.create("function:doubled"))
    except Exception as error:
        return error
    raise AssertionError("it was made")


def test_functions_and_services_have_names_of_their_own() -> None:
    with pytest.raises(TypeError, match="'doubled' is a durable function already"):
        durable.service("doubled")(AsksFunctions)

    @durable.service("taken-by-a-service")
    async def serve(payload: object) -> object:
        return payload

    with pytest.raises(TypeError, match="'taken-by-a-service' is a service already"):
        durable.function(name="taken-by-a-service")(serve)
    with pytest.raises(ValueError, match="those of durable functions"):
        durable.object(name="function:doubled")(AsksFunctions)
    with pytest.raises(TypeError, match=r"decorates a class by|decorates a function, not type"):
        durable.function(AsksFunctions)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="retries is an int from 0"):
        durable.function(retries=-1)(serve)


def test_a_function_takes_what_its_signature_says() -> None:
    from perdure import BadArguments

    with pytest.raises(BadArguments, match="missing 1 required positional argument"):
        doubled()  # type: ignore[call-arg]
    assert ObjectKey("function:doubled", "x").type == doubled._perdure_type.name
