"""What a node does beside answering: it keeps its journal short and its stores close behind."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from harness.loop import on_loop
from harness.nodes import result_of, running, settings
from harness.tally import settled

from perdure.ids import ObjectKey, partition_of
from perdure_node.clock import SystemClock
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node

HOUR_MS = 3_600_000


def ids_in(partition: int, count: int = 1) -> list[str]:
    found = (
        str(n) for n in range(1_000) if partition_of(ObjectKey("Tally", str(n)), 4) == partition
    )
    return [next(found) for _ in range(count)]


@on_loop
@pytest.mark.parametrize("bound", ["bytes", "weight"])
async def test_an_idle_partition_does_not_hold_back_the_journal(tmp_path: Path, bound: str) -> None:
    """Its few records are flushed to its store, so that their segments can go."""
    small = settings(
        tmp_path,
        journal=JournalSettings(segment_bytes=64 << 10),
        checkpoint_bytes=64 << 10 if bound == "bytes" else 1 << 40,
        checkpoint_weight=512 << 10 if bound == "weight" else 1 << 40,
        apply_interval_s=0.01,
    )
    [idle], busy = ids_in(0), ids_in(1, 20)
    async with running(small, crash=True) as (_, caller):
        await caller.create("Tally", idle)
        assert await caller.call("Tally", "add", 7, id=idle) == 7
        first = min((tmp_path / "journal").glob("*.seg"))
        for id in busy:
            await caller.create("Tally", id)
        while first.exists():
            await asyncio.gather(*(caller.call("Tally", "add", id=id) for id in busy))
        assert len(list((tmp_path / "journal").glob("*.seg"))) < 20
        counts = [(await caller.state("Tally", id))["n"] for id in busy]

    async with running(small) as (_, caller):
        assert (await caller.state("Tally", idle))["n"] == 7
        assert [(await caller.state("Tally", id))["n"] for id in busy] == counts


@on_loop
async def test_calls_stay_in_their_mailboxes_while_the_stores_lag(tmp_path: Path) -> None:
    lagging = settings(
        tmp_path,
        limits=Limits(unapplied_bytes_max=5_000),
        apply_interval_s=3_600,
        apply_bytes=1 << 40,
    )
    async with running(lagging) as (node, caller):
        await caller.create("Tally")
        calls = [caller.send("Tally", "add") for _ in range(20)]
        answered = 0
        while not node._hosts.find(partition_of(ObjectKey("Tally", "x"), 4)).partition.paused:
            answered += result_of(await caller.send("Tally", "add")) > 0
        waiting = caller.send("Tally", "add")
        await settled(200)
        assert not waiting.done()
        assert (await caller.state("Tally"))["n"] == 20 + answered, "reads go on"

        node._upkeep._apply_now.set()

        assert result_of(await waiting) == 21 + answered
        assert [result_of(await call) for call in calls] == list(range(1, 21))


@on_loop
async def test_stores_take_their_records_one_after_the_other(tmp_path: Path) -> None:
    """All at once, calls would have to wait for the sum of it."""
    spread = settings(tmp_path, apply_interval_s=0.8)
    ids = [id for number in range(4) for id in ids_in(number)]
    async with running(spread) as (node, caller):
        for id in ids:
            await caller.create("Tally", id)
        while any(host.lacks_records for host in node._hosts):
            await asyncio.sleep(0.001)
        before = {host: host.store.applied for host in node._hosts}

        await asyncio.gather(*(caller.call("Tally", "add", id=id) for id in ids))

        ends_s: list[float] = []
        while before:
            for host in [host for host in before if host.store.applied > before[host]]:
                del before[host]
                ends_s.append(time.monotonic())
            await asyncio.sleep(0.001)
        assert ends_s[-1] - ends_s[0] >= 0.3


class Later:
    """The machine's clocks, with the calendar moved on."""

    hours = 0

    def __init__(self) -> None:
        self._machine = SystemClock()
        self.monotonic_ms = self._machine.monotonic_ms

    def wall_ms(self) -> int:
        return self._machine.wall_ms() + self.hours * HOUR_MS


async def rows(node: Node, prefix: bytes) -> int:
    for host in node._hosts:
        host.apply()
        await host.checkpoint()
    return sum(len(host.store.scan(prefix)) for host in node._hosts)


@on_loop
async def test_keys_and_sessions_leave_the_store_when_their_time_is_over(tmp_path: Path) -> None:
    clock = Later()
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        await caller.create("Tally")
        for number in range(50):
            assert await caller.call("Tally", "add", key=f"k{number}") == number + 1
        assert await rows(node, b"k") == 50
        sessions = await rows(node, b"s")
        assert sessions >= 1

        clock.hours = 26
        assert await caller.call("Tally", "add", key="k0") == 51, "forgotten, so it runs again"
        assert await rows(node, b"k") == 1
        assert await rows(node, b"s") >= sessions

        clock.hours = 52
        await caller.call("Tally", "add", 0)
        assert await rows(node, b"k") == 0
        assert await rows(node, b"s") <= 1
