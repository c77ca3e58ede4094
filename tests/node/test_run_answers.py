"""What is told of a run waits until all is durable that it tells of, bad news too."""

from __future__ import annotations

import pytest
from harness.core import HERE
from harness.run_world import RETENTION_MS, RunWorld, key_of
from hypothesis import given, settings
from hypothesis import strategies as st

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


def ended(world: RunWorld, id: str = "r1") -> RunWorld:
    """Let a run be there whose time is over."""
    world.whole(id)
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


STAGES = {None: 0, "running": 1, "completed": 2}
GONE = 3
ACTS = ("begin", "end", "sweep", "ask", "write", "sync", "apply", "crash", "crash later", "time")


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from(["r1", "r2"])), max_size=40),
)
def test_nothing_that_was_told_of_a_run_is_taken_back(story: list[tuple[str, str]]) -> None:
    world = ended(RunWorld(), "r2")
    asked: dict[int, str] = {}
    told = {"r1": 0, "r2": STAGES["completed"]}
    begun = {"r2"}

    def hear() -> None:
        for number, code, payload in world.answers():
            if number not in asked:
                continue
            id = asked.pop(number)
            found = STAGES[None if code else codec.decode(payload)["status"]]
            stage = GONE if told[id] and not found else found
            assert stage >= told[id], (id, stage)
            told[id] = stage

    for act, id in story:
        running = key_of(id) in world.partition.runs.live
        if act == "begin" and id not in begun:
            begun.add(id)
            world.begin(id)
        elif act == "end" and running:
            world.end(id)
        elif act == "sweep":
            world.sweep()
        elif act == "ask":
            number = world.call(0, "status", kind=Kind.ASK, target=key_of(id))
            asked[number] = id
        elif act in ("write", "sync", "apply"):
            getattr(world, act)()
        elif act.startswith("crash"):
            hear()
            world.crash(keep_written=act == "crash later")
            asked.clear()
            begun = {id for id in begun if told[id] or world.status(id) is not None}
        elif act == "time":
            world.wall_ms += RETENTION_MS
        hear()
    for id in told:
        world.sync()
        world.crash()
        asked[world.call(0, "status", kind=Kind.ASK, target=key_of(id))] = id
        world.sync()
        hear()
