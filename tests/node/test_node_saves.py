"""What `save()` writes and waits for, what a commit writes, and objects that persist on save."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, result_of, running, settings
from harness.tally import GATES, RUNS, HeldSync, settled

from perdure import DurableObject, durable
from perdure.ids import ObjectKey, partition_of
from perdure_node.core.commits import Commit, unpack_record
from perdure_node.core.events import Saved
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node


@durable.object
class SavedLedger(DurableObject):
    """Saves in every way there is."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0
        self.large = b"x" * 50_000

    async def add(self) -> int:
        self.n += 1
        return self.n

    async def add_and_save(self) -> int:
        self.n += 1
        await self.save()
        return self.n

    async def save_twice(self) -> int:
        self.n += 1
        await self.save()
        self.n += 1
        await self.save()
        return self.n

    async def save_and_wait(self, gate: str) -> int:
        self.n += 1
        await self.save()
        await GATES[gate].wait()
        RUNS.append("went on")
        self.n += 1
        return self.n

    async def save_and_fail(self) -> None:
        self.n += 1
        await self.save()
        self.n += 100
        raise ValueError("on purpose")

    async def nothing(self) -> None:
        pass

    @durable.shared
    async def look(self) -> int:
        return self.n


@durable.object(persist="on_save")
class Sketch(DurableObject):
    """Persists when it says so."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0

    async def add(self, amount: int = 1) -> int:
        self.n += amount
        return self.n

    async def add_and_save(self) -> int:
        self.n += 1
        await self.save()
        return self.n


KEEP_ALL = {"apply_interval_s": 3_600.0, "apply_bytes": 1 << 40}
"""Nothing is applied, so the journal can be read from its beginning."""


def commits_of(node: Node, type: str, id: str = "x") -> list[list[Commit]]:
    """Return what an object's partition has in its journal: records with their commits."""
    host = node._hosts.find(partition_of(ObjectKey(type, id), 4))
    return [unpack_record(r.body)[1] for r in host.log.read(0) if not r.is_claim]


@on_loop
async def test_save_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    GATES["go"] = asyncio.Event()
    GATES["go"].set()
    RUNS.clear()
    async with running(settings(tmp_path, journal=journal)) as (_, caller):
        await caller.create("SavedLedger")
        disk.free.clear()
        call = caller.send("SavedLedger", "save_and_wait", "go")
        await settled()

        assert RUNS == ["went on"]
        assert not call.done()
        disk.free.set()
        assert result_of(await call) == 2


@pytest.mark.parametrize(
    ("method", "expected"), [("add", 1), ("add_and_save", 1), ("save_twice", 2), ("nothing", 0)]
)
@on_loop
async def test_a_save_that_the_method_does_not_outlive_is_part_of_its_one_record(
    tmp_path: Path, method: str, expected: int
) -> None:
    async with running(settings(tmp_path, **KEEP_ALL)) as (node, caller):
        await caller.create("SavedLedger")
        before = len(commits_of(node, "SavedLedger"))
        await caller.call("SavedLedger", method)

        [record] = commits_of(node, "SavedLedger")[before:]
        [commit] = record
        assert (len(commit.outcomes), commit.progress) == (1, None)
        assert (await caller.state("SavedLedger"))["n"] == expected


@on_loop
async def test_an_error_and_what_was_saved_before_it_are_one_record(tmp_path: Path) -> None:
    async with running(settings(tmp_path, **KEEP_ALL)) as (node, caller):
        await caller.create("SavedLedger")
        before = len(commits_of(node, "SavedLedger"))
        with pytest.raises(ValueError, match="on purpose"):
            await caller.call("SavedLedger", "save_and_fail")

        [[commit]] = commits_of(node, "SavedLedger")[before:]
        assert list(commit.values) == ["n"]
        assert [outcome.code for outcome in commit.outcomes] == [1]
        assert (await caller.state("SavedLedger"))["n"] == 1


@on_loop
async def test_a_save_that_the_method_outlives_has_a_record_with_the_call_in_it(
    tmp_path: Path,
) -> None:
    GATES["go"] = asyncio.Event()
    async with running(settings(tmp_path, **KEEP_ALL)) as (node, caller):
        await caller.create("SavedLedger")
        before = len(commits_of(node, "SavedLedger"))
        call = caller.send("SavedLedger", "save_and_wait", "go")
        while (await caller.state("SavedLedger"))["n"] == 0:
            await settled()
        GATES["go"].set()
        await call

        [[saved], [ended]] = commits_of(node, "SavedLedger")[before:]
        assert saved.progress is not None
        assert (saved.events, saved.outcomes) == ([Saved()], [])
        assert "large" in saved.progress.start_image
        assert (ended.progress, len(ended.outcomes)) == (None, 1)


@on_loop
async def test_only_changed_attributes_go_to_the_journal(tmp_path: Path) -> None:
    async with running(settings(tmp_path, **KEEP_ALL)) as (node, caller):
        await caller.create("SavedLedger")
        before = len(commits_of(node, "SavedLedger"))
        for _ in range(3):
            await caller.call("SavedLedger", "add")

        assert [list(c.values) for [c] in commits_of(node, "SavedLedger")[before:]] == [["n"]] * 3


@on_loop
async def test_a_shared_call_writes_nothing(tmp_path: Path) -> None:
    async with running(settings(tmp_path, **KEEP_ALL)) as (node, caller):
        await caller.create("SavedLedger")
        before = len(commits_of(node, "SavedLedger"))
        for _ in range(3):
            await caller.call("SavedLedger", "look")

        assert len(commits_of(node, "SavedLedger")) == before


async def fill(caller: Caller, count: int = 8) -> None:
    """Call other objects until there is no room for the first one in memory."""
    for number in range(count):
        await caller.create("SavedLedger", f"other-{number}")


@on_loop
async def test_answers_of_an_object_that_persists_on_save_do_not_wait_for_the_disk(
    tmp_path: Path,
) -> None:
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal), crash=True) as (_, caller):
        await caller.create("Sketch")
        assert await caller.call("Sketch", "add_and_save") == 1
        disk.free.clear()
        assert await caller.call("Sketch", "add") == 2
        disk.free.set()

    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.state("Sketch") == {"n": 1}


@on_loop
async def test_an_object_that_persists_on_save_is_written_when_it_leaves_memory(
    tmp_path: Path,
) -> None:
    small = settings(tmp_path, limits=Limits(activations_max=2))
    async with running(small, crash=True) as (node, caller):
        await caller.create("Sketch")
        assert await caller.call("Sketch", "add") == 1
        await fill(caller)
        while any(state.key.type == "Sketch" for state, _ in node._residents):
            await asyncio.sleep(0.01)
        # Answered, so durable, and everything before it in the partition too.
        await caller.create("Sketch", "x")
        await caller.call("Sketch", "add_and_save")

    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.state("Sketch") == {"n": 2}


@on_loop
async def test_a_key_makes_two_calls_one_on_an_object_that_persists_on_save_too(
    tmp_path: Path,
) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Sketch")
        first = [await caller.call("Sketch", "add", key="k") for _ in range(3)]
        await caller.call("Sketch", "add_and_save")
        later = await caller.call("Sketch", "add", key="k")

        assert (first, later) == ([1, 1, 1], 1)
        assert await caller.state("Sketch") == {"n": 2}

    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.call("Sketch", "add", key="k") == 1
