"""A method runs again after a crash: it sees and does what it has seen and done before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, running, settings
from harness.tally import HeldSync, settled

import perdure
from perdure import DurableContext, DurableObject, ServiceError, ctx, durable
from perdure.errors import Parked
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.journal.settings import JournalSettings

MADE: list[Any] = []
"""What was really done, in both lives."""
LIFE = [1]
GATES: dict[str, asyncio.Event] = {}


def begin(life: int) -> None:
    LIFE[0] = life
    GATES.clear()
    if life == 1:
        MADE.clear()


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


async def crash_here() -> None:
    """In the first life wait for its end, in the second go on."""
    if LIFE[0] == 1:
        gate("here").set()
        await asyncio.Event().wait()


def make(what: Any) -> Any:
    MADE.append(what)
    return what


def fail(what: Any) -> None:
    make(what)
    raise LookupError(what)


async def make_in_life_two(what: Any) -> Any:
    make(f"{what} {LIFE[0]}")
    await crash_here()
    return what


@durable.service("foundry")
class Foundry:
    async def cast(self, what: str) -> str:
        MADE.append((what, ctx.idempotency_key))
        if what == "slowly":
            await crash_here()
        return what

    async def crack(self, what: str) -> None:
        MADE.append(what)
        raise LookupError("cracked")


@durable.object
class Mould(DurableObject):
    """What others look at."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.n = 0

    async def add(self, amount: int = 1) -> int:
        self.n += amount
        return self.n


@durable.object
class Carillon(DurableObject):
    """Its methods come to `crash_here`, and run again."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.status = "idle"
        self.log: list[Any] = []

    async def look(self, ctx: DurableContext) -> None:
        mould = await Mould.get_or_create("m")
        self.log.append(("got", mould.n))
        await mould.add()
        self.log.append(("called", mould.n))
        await durable.refresh(mould)
        self.log.append(("refreshed", mould.n))
        self.log.append(("exists", await durable.exists(Mould, "later")))
        await crash_here()

    async def draw(self, ctx: DurableContext) -> None:
        self.log += [ctx.now(), ctx.uuid(), ctx.random()]
        await ctx.run("tell", MADE.append, list(self.log))
        self.log.append(ctx.now())
        await ctx.run("tell", MADE.append, list(self.log[3:]))
        await crash_here()

    async def attempts(self, ctx: DurableContext) -> None:
        await ctx.run("step", make, ctx.call_id)
        MADE.append((ctx.call_id, ctx.attempt > 1))
        await crash_here()
        self.log.append("done")

    async def fail_in_a_step(self, ctx: DurableContext) -> None:
        for name, step in (
            ("run", lambda: ctx.run("fail", fail, "once")),
            ("service", lambda: ctx.call("foundry", "crack", "cracked once")),
        ):
            try:
                await step()
            except (LookupError, ServiceError) as error:
                self.log.append((name, type(error).__name__, str(error)))
        await crash_here()

    async def cast_slowly(self, ctx: DurableContext) -> None:
        self.log.append(await ctx.call("foundry", "cast", "slowly"))

    async def run_slowly(self, ctx: DurableContext) -> None:
        self.log.append(await ctx.run("slowly", make_in_life_two, "slowly"))

    async def be_busy(self, ctx: DurableContext) -> str:
        MADE.append("run")
        self.status = "busy"
        await self.save()
        await ctx.run("step", make, "step")
        await crash_here()
        await gate("end").wait()
        self.status = "idle"
        return "was busy"

    async def note(self, what: str) -> list[Any]:
        self.log.append((what, self.status))
        return self.log

    async def wait_in_vain(self, ctx: DurableContext) -> None:
        step = ctx.run("slow", self._slow)
        try:
            self.log.append(await perdure.wait_for(step, 0.001))
        except TimeoutError:
            self.log.append("too slow")
        gate("slow").set()
        self.log.append(await step)
        await ctx.run("step", make, "step")
        await crash_here()

    async def _slow(self) -> str:
        await gate("slow").wait()
        return "slow"

    async def gather(self, ctx: DurableContext) -> None:
        async def one(name: str) -> None:
            self.log.append(await ctx.run(name, self._in_turn, name))
            self.log.append(await ctx.run(f"after {name}", make, f"after {name}"))

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(one(name))
        await crash_here()

    async def chains(self, ctx: DurableContext) -> None:
        async def chain(name: str) -> None:
            for link in range(4):
                self.log.append((name, await ctx.run("link", make, f"{name}{link}")))

        await asyncio.gather(*(chain(name) for name in "abc"))
        await crash_here()

    async def _in_turn(self, name: str) -> str:
        before = {"c": None, "a": "after c", "b": "after a"}[name]
        while before is not None and before not in MADE:
            await asyncio.sleep(0)
        return name

    async def change_mind(self, ctx: DurableContext, how: str) -> None:
        if LIFE[0] == 2:
            await gate("again").wait()
        await ctx.run("first", make, "first")
        match how if LIFE[0] == 2 else "":
            case "fewer":
                return
            case "another kind":
                await ctx.sleep(0)
            case "another name":
                await ctx.run("other", make, "other")
            case "another target":
                await durable.ref(Mould, "other").add()
            case "caught":
                try:
                    await ctx.run("other", make, "other")
                except Exception:
                    self.log.append("caught")
            case "all caught":
                try:
                    await ctx.run("other", make, "other")
                except BaseException:
                    self.log.append("caught")
            case _:
                await durable.ref(Mould, "m").add()
        await crash_here()

    async def plain(self) -> None:
        MADE.append("plain")
        self.log.append("plain")
        await crash_here()

    async def ask_at_once(self, ctx: DurableContext) -> None:
        steps = [ctx.run("run", make, "run"), ctx.call("foundry", "cast", "at once")]
        await asyncio.gather(*steps, durable.ref(Mould, "m").add())


async def reach(caller: Caller, method: str, *args: Any) -> Any:
    """Call a method and come to `crash_here`; all before it is durable."""
    call = caller.send("Carillon", method, *args)
    await gate("here").wait()
    await caller.create("Mould", "behind")
    return call


async def log_when_idle(caller: Caller) -> list[Any]:
    log: list[Any] = await caller.call("Carillon", "note", "end")
    return log[:-1]


async def two_lives(path: Path, method: str, *args: Any) -> tuple[list[Any], list[Any]]:
    """Run a method until it crashes, and again; return what each life has done."""
    begin(1)
    async with running(settings(path), crash=True) as (_, caller):
        await caller.create("Carillon")
        await caller.create("Mould", "m")
        await reach(caller, method, *args)
    first = list(MADE)
    begin(2)
    async with running(settings(path)) as (_, caller):
        log = await log_when_idle(caller)
    return [*first, "crash", *MADE[len(first) :]], log


@on_loop
async def test_handles_show_in_a_second_run_what_they_showed_in_the_first(tmp_path: Path) -> None:
    begin(1)
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Carillon")
        await caller.create("Mould", "m")
        await reach(caller, "look")
        assert await caller.call("Mould", "add", 100, id="m") == 101
        await caller.create("Mould", "later")
    begin(2)
    async with running(settings(tmp_path)) as (_, caller):
        assert await log_when_idle(caller) == [
            ("got", 0),
            ("called", 1),
            ("refreshed", 1),
            ("exists", False),
        ]


@on_loop
async def test_time_and_chance_are_the_same_in_a_second_run(tmp_path: Path) -> None:
    made, log = await two_lives(tmp_path, "draw")

    assert made == [log[:3], log[3:], "crash"]


@on_loop
async def test_a_second_run_is_another_attempt_of_the_same_call(tmp_path: Path) -> None:
    made, log = await two_lives(tmp_path, "attempts")

    call_id = made[0]
    assert made == [call_id, (call_id, False), "crash", (call_id, True)]
    assert log == ["done"]


@on_loop
async def test_an_error_of_a_step_is_recorded_and_raised_again_as_it_was(tmp_path: Path) -> None:
    made, log = await two_lives(tmp_path, "fail_in_a_step")

    assert made == ["once", "cracked once", "crash"]
    assert log == [
        ("run", "LookupError", "once"),
        ("service", "ServiceError", "foundry.crack: LookupError: cracked"),
    ]


@on_loop
async def test_a_service_without_an_answer_is_called_again_with_the_same_key(
    tmp_path: Path,
) -> None:
    made, log = await two_lives(tmp_path, "cast_slowly")

    assert [m[0] for m in made] == ["slowly", "c", "slowly"]
    assert made[0] == made[2]
    assert log == ["slowly"]


@on_loop
async def test_a_function_without_a_result_runs_again(tmp_path: Path) -> None:
    made, log = await two_lives(tmp_path, "run_slowly")

    assert made == ["slowly 1", "crash", "slowly 2"]
    assert log == ["slowly"]


@on_loop
async def test_a_method_without_steps_that_a_crash_interrupts_has_not_happened(
    tmp_path: Path,
) -> None:
    made, log = await two_lives(tmp_path, "plain")

    assert made == ["plain", "crash"]
    assert log == []


@on_loop
async def test_whose_clock_was_first_is_the_same_in_a_second_run(tmp_path: Path) -> None:
    _, log = await two_lives(tmp_path, "wait_in_vain")

    assert log == ["too slow", "slow"]


@on_loop
async def test_code_behind_several_steps_asks_in_the_same_order_in_a_second_run(
    tmp_path: Path,
) -> None:
    made, log = await two_lives(tmp_path, "gather")

    assert made == ["after c", "after a", "after b", "crash"]
    assert log == ["c", "after c", "a", "after a", "b", "after b"]


@on_loop
async def test_steps_of_one_name_in_several_tasks_keep_their_results_in_a_second_run(
    tmp_path: Path,
) -> None:
    made, log = await two_lives(tmp_path, "chains")

    assert sorted(made[:-1]) == sorted(result for _, result in log)
    assert all(result.startswith(name) for name, result in log), log


# State.


@on_loop
async def test_a_second_run_ends_with_its_own_state_and_never_shows_an_older_one(
    tmp_path: Path,
) -> None:
    begin(1)
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Carillon")
        await reach(caller, "be_busy")
        assert (await caller.state("Carillon"))["status"] == "busy"
    begin(2)
    async with running(settings(tmp_path)) as (_, caller):
        assert (await caller.state("Carillon"))["status"] == "busy"
        behind = caller.send("Carillon", "note", "behind")
        while MADE.count("run") < 2:
            await settled()
            assert (await caller.state("Carillon"))["status"] == "busy"
        assert not behind.done(), "nobody enters before the call that holds the object has ended"
        gate("end").set()
        await behind
        found = await caller.state("Carillon")
    assert (found["status"], found["log"]) == ("idle", [("behind", "idle")])
    assert MADE == ["run", "step", "run"]


@on_loop
async def test_a_call_sent_again_joins_the_one_that_goes_on(tmp_path: Path) -> None:
    begin(1)
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Carillon")
        caller.send("Carillon", "be_busy", key="k")
        await gate("here").wait()
        await caller.create("Mould", "behind")
    begin(2)
    gate("end").set()
    async with running(settings(tmp_path)) as (_, caller):
        calls = [caller.call("Carillon", "be_busy", key="k") for _ in range(3)]
        assert await asyncio.gather(*calls) == ["was busy"] * 3
    assert MADE == ["run", "step", "run"]


# Other steps than before.


@pytest.mark.parametrize(
    "how", ["fewer", "another kind", "another name", "another target", "caught", "all caught"]
)
@on_loop
async def test_another_step_than_in_the_journal_parks_the_call(tmp_path: Path, how: str) -> None:
    begin(1)
    async with running(settings(tmp_path), crash=True) as (_, caller):
        await caller.create("Carillon")
        await caller.create("Mould", "m")
        await caller.create("Mould", "other")
        call = caller.send("Carillon", "change_mind", how, key="k")
        await gate("here").wait()
        await caller.create("Mould", "behind")
        assert not call.done()
    begin(2)
    async with running(settings(tmp_path)) as (_, caller):
        waits = asyncio.ensure_future(caller.call("Carillon", "change_mind", how, key="k"))
        await settled(200)
        gate("again").set()
        with pytest.raises(Parked, match="step 2"):
            await waits
        with pytest.raises(Parked, match="step 2"):
            await caller.call("Carillon", "change_mind", how, key="k")
        with pytest.raises(Parked, match=r"Carillon\[x\]"):
            await caller.call("Carillon", "note", "other calls do not run")
        assert (await caller.state("Carillon"))["log"] == []
        assert (await caller.state("Mould", "other"))["n"] == 0
        assert await caller.call("Mould", "add", 0, id="m") == 1, "everything else goes on"
    assert MADE == ["first"]


# Before anything leaves.


@on_loop
async def test_no_step_is_made_before_it_is_durable(tmp_path: Path) -> None:
    begin(1)
    disk = HeldSync()
    journal = JournalSettings(segment_bytes=1 << 20, sync=disk)
    async with running(settings(tmp_path, journal=journal)) as (_, caller):
        await caller.create("Carillon")
        await caller.create("Mould", "m")
        disk.free.clear()
        call = caller.send("Carillon", "ask_at_once")
        await settled(200)
        seen = caller.client.call(ObjectKey("Mould", "m"), Kind.GET, "*", have=(0, 0))
        await settled(200)
        assert MADE == [], "neither a function nor a service"
        disk.free.set()
        await call
        await seen
        assert [what if type(what) is str else what[0] for what in MADE] == ["run", "at once"]
