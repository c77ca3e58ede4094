from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.processes import free_port
from harness.witness import Fate, Witness, running_witness

from perdure.bodies import unpack_error
from perdure.codec import decode, encode
from perdure.context import StepResult
from perdure.errors import ResultTooLarge, ServiceError, ServiceNotFound, error_from_wire
from perdure.service_settings import ServiceSettings
from perdure_node.clock import SystemClock
from perdure_node.services import RESULT_BYTES_MAX, Services

KEY = "0193-call/1"


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    with running_witness(tmp_path / "ledger") as running:
        yield running


class Asking:
    """Asks one service over HTTP, and notes the pauses between attempts."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.pauses: list[float] = []
        self._services = Services(
            {"bank": ServiceSettings(url=url, **settings)}, chance=lambda: 1.0, pause=self._pause
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def __aenter__(self) -> Asking:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._services.close()

    async def __call__(self, method: str, *payload: Any, key: str = KEY) -> Any:
        encoded = encode(payload[0]) if payload else None
        return outcome(await self._services.call("bank", method, encoded, key, 1))


def outcome(result: StepResult) -> Any:
    if result.code == 0:
        return decode(result.payload)
    raise error_from_wire(result.code, unpack_error(result.payload))


@on_loop
async def test_a_call_is_posted_with_its_payload_and_its_key(witness: Witness) -> None:
    async with Asking(witness.url) as ask:
        answer = await ask("charge", {"cents": 5, "when": (1, 2)})

    (entry,) = witness.ledger()
    assert answer == {"receipt": "r1", "echo": {"cents": 5, "when": (1, 2)}}
    assert (entry["method"], entry["key"], entry["attempt"]) == ("charge", KEY, "1")
    assert entry["payload"] == {"cents": 5, "when": {"$tuple": [1, 2]}}


@on_loop
async def test_a_call_without_payload_has_no_body(witness: Witness) -> None:
    async with Asking(witness.url) as ask:
        await ask("ping")

    assert witness.ledger()[0]["payload"] is None


@on_loop
async def test_an_empty_answer_is_none(witness: Witness) -> None:
    witness.plan("ping", Fate(text=""))

    async with Asking(witness.url) as ask:
        assert await ask("ping") is None


@on_loop
async def test_a_server_that_is_unwell_is_asked_again_with_the_same_key(witness: Witness) -> None:
    fates = [Fate(status=status) for status in (500, 503, 408, 425, 429)]
    witness.plan("charge", *fates)

    async with Asking(witness.url, attempts=6, backoff_min_s=1, backoff_max_s=60) as ask:
        assert (await ask("charge", 5))["receipt"] == "r1"

    assert ask.pauses == [1, 2, 4, 8, 16]
    assert [entry["attempt"] for entry in witness.ledger()] == list("123456")
    assert {entry["key"] for entry in witness.ledger()} == {KEY}
    assert len(witness.effects()) == 1


@on_loop
async def test_an_answer_lost_on_its_way_is_asked_for_again_and_the_work_done_once(
    witness: Witness,
) -> None:
    witness.plan("charge", Fate(drop="after"), Fate(drop="before"))

    async with Asking(witness.url) as ask:
        answer = await ask("charge", 5)

    assert answer == witness.effects()[KEY]["answer"]
    assert [entry["applied"] for entry in witness.ledger()] == [True, False, False]


@on_loop
async def test_a_server_that_does_not_answer_in_time_is_asked_again(witness: Witness) -> None:
    witness.plan("charge", Fate(hold=True), Fate(hold=True))

    async with Asking(witness.url, timeout_s=0.3, attempts=2) as ask:
        with pytest.raises(ServiceError, match=r"2 attempts, the last: no answer within 0\.3 s"):
            await ask("charge", 5)

    assert len(witness.ledger()) == 2
    assert len(witness.effects()) == 1


@on_loop
async def test_what_a_server_refuses_is_its_answer_and_not_asked_again(witness: Witness) -> None:
    async with Asking(witness.url) as ask:
        for status in (400, 401, 402, 404, 409, 422):
            witness.plan("charge", Fate(status=status, text="no such card é"))
            with pytest.raises(ServiceError) as caught:
                await ask("charge", 5)
            assert caught.value.args == ("bank", "charge", f"HTTP {status}", "no such card é")

    assert len(witness.ledger()) == 6
    assert ask.pauses == []


@on_loop
async def test_after_the_last_attempt_the_error_names_the_last_reason(witness: Witness) -> None:
    witness.plan("charge", *[Fate(status=503, text="too many orders")] * 5)

    async with Asking(witness.url) as ask:
        with pytest.raises(ServiceError) as caught:
            await ask("charge", 5)

    text = "5 attempts, the last: HTTP 503: too many orders"
    assert caught.value.args == ("bank", "charge", "HTTP 503", text)
    assert len(witness.ledger()) == 5


@on_loop
async def test_a_server_may_say_when_to_come_back(witness: Witness) -> None:
    in_a_minute = formatdate(SystemClock().wall_ms() / 1000 + 60, usegmt=True)
    texts = ["7", in_a_minute, "86400000", "soon", formatdate(0, usegmt=True)]
    witness.plan("charge", *[Fate(status=429, headers={"Retry-After": text}) for text in texts])

    async with Asking(witness.url, attempts=6, backoff_max_s=2) as ask:
        await ask("charge", 5)

    seven, minute, longest, *unsaid = ask.pauses
    assert (seven, longest, unsaid) == (7, 3600, [0.8, 1.6])
    assert 50 < minute <= 60


@on_loop
async def test_where_nobody_listens_the_error_says_so() -> None:
    async with Asking(f"http://127.0.0.1:{free_port()}", attempts=3) as ask:
        with pytest.raises(ServiceError, match="ConnectError: 3 attempts, the last: ConnectError"):
            await ask("charge", 5)

    assert len(ask.pauses) == 2


@on_loop
async def test_a_redirect_is_not_followed(witness: Witness) -> None:
    witness.plan("charge", Fate(status=307, headers={"Location": f"{witness.url}/elsewhere"}))

    async with Asking(witness.url) as ask:
        with pytest.raises(
            ServiceError, match=r"HTTP 307: a redirect to .*/elsewhere, which is no"
        ):
            await ask("charge", 5)

    assert [entry["method"] for entry in witness.ledger()] == ["charge"]


@on_loop
async def test_an_answer_over_the_limit_is_not_read_to_its_end(witness: Witness) -> None:
    fits = json.dumps("x" * (RESULT_BYTES_MAX - 1000))
    witness.plan("read", Fate(text=fits), Fate(text=f"{fits}{' ' * 1000}"))

    async with Asking(witness.url) as ask:
        assert len(await ask("read")) == RESULT_BYTES_MAX - 1000
        with pytest.raises(ResultTooLarge, match=r"bank\.read\(\) has 419\d{4} bytes, the limit"):
            await ask("read")


@on_loop
async def test_an_answer_that_is_no_json_or_packed_is_an_error(witness: Witness) -> None:
    witness.plan(
        "read",
        Fate(text="<html>"),
        Fate(text='{"$nonsense": 1}'),
        Fate(text="{}", headers={"Content-Encoding": "gzip"}),
    )

    async with Asking(witness.url) as ask:
        for problem in ("is no JSON", r"is no JSON: .*\$nonsense", "is packed, unasked"):
            with pytest.raises(ServiceError, match=f"HTTP 200: the answer {problem}"):
                await ask("read")


@on_loop
async def test_a_key_that_no_header_can_hold_is_percent_encoded(witness: Witness) -> None:
    async with Asking(witness.url) as ask:
        for key in ("order 7\n", "order%207%0A", "Käse"):
            await ask("charge", 5, key=key)

    assert set(witness.effects()) == {"order%207%0A", "order%25207%250A", "K%C3%A4se"}


@on_loop
async def test_a_method_cannot_lead_out_of_the_url(witness: Witness) -> None:
    async with Asking(f"{witness.url}/v1") as ask:
        for method in ("../admin", "a/../../admin", "", "/admin", "a//b", "."):
            with pytest.raises(ServiceNotFound, match="a method over HTTP is a path"):
                await ask(method)
        await ask("cards/7?admin=1#x")

    assert [entry["method"] for entry in witness.ledger()] == ["v1/cards/7%3Fadmin%3D1%23x"]


@on_loop
async def test_a_host_that_cannot_be_is_an_error_of_the_service() -> None:
    async with Asking("http://xn--a.-bad-") as ask:
        with pytest.raises(ServiceError, match="InvalidURL"):
            await ask("charge")


@on_loop
async def test_a_server_without_a_certificate_is_not_trusted(witness: Witness) -> None:
    async with Asking(witness.url.replace("http:", "https:"), attempts=1) as ask:
        with pytest.raises(ServiceError, match=r"ConnectError: 1 attempt: .*SSL"):
            await ask("charge", 5)

    assert witness.ledger() == []


@on_loop
async def test_a_call_that_is_cancelled_leaves_nothing_behind(witness: Witness) -> None:
    witness.plan("charge", Fate(hold=True))

    async with Asking(witness.url, concurrency=1) as ask:
        asking = asyncio.ensure_future(ask("charge", 5))
        while not await asyncio.to_thread(witness.ledger):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        assert await ask("charge", 5) == witness.effects()[KEY]["answer"]


@on_loop
async def test_many_calls_at_a_time_are_each_done_once(witness: Witness) -> None:
    witness.plan("charge", *[Fate(status=503), Fate(drop="after"), Fate(drop="before")] * 20)

    async with Asking(witness.url, attempts=20) as ask:
        await asyncio.gather(*(ask("charge", n, key=f"k{n}") for n in range(200)))

    assert {entry["payload"] for entry in witness.effects().values()} == set(range(200))
    assert len(witness.ledger()) == 260


def test_a_node_without_services_over_http_does_not_load_a_client_for_them() -> None:
    code = "import perdure_node.node, perdure_node.services, sys; sys.exit('httpx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@on_loop
async def test_the_witness_remembers_what_it_answered_before_it_was_killed(
    witness: Witness, tmp_path: Path
) -> None:
    async with Asking(witness.url) as ask:
        before = await ask("charge", 5)
        witness.kill()
        with (tmp_path / "ledger").open("a") as ledger:
            ledger.write('{"half a')
        witness.start()

        assert await ask("charge", 5) == before
        assert (await ask("charge", 6, key="other"))["receipt"] == "r2"

    assert [entry["applied"] for entry in witness.ledger()] == [True, False, True]


@on_loop
async def test_the_witness_notices_a_key_used_for_something_else(witness: Witness) -> None:
    async with Asking(witness.url) as ask:
        await ask("charge", 5)
        with pytest.raises(ServiceError, match="HTTP 422"):
            await ask("charge", 6)

    with pytest.raises(AssertionError, match="a key used for something else"):
        witness.effects()


def test_the_witness_outlives_clients_that_hang_up(witness: Witness) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", witness.port)) as connection:
            connection.sendall(b"POST /charge HTTP/1.1\r\nContent-Length: 10\r\n\r\n1")

    assert witness.effects() == {}
