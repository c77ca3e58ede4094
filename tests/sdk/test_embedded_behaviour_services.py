"""Services, as users write and call them: embedded and on a node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.world import Embedded, Served, World

from perdure import (
    BadArguments,
    DurableContext,
    DurableObject,
    ServiceError,
    ServiceNotFound,
    ctx,
    durable,
)


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


SEEN: list[tuple[str, Any, str, int]] = []
"""Method, payload, key and number of each attempt."""
MADE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()


def seen(method: str, payload: Any = "nothing") -> None:
    SEEN.append((method, payload, ctx.idempotency_key, ctx.attempt))


@durable.service("printing_house")
class PrintingHouse:
    def __init__(self) -> None:
        MADE.append("a printing house")

    async def bind(self, payload: Any) -> Any:
        seen("bind", payload)
        return {"success": payload != "wet paper", "payload": payload}

    def fold(self, payload: Any) -> Any:
        seen("fold", payload)
        return payload

    async def open(self) -> str:
        seen("open")
        return "open"

    async def burn(self, payload: Any) -> None:
        seen("burn", payload)
        raise LookupError("no book of that name")

    async def jam(self, payload: Any) -> str:
        seen("jam", payload)
        if ctx.attempt < payload:
            raise durable.Retry(after=0.001)
        return f"attempt {ctx.attempt}"

    async def write_to(self, author: Author) -> int:
        seen("write_to", author.object_id)
        return await author.note("a letter")

    async def ask_for_a_step(self, payload: Any) -> None:
        await ctx.sleep(0.001)

    def _secret(self) -> None:
        raise AssertionError("never called")


@durable.service("press")
async def ink(payload: Any) -> str:
    seen("ink", payload)
    return "black"


@durable.service("press")
def paper() -> str:
    return "white"


@durable.object
class Author(DurableObject):
    def __init__(self, author_id: str) -> None:
        super().__init__(author_id)
        self.notes: list[Any] = []

    async def note(self, what: Any) -> int:
        self.notes.append(what)
        return len(self.notes)

    @durable.shared
    async def read(self) -> list[Any]:
        return self.notes

    async def order(self, ctx: DurableContext, service: str, method: str, *payload: Any) -> Any:
        self.notes.append(method)
        return await ctx.call(service, method, *payload)

    async def order_twice(self, ctx: DurableContext) -> list[str]:
        await ctx.call("printing_house", "bind", 1)
        await ctx.call("printing_house", "bind", 2)
        return [ctx.call_id]

    async def burn_all(self, ctx: DurableContext, count: int) -> list[str]:
        errors = []
        for number in range(count):
            try:
                await ctx.call("printing_house", "burn", number)
            except ServiceError as error:
                errors.append(f"{error.service}.{error.method}: {error.type}: {error.message}")
        self.notes += errors
        return errors

    async def order_from(self, ctx: DurableContext, other: Author) -> int:
        return await ctx.call("printing_house", "write_to", other)


async def order(method: str, *payload: Any, service: str = "printing_house") -> Any:
    return await (await Author.get_or_create("a1")).order(service, method, *payload)


@pytest.mark.parametrize("payload", [None, 1, {"pages": (1, 2)}, [b"x", {1, 2}]])
def test_a_service_gets_the_payload_as_it_was(world, payload):
    async def main():
        assert (await order("bind", payload))["payload"] == payload
        assert await order("fold", payload) == payload, "a sync method too"

    world.run(main)


def test_a_service_gets_nothing_where_the_call_has_no_payload(world):
    async def main():
        assert await order("open") == "open"
        with pytest.raises(ServiceError, match="TypeError"):
            await order("open", None)

    world.run(main)


def test_an_answer_that_says_no_is_data(world):
    async def main():
        assert (await order("bind", "wet paper"))["success"] is False

    world.run(main)


def test_an_error_of_a_service_is_its_answer_at_once_and_never_retried(world):
    async def main():
        with pytest.raises(ServiceError) as error:
            await order("burn", "a book")
        assert str(error.value) == "printing_house.burn: LookupError: no book of that name"
        assert [attempt[3] for attempt in SEEN] == [1]
        assert await durable.ref(Author, "a1").read() == []

    world.run(main)


def test_a_loop_over_things_that_fail_goes_on(world):
    async def main():
        author = await Author.get_or_create("a1")
        text = "printing_house.burn: LookupError: no book of that name"
        assert await author.burn_all(3) == [text] * 3
        assert await author.read() == [text] * 3
        assert [attempt[1] for attempt in SEEN] == [0, 1, 2]

    world.run(main)


def test_a_service_that_asks_to_be_called_again_is_with_the_same_key(world):
    async def main():
        assert await order("jam", 3) == "attempt 3"
        assert [attempt[3] for attempt in SEEN] == [1, 2, 3]
        assert len({attempt[2] for attempt in SEEN}) == 1

    world.run(main)


def test_the_key_of_a_step_is_the_id_of_the_call_and_the_number_of_the_step(world):
    async def main():
        # Keys of callers count per object and method: they would be too few for a service.
        for key in (None, "order-7"):
            SEEN.clear()
            author = durable.options(await Author.get_or_create("a1"), key=key)
            [call_id] = await author.order_twice()
            assert [attempt[2] for attempt in SEEN] == [f"{call_id}/1", f"{call_id}/2"]

    world.run(main)


@pytest.mark.parametrize(
    ("service", "method"),
    [("printing_hose", "bind"), ("printing_house", "bnid"), ("printing_house", "_secret")],
)
def test_what_is_not_there_is_service_not_found(world, service, method):
    async def main():
        with pytest.raises(ServiceNotFound, match=method):
            await order(method, 1, service=service)
        assert await durable.ref(Author, "a1").read() == []
        assert await durable.ref(Author, "a1").note("usable") == 1

    world.run(main)


def test_a_class_is_made_once_in_a_process(world):
    async def main():
        await asyncio.gather(*(order("bind", number) for number in range(5)))

    world.run(main)
    world.run(main)
    assert MADE == ["a printing house"]


def test_functions_share_a_service_each_under_its_own_name(world):
    async def main():
        assert await order("ink", "dark", service="press") == "black"
        assert await order("paper", service="press") == "white"

    world.run(main)


def test_a_payload_that_cannot_be_sent_is_refused_and_nothing_is_called(world):
    async def main():
        with pytest.raises(BadArguments):
            await (await Author.get_or_create("a1")).order("printing_house", "bind", object())
        assert SEEN == []

    world.run(main)


def test_a_service_may_call_objects(world):
    async def main():
        one, two = await Author.get_or_create("a1"), await Author.get_or_create("a2")
        assert await one.order_from(two) == 1
        assert await two.read() == ["a letter"]

    world.run(main)


def test_a_service_that_calls_back_into_its_caller_hears_that_it_is_a_cycle(world):
    async def main():
        one = await Author.get_or_create("a1")
        with pytest.raises(ServiceError, match=r"CallCycle.*Author\[a1\]"):
            await one.order_from(one)
        assert await one.note("usable") == 1

    world.run(main)


def test_a_service_has_no_steps_of_its_own(world):
    async def main():
        with pytest.raises(ServiceError, match=r"RuntimeError.*sleep"):
            await order("ask_for_a_step", 1)

    world.run(main)


def test_at_top_level_a_service_is_called_and_nothing_recorded(world):
    async def main():
        assert (await ctx.call("printing_house", "bind", 1))["success"]
        assert await ctx.call("press", "paper") == "white"
        with pytest.raises(ServiceNotFound):
            await ctx.call("pres", "paper")

    world.run(main)
