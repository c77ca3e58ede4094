"""Services in Python that never wait: they have answered when `begin` returns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.loop import on_loop

from perdure import ctx, durable, services
from perdure.bodies import unpack_error
from perdure.codec import decode, encode
from perdure.context import StepResult
from perdure.errors import Code, ServiceNotFound, error_from_wire
from perdure.service_settings import ServiceSettings
from perdure_node.services import Services

KEY = "0193-call/1"


@contextlib.asynccontextmanager
async def given(
    pauses: list[float] | None = None, **settings: ServiceSettings
) -> AsyncIterator[Services]:
    async def pause(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    made = Services(settings, chance=lambda: 1.0, pause=pause)
    try:
        yield made
    finally:
        await made.close()


def outcome(result: StepResult) -> Any:
    if result.code == Code.OK:
        return decode(result.payload)
    raise error_from_wire(result.code, unpack_error(result.payload))


@on_loop
async def test_a_service_that_never_waits_answers_before_begin_returns() -> None:
    @durable.service("begun")
    class Begun:
        async def add_one(self, number: int) -> int:
            assert ctx.idempotency_key == KEY
            return number + 1

    async with given() as made:
        assert outcome(begin(made, "begun", "add_one", 3)) == 4


@on_loop
async def test_a_service_that_asks_for_it_is_attempted_again_with_the_same_key() -> None:
    seen: list[tuple[str, int]] = []

    @durable.service("begun_again")
    class BegunAgain:
        async def work(self) -> str:
            seen.append((ctx.idempotency_key, ctx.attempt))
            if ctx.attempt < 3:
                raise services.Retry(after=7.0, reason="not yet")
            return "done"

    pauses: list[float] = []
    async with given(pauses) as made:
        rest = begin(made, "begun_again", "work")
        assert seen == [(KEY, 1)]
        assert outcome(await rest) == "done"
        assert pauses[0] >= 7.0
    assert seen == [(KEY, 1), (KEY, 2), (KEY, 3)]


@pytest.mark.parametrize("method", ["waits", "blocks", "nothing"])
@on_loop
async def test_any_other_service_is_left_to_a_task(method: str) -> None:
    ran: list[str] = []

    @durable.service("begun_later")
    class BegunLater:
        async def waits(self) -> str:
            ran.append("waits")
            await asyncio.sleep(0)
            return "waits"

        def blocks(self) -> str:
            ran.append("blocks")
            return "blocks"

    async with given() as made:
        rest = begin(made, "begun_later", method)
        assert ran == []
        if method == "nothing":
            with pytest.raises(ServiceNotFound):
                outcome(await rest)
        else:
            assert outcome(await rest) == method


@on_loop
async def test_a_service_without_a_free_place_waits_for_one_even_if_it_never_waits() -> None:
    gate, ran = asyncio.Event(), list[str]()

    @durable.service("begun_full")
    class BegunFull:
        async def hold(self) -> None:
            await gate.wait()

        async def quick(self) -> None:
            ran.append("quick")

    async with given(begun_full=ServiceSettings(concurrency=1)) as made:
        held = asyncio.create_task(made.call("begun_full", "hold", None, KEY, 1))
        await asyncio.sleep(0)
        rest = begin(made, "begun_full", "quick")
        assert ran == []
        gate.set()
        outcome(await rest)
        await held
    assert ran == ["quick"]


def begin(made: Services, service: str, method: str, *payload: Any) -> Any:
    encoded = encode(payload[0]) if payload else None
    return made.begin(service, method, encoded, KEY, (), asyncio.get_running_loop())
