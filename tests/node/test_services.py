from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness.loop import on_loop
from harness.nodes import running, settings

from perdure import CallCycle, DurableObject, ctx, durable, services
from perdure.bodies import unpack_error
from perdure.codec import decode, encode
from perdure.context import StepResult, current_turn
from perdure.errors import (
    Code,
    PerdureError,
    ResultNotStorable,
    ResultTooLarge,
    ServiceError,
    ServiceNotFound,
    error_from_wire,
)
from perdure.service_settings import ServiceSettings
from perdure_node.services import RESULT_BYTES_MAX, Services

KEY = "0193-call/1"


@durable.object
class ServiceLedger(DurableObject):
    def __init__(self, ledger_id: str) -> None:
        super().__init__(ledger_id)
        self.total = 0

    async def add(self, amount: int) -> int:
        self.total += amount
        return self.total


class Given(NamedTuple):
    """Services, and the pauses that they have made."""

    services: Services
    pauses: list[float]

    async def ask(
        self, service: str, method: str, *payload: Any, key: str = KEY, attempt: int = 1
    ) -> Any:
        """Return what the service answers, or raise the error that would be recorded."""
        encoded = encode(payload[0]) if payload else None
        return outcome(await self.services.call(service, method, encoded, key, attempt))


def outcome(result: StepResult) -> Any:
    if result.code == Code.OK:
        return decode(result.payload)
    raise error_from_wire(result.code, unpack_error(result.payload))


@contextlib.asynccontextmanager
async def given(**settings: ServiceSettings) -> AsyncIterator[Given]:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    made = Services(settings, chance=lambda: 1.0, pause=pause)
    try:
        yield Given(made, pauses)
    finally:
        await made.close()


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_services", {})


@on_loop
async def test_a_service_gets_the_payload_or_nothing() -> None:
    @durable.service("echo")
    class Echo:
        async def waits(self, payload: Any = "nothing") -> Any:
            await asyncio.sleep(0)
            return payload

        def blocks(self, payload: Any = "nothing") -> Any:
            return payload

    async with given() as here:
        for method in ("waits", "blocks"):
            assert await here.ask("echo", method, {"cents": (1, 2)}) == {"cents": (1, 2)}
            assert await here.ask("echo", method, None) is None
            assert await here.ask("echo", method) == "nothing"


@on_loop
async def test_an_answer_that_says_no_is_data() -> None:
    @durable.service("bank")
    def charge(payload: Any) -> Any:
        return {"success": False, "for": payload}

    async with given() as here:
        assert await here.ask("bank", "charge", 5) == {"success": False, "for": 5}


@on_loop
async def test_an_exception_is_the_answer_of_the_service_and_not_retried() -> None:
    calls = []

    class CardDeclined(Exception):
        pass

    @durable.service("bank")
    def charge(payload: Any) -> Any:
        calls.append(payload)
        raise CardDeclined(f"no {payload} cents")

    async with given() as here:
        with pytest.raises(ServiceError) as caught:
            await here.ask("bank", "charge", 5)

    assert caught.value.args == ("bank", "charge", "CardDeclined", "no 5 cents")
    assert (calls, here.pauses) == ([5], [])


@on_loop
async def test_even_what_would_end_a_process_or_a_task_is_only_an_error_of_the_service() -> None:
    def raising(error: BaseException) -> None:
        async def waits() -> None:
            raise error

        def blocks() -> None:
            raise error

        services.register("rude", waits)
        services.register("rude", blocks)

    async with given() as here:
        for error in (SystemExit(3), asyncio.CancelledError(), StopIteration(), TimeoutError("x")):
            raising(error)
            for method in ("waits", "blocks"):
                with pytest.raises(ServiceError):
                    await here.ask("rude", method)
        assert here.pauses == []


@on_loop
async def test_a_method_that_does_not_take_what_it_gets_is_an_error_of_the_service() -> None:
    @durable.service("strict")
    async def needs(payload: Any) -> None: ...

    @durable.service("strict")
    def takes_none() -> None: ...

    async with given() as here:
        with pytest.raises(ServiceError, match=r"TypeError: .*missing"):
            await here.ask("strict", "needs")
        with pytest.raises(ServiceError, match=r"TypeError: .*takes 0"):
            await here.ask("strict", "takes_none", 1)


@on_loop
async def test_a_constructor_that_raises_is_an_error_of_the_service() -> None:
    @durable.service("unmade")
    class Unmade:
        def __init__(self) -> None:
            raise KeyError("TOKEN")

        def ping(self) -> None: ...

    async with given() as here:
        with pytest.raises(ServiceError, match="KeyError: 'TOKEN'"):
            await here.ask("unmade", "ping")


@on_loop
async def test_retry_is_attempted_again_after_a_pause_that_doubles() -> None:
    seen = []

    @durable.service("busy")
    async def work() -> str:
        seen.append((ctx.attempt, ctx.idempotency_key))
        if len(seen) < 5:
            raise durable.Retry
        return "done"

    async with given(busy=ServiceSettings(backoff_min_s=1, backoff_max_s=3)) as here:
        assert await here.ask("busy", "work") == "done"

    assert seen == [(n, KEY) for n in range(1, 6)]
    assert here.pauses == [1, 2, 3, 3]


@on_loop
async def test_a_service_may_say_how_long_it_wants_to_be_left_alone() -> None:
    answers: list[Any] = [
        durable.Retry(7),
        durable.Retry(dt.timedelta(minutes=2)),
        durable.Retry(0.001),
    ]

    @durable.service("busy")
    def work() -> str:
        if answers:
            raise answers.pop(0)
        return "done"

    async with given(busy=ServiceSettings(backoff_min_s=1)) as here:
        assert await here.ask("busy", "work") == "done"

    assert here.pauses == [7, 120, 4]


@on_loop
async def test_half_of_a_pause_is_chance() -> None:
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    @durable.service("busy")
    def work() -> str:
        raise durable.Retry

    settings = {"busy": ServiceSettings(backoff_min_s=2, attempts=2)}
    for chance in (0.0, 0.5):
        made = Services(settings, chance=lambda chance=chance: chance, pause=pause)
        await made.call("busy", "work", None, KEY, 1)

    assert pauses == [1.0, 1.5]


@on_loop
async def test_after_the_last_attempt_the_error_says_how_many_there_were_and_why() -> None:
    @durable.service("busy")
    async def work() -> None:
        raise durable.Retry(reason=f"the bank is closed, said {ctx.attempt} times")

    async with given(busy=ServiceSettings(attempts=3)) as here:
        with pytest.raises(ServiceError) as caught:
            await here.ask("busy", "work")
        with pytest.raises(ServiceError, match="said 9 times"):
            await here.ask("busy", "work", attempt=7)

    text = "3 attempts, the last: the bank is closed, said 3 times"
    assert caught.value.args == ("busy", "work", "Retry", text)
    assert len(here.pauses) == 4


@on_loop
async def test_an_attempt_that_takes_too_long_is_ended_and_made_again() -> None:
    ended = []

    @durable.service("slow")
    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(ctx.attempt)

    async with given(slow=ServiceSettings(timeout_s=0.02, attempts=2)) as here:
        with pytest.raises(ServiceError, match=r"TimeoutError: 2 attempts, .* longer than 0\.02 s"):
            await here.ask("slow", "work")

    assert ended == [1, 2]


@on_loop
async def test_a_service_that_blocks_holds_up_nobody_else() -> None:
    release = threading.Event()

    @durable.service("blocking")
    def wait(payload: Any) -> Any:
        assert release.wait(30)
        return payload, ctx.idempotency_key, ctx.attempt

    async with given() as here:
        waiting = asyncio.ensure_future(here.ask("blocking", "wait", 1, attempt=4))
        while not any(thread.name == "perdure service" for thread in threading.enumerate()):
            await asyncio.sleep(0)
        release.set()

        assert await waiting == (1, KEY, 4)


@on_loop
async def test_a_thread_whose_time_is_over_keeps_its_place_until_it_ends() -> None:
    release = threading.Event()
    running = []

    @durable.service("stuck")
    def wait() -> str:
        running.append(ctx.attempt)
        assert release.wait(30)
        return "done"

    settings = ServiceSettings(timeout_s=0.02, attempts=100, concurrency=2)
    async with given(stuck=settings) as here:
        asking = asyncio.ensure_future(here.ask("stuck", "wait"))
        while len(here.pauses) < 2:
            await asyncio.sleep(0.001)
        # The third attempt has no place. It gets one when a thread ends.
        done, _ = await asyncio.wait([asking], timeout=0.1)
        assert (done, running) == (set(), [1, 2])
        release.set()

        assert await asking == "done"
        # Where the machine is busy, one of them may not end in its time either.
        assert running == list(range(1, len(running) + 1))
        assert len(running) >= 3


@on_loop
async def test_no_more_attempts_run_at_a_time_than_the_settings_allow() -> None:
    running = most = 0

    @durable.service("narrow")
    async def work(payload: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return payload

    async with given(narrow=ServiceSettings(concurrency=3)) as here:
        asked = await asyncio.gather(*(here.ask("narrow", "work", n) for n in range(20)))

    assert (asked, most) == (list(range(20)), 3)


@on_loop
async def test_a_call_that_is_cancelled_ends_as_that_whatever_the_service_makes_of_it() -> None:
    begun = asyncio.Event()

    @durable.service("stubborn")
    async def polite() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    @durable.service("stubborn")
    async def rude() -> None:
        try:
            await polite()
        except asyncio.CancelledError:
            raise ValueError("cancelled?") from None

    async with given() as here:
        for method in ("polite", "rude"):
            begun.clear()
            asking = asyncio.ensure_future(here.ask("stubborn", method))
            await begun.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking


@on_loop
async def test_what_a_service_answers_must_be_possible_to_store() -> None:
    @durable.service("odd")
    def lock() -> Any:
        return {"lock": threading.Lock()}

    @durable.service("odd")
    def much() -> Any:
        return b"x" * (RESULT_BYTES_MAX + 1)

    async with given() as here:
        with pytest.raises(ResultNotStorable, match=r"odd\.lock\(\)\['lock'\]: .*lock"):
            await here.ask("odd", "lock")
        with pytest.raises(ResultTooLarge, match=r"odd\.much\(\) has \d+ bytes"):
            await here.ask("odd", "much")


@on_loop
async def test_a_service_that_is_not_there_is_said_at_once() -> None:
    @durable.service("payments")
    def charge() -> None: ...

    async with given(billing=ServiceSettings(url="http://127.0.0.1:9")) as here:
        with pytest.raises(ServiceNotFound, match="did you mean 'payments'"):
            await here.ask("payment", "charge")
        with pytest.raises(ServiceNotFound, match="did you mean 'billing'"):
            await here.ask("biling", "charge")
        with pytest.raises(ServiceNotFound, match="did you mean 'charge'"):
            await here.ask("payments", "chrge")


@on_loop
async def test_a_service_has_no_steps_and_no_state_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = []

    @durable.service("inner")
    async def work() -> str:
        turn = current_turn.get()
        assert turn is not None
        for forbidden in (
            turn.save,
            turn.timers,
            lambda: turn.service("other", "m", None),
            lambda: turn.run_step("s", dict),
            lambda: turn.sleep(5),
            lambda: turn.cancel_timer("t"),
        ):
            with pytest.raises(RuntimeError, match=r"inside of the service inner\.work") as caught:
                forbidden()
            refused.append(caught)
        ctx.logger.warning("seen")
        return ctx.call_id

    async with given() as here:
        assert await here.ask("inner", "work") == KEY
    assert current_turn.get() is None
    assert len(refused) == 6
    (record,) = [r for r in caplog.records if r.name == "perdure.service.inner"]
    assert vars(record)["durable_service"] == "inner"
    assert vars(record)["idempotency_key"] == KEY


@on_loop
async def test_the_time_and_chance_are_there_in_a_service() -> None:
    @durable.service("inner")
    def look() -> Any:
        return [ctx.now(), ctx.random(), ctx.uuid()]

    async with given() as here:
        now, number, _ = await here.ask("inner", "look")

    assert abs(now.timestamp() - time.time()) < 60
    assert 0 <= number < 1


@on_loop
async def test_why_a_service_raised_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "perdure.service")

    @durable.service("bank")
    def charge() -> None:
        raise ValueError("half a surrogate: \ud800")

    async with given() as here:
        with pytest.raises(PerdureError, match="half a surrogate"):
            await here.ask("bank", "charge")

    assert "in charge" in caplog.text
    assert KEY in caplog.text


@on_loop
async def test_a_service_may_call_objects_through_its_node(tmp_path: Path) -> None:
    @durable.service("books")
    async def book(payload: Any) -> int:
        ledger = await ServiceLedger.get_or_create("x")
        return await durable.options(ledger, key=ctx.idempotency_key).add(payload)

    async with running(settings(tmp_path)) as (node, caller):
        made = Services({}, node.client)
        for _ in range(2):
            assert outcome(await made.call("books", "book", encode(5), KEY, 1)) == 5
        assert await caller.state("ServiceLedger") == {"total": 5}


@on_loop
async def test_a_service_that_calls_back_into_its_caller_hears_that_it_is_a_cycle(
    tmp_path: Path,
) -> None:
    heard = []

    @durable.service("books")
    async def book() -> None:
        try:
            await durable.ref(ServiceLedger, "x").add(1)
        except CallCycle as error:
            heard.append(error)

    async with running(settings(tmp_path)) as (node, caller):
        await caller.create("ServiceLedger")
        made = Services({}, node.client)
        chain = [["ServiceLedger", "x", "add"]]
        await made.call("books", "book", None, KEY, 1, chain=chain)

    assert len(heard) == 1
