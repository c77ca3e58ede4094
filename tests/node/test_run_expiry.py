"""Runs that have ended go when their time is over, wherever crashes find them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from harness.core import HERE
from harness.run_world import MANY, RETENTION_MS, RunWorld, key_of
from hypothesis import given
from hypothesis import strategies as st

from perdure import codec
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.events import Chunk, OutboxEntry, Scheduled
from perdure_node.core.limits import Limits


def test_a_run_stays_until_its_time_is_over_and_leaves_nothing() -> None:
    world = RunWorld()
    world.begin("r1")
    for number in range(2):
        world.write_chunk("r1", b"%d" % number)
    world.end("r1", payload=b"large" * 10_000)
    world.sync()
    world.apply()
    world.wall_ms += RETENTION_MS - 1
    world.sweep()
    assert world.status("r1") == "completed"
    assert world.chunks("r1") == [b"0", b"1"]

    world.wall_ms += 1
    assert world.status("r1") == "completed", "looking at it lets nothing go"
    world.sweep()
    assert world.status("r1") is None
    world.apply()
    assert world.rows_of("r1") == []


@pytest.mark.parametrize("count", [499, 500, 501, 1_200])
def test_a_run_with_many_events_chunks_and_streams_leaves_nothing(count: int) -> None:
    world = RunWorld()
    world.begin("r1")
    for number in range(count):
        world.write_chunk("r1", b"%d" % number)
    streams = [Chunk(f"stream {number}", 0, b"") for number in range(count)]
    world.partition.runs.add(world.run("r1"), [], streams)
    world.end("r1")
    world.sync()
    world.apply()
    world.whole("r10")
    before = set(world.rows_of("r10"))
    world.wall_ms += RETENTION_MS
    world.sweep(1)
    world.sync()
    world.apply()
    assert set(world.rows_of("r1")) == before, "of r10, which has a longer name"


def test_a_workflow_says_for_how_long_its_runs_stay() -> None:
    world = RunWorld()
    for workflow in ("brief", "plain", "kept"):
        world.whole(workflow, workflow)

    there = []
    for passed_ms in (999, 1, RETENTION_MS, 1_000_000 * RETENTION_MS):
        world.wall_ms += passed_ms
        world.sweep()
        there.append([w for w in ("brief", "plain", "kept") if world.status(w)])
    assert there == [["brief", "plain", "kept"], ["plain", "kept"], ["kept"], ["kept"]]


def test_a_node_that_keeps_runs_for_ever_still_heeds_workflows() -> None:
    world = RunWorld(Limits(run_retention_ms=-1))
    world.whole("brief", "brief")
    world.whole("plain")
    world.wall_ms += 1_000_000 * RETENTION_MS
    world.sweep()
    assert (world.status("brief"), world.status("plain")) == (None, "completed")


def test_another_limit_is_for_runs_that_have_ended_before_it_too() -> None:
    world = RunWorld(Limits(run_retention_ms=-1))
    world.whole("r1")
    world.wall_ms += RETENTION_MS
    world.limits = Limits(run_retention_ms=RETENTION_MS)
    world.crash()
    world.sweep()
    assert world.status("r1") is None


def test_runs_go_piece_by_piece_and_the_oldest_first() -> None:
    world = RunWorld()
    ids = [f"r{number}" for number in (3, 1, 4, 0, 2)]
    for id in ids:
        world.whole(id)
        world.wall_ms += 1
    world.wall_ms += RETENTION_MS

    for gone in (2, 4):
        assert world.sweep(2) is True
        assert [id for id in ids if world.status(id)] == ids[gone:]
    assert world.sweep(2) is False
    world.sync()
    world.apply()
    assert world.sweep(2) is False
    assert not [row for row in world.rows.rows if row[:1] == b"z"]


def test_what_has_gone_is_not_let_go_again_while_the_store_lags() -> None:
    world = RunWorld()
    world.whole("r1")
    world.wall_ms += RETENTION_MS
    world.sweep()
    assert world.memory.making
    world.sync()
    world.sweep()
    assert not world.memory.making


def test_a_run_that_takes_the_place_of_one_that_has_gone_stays_for_as_long_as_it() -> None:
    world = RunWorld()
    world.whole("r1")
    world.wall_ms += RETENTION_MS
    world.sweep()
    world.begin("r1")
    world.end("r1")
    world.sync()
    world.sweep()  # The store still has the first one, and that its time is over.
    assert world.status("r1") == "completed"
    world.apply()
    world.sweep()
    assert world.status("r1") == "completed"
    world.wall_ms += RETENTION_MS
    world.sweep()
    assert world.status("r1") is None


@pytest.mark.parametrize("crash", ["before the record", "before the store", "behind the store"])
def test_a_run_that_begins_later_has_nothing_of_the_one_before(crash: str) -> None:
    world = RunWorld()
    world.whole("r1", chunks=5)
    world.wall_ms += RETENTION_MS
    world.sweep()
    if crash == "before the record":
        world.crash()
        assert world.status("r1") == "completed"
        world.sweep()
    world.begin("r1")
    world.write_chunk("r1", b"new")

    def look() -> None:
        assert world.chunks("r1") == [b"new"]
        assert world.memory.streams.names("r1") == ["s"]
        histories, progress = world.memory.histories, world.memory.progress
        assert len(histories.read(key_of("r1"), progress.get(key_of("r1")), 0, MANY)) == events

    events = 1
    world.sync()
    look()
    if crash == "behind the store":
        world.apply()
    if crash != "before the record":
        world.crash()
    look()
    world.end("r1")
    world.sync()
    events = 2
    look()
    world.apply()
    look()
    world.crash()
    look()
    world.wall_ms += RETENTION_MS
    world.sweep()
    world.sync()
    world.apply()
    assert world.rows_of("r1") == []


def test_a_log_is_read_from_its_beginning_to_the_same_end() -> None:
    world = RunWorld()
    world.whole("r1", chunks=5)
    world.wall_ms += RETENTION_MS
    world.sweep()
    world.begin("r1")
    world.write_chunk("r1", b"new")
    world.sync()
    world.apply()
    rows = dict(world.rows.rows)

    world.lose_the_store()
    assert world.chunks("r1") == [b"new"]
    world.apply()
    there = {key: row for key, row in world.rows.rows.items() if key[:1] != b"s"}
    assert there == {key: row for key, row in rows.items() if key[:1] != b"s"}


def test_a_copy_of_the_start_of_a_run_that_has_gone_begins_no_other() -> None:
    world = RunWorld()
    world.call(1, "plain", kind=Kind.START, target=key_of("r1"))
    world.partition.runs.waits(world.run("r1"))
    world.end("r1")
    world.sync()
    world.apply()
    world.wall_ms += RETENTION_MS
    world.sweep()
    world.sync()
    world.answers()
    world.call(1, "plain", kind=Kind.START, target=key_of("r1"), session=HERE)
    [(_, code, told)] = world.answers()
    assert (code, codec.decode(told)) == (0, True)
    assert world.status("r1") is None


def test_the_tokens_of_a_run_go_with_it_but_not_before_they_are_free() -> None:
    world = RunWorld()
    world.begin("r1")
    world.partition.runs.add(world.run("r1"), [Scheduled(1, "hook", "T", ["", "0.1"])])
    release = OutboxEntry(
        2, 1, "hook", "T", int(Kind.CALL), "release", 0, b"", None, None, [], 0
    )  # fmt: skip
    world.end("r1", release)
    world.sync()
    world.apply()
    world.wall_ms += RETENTION_MS
    world.sweep()
    assert world.status("r1") == "completed", "its release may still free what is claimed later"

    world.partition.journalled.delivered(release, None, object())
    world.sweep()
    assert world.status("r1") is None
    [entry] = world.memory.underway.outbox.values()
    assert (entry.target, entry.kind) == (ObjectKey("hook", "T"), Kind.DELETE)
    held = {"run": codec.encode("r1"), "closed": codec.encode(True)}
    assert codec.decode(entry.arguments) == held


@pytest.mark.parametrize("closed", [True, False])
def test_an_object_is_deleted_only_if_it_is_as_it_has_to_be(closed: bool) -> None:
    world = RunWorld()
    token = ObjectKey("hook", "T")
    held = {"run": codec.encode("r1"), "closed": codec.encode(closed)}
    world.create(target=token, more=b"", **held)
    wanted = codec.encode({**held, "closed": codec.encode(True)})
    world.call(2, "", kind=Kind.DELETE, target=token, arguments=wanted)
    world.sync()
    [(_, code, told)] = world.answers()
    assert (code, codec.decode(told)) == (0, closed)
    assert (world.image(token) is None) == closed


Step = Callable[[RunWorld, dict[str, Any]], None]


def begins(world: RunWorld, model: dict[str, Any]) -> None:
    for id in ("a", "b"):
        if id not in model:
            world.begin(id, "brief" if id == "b" else "plain")
            model[id] = ["running", 0, []]


def writes(world: RunWorld, model: dict[str, Any]) -> None:
    for id, run in model.items():
        if run[0] == "running":
            # The count of starts tells the runs of one id apart.
            run[2].append(b"%d" % world.told)
            world.write_chunk(id, run[2][-1])


def ends(world: RunWorld, model: dict[str, Any]) -> None:
    for id, run in model.items():
        if run[0] == "running":
            world.end(id)
            run[:2] = ["completed", world.wall_ms + (1_000 if id == "b" else RETENTION_MS)]


def passes(world: RunWorld, model: dict[str, Any]) -> None:
    world.wall_ms += 4_000


def sweeps(world: RunWorld, model: dict[str, Any]) -> None:
    world.sweep()
    for id in [id for id, run in model.items() if run[0] == "completed"]:
        gone = world.memory.peek(key_of(id), ["status"]) is None
        assert not gone or model[id][1] <= world.wall_ms
        if gone:
            del model[id]


STEPS: list[Step] = [begins, writes, ends, passes, sweeps]


@given(
    st.lists(st.sampled_from([*range(len(STEPS)), "sync", "apply", "crash", "lose"]), max_size=60)
)
def test_whatever_happens_in_whatever_order_there_is_what_has_not_gone(what: list[Any]) -> None:
    world = RunWorld()
    model: dict[str, Any] = {}
    durable: dict[str, Any] = {}
    for one in what:
        if one in ("crash", "lose"):
            world.crash() if one == "crash" else world.lose_the_store()
            model = copy.deepcopy(durable)
        elif one == "apply":
            world.apply()
        elif one == "sync":
            world.sync()
            durable = copy.deepcopy(model)
        else:
            STEPS[one](world, model)
        for id in ("a", "b"):
            known = model.get(id)
            found = world.memory.peek(key_of(id), ["status"])
            assert (found and codec.decode(found[0])) == (known and known[0])
            if known is not None:
                assert world.chunks(id) == known[2]
                progress = world.memory.progress.get(key_of(id))
                read = world.memory.histories.read(key_of(id), progress, 0, MANY)
                if one in ("sync", "crash", "lose"):
                    assert len(read) == len(known[2]) + (known[0] == "completed")
    ends(world, model)
    world.sync()
    world.apply()
    passes(world, model)
    world.wall_ms += RETENTION_MS
    world.sweep()
    world.sync()
    world.apply()
    assert not [row for id in ("a", "b") for row in world.rows_of(id)]
