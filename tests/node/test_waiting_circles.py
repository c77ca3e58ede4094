"""Objects that call one another at the same time, on a real node: one call is refused, at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, running, settings
from harness.tally import HeldSync, settled

import perdure
from perdure import CallCycle, DurableContext, DurableObject, NotStarted, durable
from perdure.bodies import Request, pack_request
from perdure.errors import Code
from perdure.frames import AnswerFrame, CallFrame, Kind
from perdure.ids import ObjectKey, new_session_id, partition_of
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings
from perdure_node.node import Node

MEETINGS: dict[str, asyncio.Barrier] = {}
"""Where methods wait for one another, so that all of them hold their objects: made by the test."""

GATES: dict[str, asyncio.Event] = {}

MUCH_LATER_MS = 600_000


@durable.object
class Tangle(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.touched = 0
        self.log: list[str] = []

    async def touch(self) -> int:
        self.touched += 1
        return self.touched

    async def call_all(self, others: list[str], meeting: str) -> str:
        """Call others at the same time, once all of them are busy."""
        await self._meet(meeting)
        try:
            await asyncio.gather(*(durable.ref(Tangle, other).touch() for other in others))
        except CallCycle as error:
            self.log.append("refused")
            result = str(error)
        else:
            result = "came through"
        if "after" in GATES:
            await GATES["after"].wait()
        return result

    async def call_in_time(self, other: str, meeting: str) -> str:
        await self._meet(meeting)
        try:
            await perdure.wait_for(durable.ref(Tangle, other).touch(), 0.3)
        except TimeoutError:
            return "out of time"
        return "came through"

    async def call_after_a_call_in_time(self, other: str, meeting: str) -> str:
        await perdure.wait_for(durable.ref(Tangle, f"{other}-beside").touch(), 3_600)
        return await self.call_all([other], meeting)

    async def call_and_forget(self, ctx: DurableContext, other: str, meeting: str) -> str:
        await self._meet(meeting)
        durable.ref(Tangle, other).touch()
        await GATES["later"].wait()
        return "did not wait"

    async def call_and_fail(self, other: str) -> None:
        await GATES["call"].wait()
        await asyncio.gather(durable.ref(Tangle, other).touch(), self._fail())

    async def _fail(self) -> None:
        await GATES["fail"].wait()
        raise LookupError("on purpose")

    async def delete(self, other: str, meeting: str) -> str:
        await self._meet(meeting)
        try:
            await durable.delete(durable.ref(Tangle, other))
        except CallCycle as error:
            return str(error)
        return "deleted"

    async def ask(self, other: str, meeting: str) -> str:
        await self._meet(meeting)
        try:
            return await go_between(other)
        except CallCycle as error:
            return str(error)

    async def late(self, other: str, meeting: str) -> str:
        await self._meet(meeting)
        try:
            await durable.ref(Tangle, other).touch()
        except NotStarted:
            return "not started"
        return "came through"

    async def _meet(self, meeting: str) -> None:
        if meeting in MEETINGS:
            await MEETINGS[meeting].wait()


@durable.function
async def go_between(other: str) -> str:
    await durable.ref(Tangle, other).touch()
    return "went between"


async def created(caller: Caller, *ids: str) -> None:
    await asyncio.gather(*(caller.create("Tangle", id) for id in ids))


def begin(**meetings: int) -> None:
    MEETINGS.clear()
    GATES.clear()
    MEETINGS.update({name: asyncio.Barrier(count) for name, count in meetings.items()})


async def until_waiting(node: Node, count: int) -> None:
    """Wait until so many calls wait for others."""
    while sum(host.partition.mailboxes.waiting for host in node._hosts) != count:
        await asyncio.sleep(0)


@pytest.mark.parametrize("count", [2, 3, 5])
@on_loop
async def test_objects_that_call_one_another_in_a_circle_lose_one_call(
    tmp_path: Path, count: int
) -> None:
    ids = [str(n) for n in range(count)]
    begin(all=count)
    async with running(settings(tmp_path / "n1")) as (_, caller):
        await created(caller, *ids)
        answers = await asyncio.gather(
            *(
                caller.call("Tangle", "call_all", [ids[(n + 1) % count]], "all", id=id)
                for n, id in enumerate(ids)
            )
        )

        [refused] = [answer for answer in answers if answer != "came through"]
        at = answers.index(refused)
        round_ = [ids[(at + n) % count] for n in range(count + 1)]
        links = [f"Tangle[{round_[0]}].call_all"]
        for id in round_[1:]:
            links += [f"Tangle[{id}].touch", f"Tangle[{id}].call_all"]
        assert refused == f"the call waits for itself: {' -> '.join(links)}"
        touched = [(await caller.state("Tangle", id))["touched"] for id in ids]
        assert sorted(touched) == [0, *[1] * (count - 1)]
        assert touched[(at + 1) % count] == 0


@on_loop
async def test_a_method_that_calls_two_objects_at_once_may_be_part_of_two_circles(
    tmp_path: Path,
) -> None:
    begin(all=3)
    async with running(settings(tmp_path / "n1")) as (_, caller):
        await created(caller, "a", "b", "c")
        answers = await asyncio.gather(
            caller.call("Tangle", "call_all", ["b", "c"], "all", id="a"),
            caller.call("Tangle", "call_all", ["a"], "all", id="b"),
            caller.call("Tangle", "call_all", ["a"], "all", id="c"),
        )
        assert any("waits for itself" in answer for answer in answers)
        for id in "abc":
            assert await caller.call("Tangle", "touch", id=id)


@on_loop
async def test_a_call_with_a_time_limit_of_its_own_ends_by_that(tmp_path: Path) -> None:
    begin(both=2)
    async with running(settings(tmp_path / "n1")) as (_, caller):
        await created(caller, "a", "b")
        answers = await asyncio.gather(
            caller.call("Tangle", "call_in_time", "b", "both", id="a"),
            caller.call("Tangle", "call_in_time", "a", "both", id="b"),
        )
        assert "out of time" in answers
        # What was given up is made all the same.
        for id in "ab":
            assert await caller.call("Tangle", "touch", id=id) == 2


@on_loop
async def test_a_time_limit_that_was_not_needed_hides_no_circle(tmp_path: Path) -> None:
    begin(both=2)
    async with running(settings(tmp_path / "n1")) as (_, caller):
        await created(caller, "a", "b", "a-beside", "b-beside")
        answers = await asyncio.gather(
            caller.call("Tangle", "call_after_a_call_in_time", "b", "both", id="a"),
            caller.call("Tangle", "call_after_a_call_in_time", "a", "both", id="b"),
        )
        assert sorted(answer == "came through" for answer in answers) == [False, True]


@on_loop
async def test_a_call_that_nobody_awaits_keeps_nobody_waiting(tmp_path: Path) -> None:
    begin(both=2)
    GATES["later"] = asyncio.Event()
    limits = Limits(probe_after_ms=1, probe_pause_max_ms=2)
    async with running(settings(tmp_path / "n1", limits=limits)) as (node, caller):
        await created(caller, "a", "b")
        forgets = caller.send("Tangle", "call_and_forget", "b", "both", id="a")
        awaits = caller.send("Tangle", "call_all", ["a"], "both", id="b")
        await until_waiting(node, 2)
        # Many rounds of asking along.
        await asyncio.sleep(0.05)
        GATES["later"].set()

        assert [(await call).code for call in (forgets, awaits)] == [0, 0]
        assert await caller.call("Tangle", "touch", id="a") == 2
        assert await caller.call("Tangle", "touch", id="b") == 2
        assert (await caller.state("Tangle", "b"))["log"] == []


@on_loop
async def test_a_call_whose_method_is_over_when_its_refusal_comes_is_made_again(
    tmp_path: Path,
) -> None:
    begin()
    GATES.update(call=asyncio.Event(), fail=asyncio.Event())
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path / "n1", journal=journal)) as (node, caller):
        await created(caller, "a", "b")
        fails = caller.send("Tangle", "call_and_fail", "b", id="a")
        calls = caller.send("Tangle", "call_all", ["a"], "", id="b")
        await until_waiting(node, 1)
        GATES["call"].set()
        await until_waiting(node, 2)
        disk.free.clear()
        # The younger call is refused, and its caller cannot hear of it yet.
        await until_waiting(node, 1)
        GATES["fail"].set()
        await settled()
        disk.free.set()

        assert (await fails).code == Code.RAISED
        assert (await calls).code == 0
        while (await caller.state("Tangle", "b"))["touched"] == 0:
            await settled()
        assert [(await caller.state("Tangle", id))["touched"] for id in "ab"] == [1, 1]


@on_loop
async def test_a_circle_goes_through_deletions_and_functions_too(tmp_path: Path) -> None:
    begin(first=2, second=2)
    async with running(settings(tmp_path / "n1")) as (_, caller):
        await created(caller, "a", "b")
        one, other = await asyncio.gather(
            caller.call("Tangle", "delete", "b", "first", id="a"),
            caller.call("Tangle", "call_all", ["a"], "first", id="b"),
        )
        assert (one == "deleted") == ("waits for itself" in other)
        await created(caller, "a", "b")
        answers = await asyncio.gather(
            caller.call("Tangle", "ask", "b", "second", id="a"),
            caller.call("Tangle", "call_all", ["a"], "second", id="b"),
        )
        [refused] = [answer for answer in answers if "waits for itself" in answer]
        assert "Tangle[a].ask -> function:go_between[" in refused


@on_loop
async def test_a_circle_is_broken_after_a_crash_and_a_second_run_hears_of_it_again(
    tmp_path: Path,
) -> None:
    begin(both=2)
    patient = Limits(probe_after_ms=MUCH_LATER_MS)
    async with running(settings(tmp_path / "n1", limits=patient), crash=True) as (node, caller):
        await created(caller, "a", "b")
        for id, other in ("ab", "ba"):
            caller.send("Tangle", "call_all", [other], "both", id=id)
        await until_waiting(node, 2)

    begin()
    GATES["after"] = asyncio.Event()
    async with running(settings(tmp_path / "n1"), crash=True) as (node, _):
        while not refusals(node):
            await asyncio.sleep(0.001)

    begin()
    async with running(settings(tmp_path / "n1")) as (_, caller):
        # They wait for their turn: `call_all` is over by then.
        for id in "ab":
            await caller.call("Tangle", "touch", id=id)
        states = [await caller.state("Tangle", id) for id in "ab"]
        assert sorted(state["touched"] for state in states) == [1, 2]
        assert sorted(state["log"] for state in states) == [[], ["refused"]]


def refusals(node: Node) -> int:
    """Count the refusals that are in journals of calls, durably."""
    return sum(
        getattr(event, "code", 0) == Code.CALL_CYCLE
        for host in node._hosts
        for progress in host.partition.memory.progress.values()
        if not host.partition.memory.making
        for event in progress.events
    )


@on_loop
async def test_without_probes_the_time_to_have_started_still_ends_it(tmp_path: Path) -> None:
    begin(both=2)
    limits = Limits(probe_after_ms=MUCH_LATER_MS, nested_start_ms=200)
    async with running(settings(tmp_path / "n1", limits=limits)) as (_, caller):
        await created(caller, "a", "b")
        answers = await asyncio.gather(
            caller.call("Tangle", "late", "b", "both", id="a"),
            caller.call("Tangle", "late", "a", "both", id="b"),
        )
        assert "not started" in answers


@on_loop
async def test_what_is_due_sooner_than_what_a_node_waits_for_is_not_late(tmp_path: Path) -> None:
    begin(both=2)
    limits = Limits(probe_after_ms=MUCH_LATER_MS)
    made = settings(tmp_path / "n1", limits=limits)
    async with running(made, crash=True) as (node, caller):
        await created(caller, "a", "b")
        for id, other in ("ab", "ba"):
            caller.send("Tangle", "late", other, "both", id=id)
        await until_waiting(node, 2)
        # From now on the node waits for the minute in which these calls have to start.
        await settled()
        answered: asyncio.Future[AnswerFrame] = asyncio.get_running_loop().create_future()

        class Sink:
            closed = False

            def send(self, frame: AnswerFrame) -> None:
                answered.set_result(frame)

        key = ObjectKey("Tangle", "a")
        request = Request(
            int(Kind.CALL), new_session_id(int(time.time() * 1_000), b"x" * 10), 2, 1, [0], *key,
            "touch", 0, b"", None, None, [], 0,
        )  # fmt: skip
        frame = CallFrame(1, partition_of(key, 4), 30_000, pack_request(request))
        node.receive([frame], Sink())

        async with asyncio.timeout(20):
            assert (await answered)[1] == Code.OUT_OF_ORDER
