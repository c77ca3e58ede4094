"""What is told of a run waits until all is durable that it tells of, bad news too."""

from __future__ import annotations

import pytest
from harness.core import HERE
from harness.run_world import RETENTION_MS, RunWorld, key_of

from perdure import codec
from perdure.errors import Code
from perdure.frames import Kind

QUESTIONS: dict[str, list[object]] = {
    "status": [],
    "result": [],
    "result_as_json": [],
    "events": [0],
    "details": [],
    "cancel": [],
    "streams": [],
    "chunks": ["s", 0, False],
}


def codes(world: RunWorld) -> list[int]:
    return [code for _, code, _ in world.answers()]


def ended(world: RunWorld) -> RunWorld:
    """Let a run be there whose time is over."""
    world.whole("r1")
    world.wall_ms += RETENTION_MS
    world.answers()
    return world


@pytest.mark.parametrize("question", QUESTIONS)
def test_that_a_run_has_gone_is_told_once_no_crash_can_bring_it_back(question: str) -> None:
    world = ended(RunWorld())
    world.sweep()
    arguments = codec.encode(QUESTIONS[question])
    world.call(0, question, kind=Kind.ASK, target=key_of("r1"), arguments=arguments)
    assert codes(world) == []
    world.write()
    assert codes(world) == []
    world.sync()
    assert codes(world) == [Code.RUN_NOT_FOUND]


def test_whoever_wakes_a_run_that_has_gone_is_told_so_once_that_is_durable() -> None:
    world = ended(RunWorld())
    world.sweep()
    world.call(1, "", kind=Kind.WAKE, target=key_of("r1"))
    assert codes(world) == []
    world.call(1, "", kind=Kind.WAKE, target=key_of("r1"))
    assert codes(world) == [], "nor is a copy"
    world.sync()
    assert codes(world) == [Code.RUN_NOT_FOUND] * 2


@pytest.mark.parametrize("kind", [Kind.RESUME, Kind.NOTIFY])
def test_that_a_run_has_ended_is_told_to_its_callers_once_that_is_durable(kind: Kind) -> None:
    world = RunWorld()
    world.begin("r1")
    world.sync()
    world.answers()
    world.end("r1")
    world.call(1, "token", kind=kind, target=key_of("r1"), session=HERE)
    assert codes(world) == []
    world.sync()
    assert codes(world) == [Code.HOOK_NOT_FOUND]


def test_that_a_run_is_there_is_told_to_another_start_once_that_is_durable() -> None:
    world = RunWorld()
    world.begin("r1")
    world.call(1, "another", kind=Kind.START, target=key_of("r1"), session=HERE)
    assert codes(world) == []
    world.sync()
    assert sorted(codes(world)) == [0, Code.RUN_EXISTS]


def test_that_an_object_has_gone_is_told_to_senders_once_that_is_durable() -> None:
    world = RunWorld()
    world.create(1)
    world.call(2, "", kind=Kind.DELETE)
    world.call(3, "add", kind=Kind.SEND)
    assert codes(world) == []
    world.sync()
    assert sorted(codes(world)) == [0, Code.OBJECT_NOT_FOUND]
