"""How runs have ended, for those who read JSON and have none of the classes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness.world import Served

from perdure import codec, define_hook, resume_hook, start, workflow
from perdure.answers import Answer
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.runtime import current_client
from perdure_node.core.calls import Refusal
from perdure_node.core.limits import Limits

anything = define_hook()


@dataclass
class JsonReceipt:
    number: int


@workflow
async def ends_in_some_way(how: str) -> Any:
    payload = await anything.create(token=f"T-{how}")
    if how == "parked":
        await asyncio.sleep(1)
    if how == "failed":
        raise ValueError(payload)
    return JsonReceipt(payload)


def asked(id: str) -> asyncio.Future[Answer]:
    key = ObjectKey("workflow", id)
    return current_client().call(key, Kind.ASK, "result_as_json", timeout_s=20)


def ended(answer: Answer) -> tuple[int, bytes]:
    assert answer.code == 0
    code, payload = codec.decode(answer.reply.payload)
    return code, payload


async def begun(how: str) -> asyncio.Future[Answer]:
    """Start a run and ask how it ends; that is there before anything else is."""
    await start(ends_in_some_way, how, id=how)
    waiting = asked(how)
    await current_client().call(ObjectKey("workflow", how), Kind.ASK, "status")
    assert not waiting.done()
    return waiting


def test_a_result_is_json_while_it_is_waited_for_and_later(tmp_path: Path) -> None:
    world = Served(tmp_path / "data")

    async def program() -> None:
        waiting = await begun("well")
        await resume_hook("T-well", 7, reply=False)
        for answer in (await waiting, await asked("well")):
            code, shown = ended(answer)
            assert (code, json.loads(shown)) == (0, {"$value": ["JsonReceipt", {"number": 7}]})

    world.run(program)


def test_an_error_is_what_it_is_for_everybody(tmp_path: Path) -> None:
    async def program() -> None:
        waiting = await begun("failed")
        await resume_hook("T-failed", "no", reply=False)
        for answer in (await waiting, await asked("failed")):
            code, error = ended(answer)
            assert code == Code.RAISED
            assert codec.decode(error)["class"] == "ValueError"

    Served(tmp_path / "data").run(program)


def test_who_waits_for_a_run_that_is_parked_hears_it(tmp_path: Path) -> None:
    async def program() -> None:
        waiting = await begun("parked")
        await resume_hook("T-parked", reply=False)
        assert (await waiting).code == Code.PARKED
        assert (await asked("parked")).code == Code.PARKED

    Served(tmp_path / "data").run(program)


def test_who_waits_in_a_partition_that_is_stopped_hears_it(tmp_path: Path) -> None:
    world = Served(tmp_path / "data")

    async def program() -> None:
        waiting = await begun("stopped")
        chunks = current_client().call(
            ObjectKey("workflow", "stopped"),
            Kind.ASK,
            "chunks",
            arguments=codec.encode(["default", 0, True]),
        )
        await current_client().call(ObjectKey("workflow", "stopped"), Kind.ASK, "status")
        assert world.node is not None
        for host in world.node._hosts:
            host.partition.stop(Refusal(Code.DATA_LOSS, (host.partition.number, "by the test")))
            world.node._note(host)
        assert (await waiting).code == Code.DATA_LOSS
        assert (await chunks).code == Code.DATA_LOSS

    world.run(program)


def test_more_than_may_wait_are_refused(tmp_path: Path) -> None:
    async def program() -> None:
        waiting = await begun("many")
        answers = await asyncio.gather(*(asked("many") for _ in range(2)))
        assert {answer.code for answer in answers} == {Code.BACKPRESSURE}
        await resume_hook("T-many", 1, reply=False)
        assert ended(await waiting)[0] == 0

    Served(tmp_path / "data", Limits(waiting_for_run_max=1)).run(program)


@pytest.mark.parametrize("question", ["result", "result_as_json"])
def test_of_a_run_that_is_not_there_nothing_is_known(tmp_path: Path, question: str) -> None:
    async def program() -> int:
        await start(ends_in_some_way, "one", id="one")
        key = ObjectKey("workflow", "other")
        return (await current_client().call(key, Kind.ASK, question)).code

    assert Served(tmp_path / "data").run(program) == Code.RUN_NOT_FOUND
