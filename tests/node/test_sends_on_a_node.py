"""`durable.send` on a real node: with the state, in order, and its effect once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.bells import ShiftedClock, let_fire, partition_with, state_when, timers_of, until
from harness.loop import on_loop
from harness.nodes import Caller, running, settings
from harness.parcels import OPEN
from harness.tally import HeldSync, settled

from perdure import codec
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node

SENDER, DEPOT = "ParcelSender", "ParcelDepot"


async def create(caller: Caller, *depots: str) -> None:
    await caller.create(SENDER)
    for id in depots:
        await caller.create(DEPOT, id)


async def came(caller: Caller, count: int, id: str = "d") -> list[Any]:
    """Wait until so many things have come to a depot, and return them."""
    found = await state_when(caller, lambda state: len(state["came"]) >= count, DEPOT, id)
    came: list[Any] = found["came"]
    return came


def on_its_way(node: Node) -> int:
    return sum(len(host.partition.memory.underway.outbox) for host in node._hosts)


async def send(caller: Caller, id: str, what: Any, due_ms: int = 0, key: str | None = None) -> Any:
    arguments = codec.encode([[what], {}])
    target = ObjectKey(DEPOT, id)
    return await caller.client.call(
        target, Kind.SEND, "take", arguments=arguments, due_ms=due_ms, key=key
    )


async def delete(caller: Caller, type: str, id: str = "x") -> None:
    assert (await caller.client.call(ObjectKey(type, id), Kind.DELETE)).code == 0


@on_loop
async def test_what_a_method_sends_is_undone_by_its_exception(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await create(caller, "d")
        with pytest.raises(RuntimeError, match="on purpose"):
            await caller.call(SENDER, "send_and_fail", "d")
        assert on_its_way(node) == 0
        await caller.call(SENDER, "send", "d", "sent")
        assert await came(caller, 1) == ["sent"]
        await until(lambda: not on_its_way(node))


@pytest.mark.parametrize("wait", [False, True])
@on_loop
async def test_what_was_sent_before_a_save_is_sent_and_what_was_sent_after_it_is_undone(
    tmp_path: Path, *, wait: bool
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await create(caller, "d")
        key = ObjectKey(SENDER, "x")
        arguments = codec.encode([["d"], {"wait": wait}])
        answer = await caller.client.call(
            key, Kind.CALL, "send_save_send_and_fail", arguments=arguments
        )
        assert answer.code == Code.RAISED
        await until(lambda: not on_its_way(node))
        assert await came(caller, 1) == ["kept"]


@on_loop
async def test_calls_do_not_overtake_what_the_same_method_has_sent_before(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await create(caller, "d")
        assert await caller.call(SENDER, "mixed", "d") == 7
        assert await came(caller, 7) == [
            "send 1", "call 2", "send 3", "send 4", "call 5", "send 6", "call 7",
        ]  # fmt: skip


@on_loop
async def test_a_send_that_a_call_has_pushed_out_is_not_undone_and_others_are(
    tmp_path: Path,
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await create(caller, "d", "other")
        with pytest.raises(RuntimeError, match="on purpose"):
            await caller.call(SENDER, "send_call_and_fail", "d", "other")
        assert await came(caller, 1) == ["made by the call"]
        await until(lambda: not on_its_way(node))
        assert (await caller.state(DEPOT, "other"))["came"] == []


@on_loop
async def test_many_sends_of_one_method_come_in_order_through_a_full_mailbox(
    tmp_path: Path,
) -> None:
    OPEN["full"] = asyncio.Event()
    limits = Limits(mailbox_calls_max=3)
    async with running(settings(tmp_path, limits=limits)) as (node, caller):
        await create(caller, "d")
        held = asyncio.ensure_future(caller.call(DEPOT, "hold", "full", id="d"))
        await caller.call(SENDER, "send_many", "d", 30)
        await caller.call(SENDER, "send", "d", "last")
        mailboxes = partition_with(node, DEPOT, "d").mailboxes
        await until(lambda: (box := mailboxes.get(ObjectKey(DEPOT, "d"))) and len(box.waiting) == 3)
        OPEN["full"].set()
        await held
        assert await came(caller, 31) == [*range(30), "last"]


@on_loop
async def test_sends_that_wait_for_a_busy_object_keep_their_order_over_a_crash(
    tmp_path: Path,
) -> None:
    OPEN["busy"] = asyncio.Event()
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await create(caller, "d")
        caller.send(DEPOT, "hold", "busy", id="d")
        await caller.call(SENDER, "send_many", "d", 25)
        await until(lambda: len(timers_of(node, DEPOT, "d")) == 25)
        await until(lambda: not on_its_way(node))
        await caller.state(DEPOT, "d")
    async with running(settings(tmp_path)) as (_, caller):
        assert await caller.call(DEPOT, "take", "a call after the start", id="d") == 26
        assert await came(caller, 26) == [*range(25), "a call after the start"]


@on_loop
async def test_a_send_has_its_effect_once_though_the_node_crashes_at_every_turn(
    tmp_path: Path,
) -> None:
    sent = 0
    for _ in range(6):
        async with running(settings(tmp_path), crash=True) as (_, caller):
            await create(caller, "d", "e")
            # Nothing of it has been delivered when the node dies, or some of it.
            for id in ("d", "e"):
                await caller.call(SENDER, "send_many", id, 5)
            sent += 5
    async with running(settings(tmp_path)) as (node, caller):
        for id in ("d", "e"):
            assert sorted(await came(caller, sent, id)) == sorted([*range(5)] * 6)
        await until(lambda: not on_its_way(node))
        assert (await caller.state(SENDER))["sent"] == 2 * sent


@on_loop
async def test_a_method_that_is_resumed_does_not_send_again_what_it_has_sent(
    tmp_path: Path,
) -> None:
    OPEN["go"] = asyncio.Event()
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await create(caller, "d")
        caller.send(SENDER, "send_save_call_and_wait", "d", "go")
        assert await came(caller, 2) == ["before", "call"]
        await until(lambda: not on_its_way(node))
        await caller.state(DEPOT, "d")
    OPEN["go"].set()
    async with running(settings(tmp_path)) as (node, caller):
        assert await came(caller, 3) == ["before", "call", "after"]
        await state_when(caller, lambda state: state["sent"] == 1, SENDER)
        await until(lambda: not on_its_way(node))
        assert await came(caller, 3) == ["before", "call", "after"]


@on_loop
async def test_a_delayed_send_is_held_by_its_target_over_a_crash_and_comes_in_time(
    tmp_path: Path,
) -> None:
    clock = ShiftedClock()
    async with running(settings(tmp_path), crash=True, clock=clock) as (node, caller):
        await create(caller, "d")
        await caller.call(SENDER, "send", "d", "later", 3_600.0)
        await until(lambda: timers_of(node, DEPOT, "d") and not on_its_way(node))
        let_fire(node)
        assert await caller.call(DEPOT, "take", "now", id="d") == 1
        assert (await caller.client.call(ObjectKey(SENDER, "x"), Kind.DELETE)).code == 0
    clock.shift_ms = 3_600_000
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        assert await came(caller, 2) == ["now", "later"], "the sender is gone, what it sent is not"
        assert timers_of(node, DEPOT, "d") == []


@on_loop
async def test_a_delayed_send_to_an_object_that_was_deleted_does_not_reach_its_successor(
    tmp_path: Path,
) -> None:
    clock = ShiftedClock()
    async with running(settings(tmp_path), clock=clock) as (node, caller):
        await create(caller, "d")
        await caller.call(SENDER, "send", "d", "for the first one", 3_600.0)
        await until(lambda: timers_of(node, DEPOT, "d"))
        await delete(caller, DEPOT, "d")
        await caller.create(DEPOT, "d")
        clock.shift_ms = 7_200_000
        let_fire(node)
        await caller.call(SENDER, "send", "d", "for the second one")
        assert await came(caller, 1) == ["for the second one"]
        assert timers_of(node, DEPOT, "d") == []


@on_loop
async def test_what_an_object_has_sent_goes_out_though_it_is_deleted_before(
    tmp_path: Path,
) -> None:
    OPEN["shut"] = asyncio.Event()
    limits = Limits(mailbox_calls_max=1)
    async with running(settings(tmp_path, limits=limits), crash=True) as (node, caller):
        await create(caller, "d")
        caller.send(DEPOT, "hold", "shut", id="d")
        caller.send(DEPOT, "take", "in the way", id="d")
        await caller.call(SENDER, "send", "d", "the last will")
        assert on_its_way(node) == 1
        await delete(caller, SENDER)
        assert on_its_way(node) == 1
    async with running(settings(tmp_path)) as (node, caller):
        assert (await came(caller, 1))[-1] == "the last will"
        await until(lambda: not on_its_way(node))
        answer = await caller.client.call(ObjectKey(SENDER, "x"), Kind.EXISTS)
        assert codec.decode(answer.reply.payload) is False


@on_loop
async def test_a_key_makes_two_sends_one(tmp_path: Path) -> None:
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await create(caller, "d")
        assert (await send(caller, "d", "once", key="k")).code == 0
        assert (await send(caller, "d", "once", key="k")).code == 0
        assert (await send(caller, "d", "another", key="k")).code == Code.KEY_REUSED
        await caller.call(SENDER, "send_keyed", "d", "from inside", "in")
        await caller.call(SENDER, "send_keyed", "d", "from inside", "in")
        await until(lambda: not on_its_way(node))
        assert await came(caller, 2) == ["once", "from inside"]
    async with running(settings(tmp_path)) as (node, caller):
        assert (await send(caller, "d", "once", key="k")).code == 0
        await caller.call(SENDER, "send_keyed", "d", "from inside", "in")
        await until(lambda: not on_its_way(node))
        await send(caller, "d", "end")
        assert await came(caller, 3) == ["once", "from inside", "end"]


@on_loop
async def test_a_send_is_accepted_when_it_is_durable(tmp_path: Path) -> None:
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal)) as (_, caller):
        await create(caller, "d")
        disk.free.clear()
        sending = asyncio.ensure_future(send(caller, "d", "slowly"))
        await settled(200)
        assert not sending.done()
        disk.free.set()
        assert (await sending).code == 0


@on_loop
async def test_a_send_to_nobody_is_told_to_whoever_is_outside_and_dropped_inside(
    tmp_path: Path,
) -> None:
    async with running(settings(tmp_path)) as (node, caller):
        await create(caller)
        assert (await send(caller, "nobody", "x")).code == Code.OBJECT_NOT_FOUND
        await caller.call(SENDER, "send", "nobody", "x")
        await until(lambda: not on_its_way(node))
    async with running(settings(tmp_path), crash=True) as (node, caller):
        await caller.call(SENDER, "send", "nobody", "x")
        assert on_its_way(node) == 1
    async with running(settings(tmp_path)) as (node, _):
        await until(lambda: not on_its_way(node))
