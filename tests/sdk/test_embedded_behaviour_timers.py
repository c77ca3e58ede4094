"""Timers and sent calls, as users write them: embedded and on a node."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from harness.world import Embedded, Served, World

from perdure import DurableContext, DurableObject, TooManyTimers, durable
from perdure_node.core.limits import Limits


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


RANG: list[Any] = []
"""What handlers were entered, in this process."""
GATES: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def nothing_rang():
    RANG.clear()
    GATES.clear()


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


async def until_rang(*what: Any) -> None:
    while not set(what) <= set(RANG):
        await asyncio.sleep(0)


LATER = 3_600.0


@durable.object
class Sexton(DurableObject):
    """Rings bells later."""

    def __init__(self, sexton_id: str) -> None:
        super().__init__(sexton_id)
        self.rang: list[Any] = []

    async def ring(self, bell: Any = "bell", times: int = 1) -> None:
        RANG.append(bell)
        self.rang += [bell] * times

    async def ring_in_steps(self, ctx: DurableContext, bell: str) -> None:
        self.rang.append(await ctx.run("ring", lambda: RANG.append(bell) or bell))

    async def ring_badly(self, bell: str) -> None:
        RANG.append(bell)
        self.rang.append(bell)
        if RANG.count(bell) < 2:
            raise RuntimeError("the rope broke")

    @durable.shared
    async def read(self) -> list[Any]:
        return self.rang

    async def set(self, ctx: DurableContext, delay: float, bell: str, name: str = "t") -> str:
        return ctx.after(delay, self.ring, bell, name=name)

    async def set_with_names(self, ctx: DurableContext) -> list[str]:
        return [
            ctx.after(dt.timedelta(hours=1), self.ring),
            ctx.at(ctx.now() + dt.timedelta(hours=1), self.ring, "b", 2, name="second"),
            ctx.every("0 9 * * MON", self.ring, name="third", tz="Europe/Berlin"),
            ctx.every(dt.timedelta(milliseconds=5), self.ring, times=3, name="fourth"),
        ]

    async def set_method(self, ctx: DurableContext, method: str, bell: str) -> None:
        ctx.after(0, getattr(self, method), bell)

    async def set_each(self, ctx: DurableContext, *bells: str) -> None:
        for bell in bells:
            ctx.after(0.002, self.ring, bell, name=bell)

    async def set_often(self, ctx: DurableContext, seconds: float) -> None:
        ctx.every(dt.timedelta(seconds=seconds), self.ring_thrice)

    async def ring_thrice(self, ctx: DurableContext) -> None:
        RANG.append(len(RANG) + 1)
        self.rang.append(len(self.rang) + 1)
        if len(self.rang) == 3:
            assert ctx.cancel("ring_thrice")

    async def set_and_cancel(self, ctx: DurableContext) -> list[Any]:
        ctx.after(LATER, self.ring, name="mine")
        names = [timer.name for timer in ctx.timers()]
        return [names, ctx.cancel("mine"), ctx.cancel("mine"), ctx.timers()]

    async def set_and_raise(self, ctx: DurableContext, delay: float, bell: str) -> None:
        ctx.after(delay, self.ring, bell, name="undone")
        durable.send(self.other).ring(bell)
        self.rang.append("undone")
        raise ValueError("on purpose")

    async def set_save_and_raise(self, ctx: DurableContext, bell: str) -> None:
        ctx.after(0, self.ring, f"{bell} set", name="kept")
        durable.send(self.other).ring(f"{bell} sent")
        await self.save()
        ctx.after(0, self.ring, "undone", name="undone")
        durable.send(self.other).ring("undone")
        raise ValueError("on purpose")

    async def cancel(self, ctx: DurableContext, name: str) -> bool:
        return ctx.cancel(name)

    async def cancel_and_raise(self, ctx: DurableContext, name: str) -> None:
        assert ctx.cancel(name)
        raise ValueError("on purpose")

    async def timers(self, ctx: DurableContext) -> list[Any]:
        return [(timer.name, timer.method, timer.every, timer.attempts) for timer in ctx.timers()]

    async def due(self, ctx: DurableContext, name: str) -> dt.datetime | None:
        return next((timer.due for timer in ctx.timers() if timer.name == name), None)

    @property
    def other(self) -> Sexton:
        return durable.ref(Sexton, f"other of {self.object_id}")

    # Sends.

    async def send(self, other: Sexton, *bells: str) -> list[Any]:
        return [await durable.send(other).ring(bell) for bell in bells]

    async def send_and_call(self, other: Sexton) -> int:
        durable.send(other).ring("sent")
        await other.ring("called")
        durable.send(other).ring("sent again")
        return len(await other.read())

    async def send_to_itself(self, bell: str) -> list[Any]:
        await durable.send(durable.ref(Sexton, self.object_id)).ring(bell)
        return list(self.rang)

    async def stay(self, name: str) -> None:
        RANG.append(name)
        await gate(name).wait()


async def sexton(id: str = "s1") -> Sexton:
    await Sexton.get_or_create(f"other of {id}")
    return await Sexton.get_or_create(id)


def test_a_timer_calls_its_method_with_its_arguments_and_is_over(world):
    async def main():
        one = await sexton()
        assert await one.set(0.002, "b") == "t"
        await until_rang("b")
        assert await one.read() == ["b"]
        assert await one.timers() == []

    world.run(main)


def test_a_timer_outlives_every_process(world):
    async def first():
        await (await sexton()).set(0.05, "b")

    async def second():
        # It fires although nobody asks for its object.
        await Sexton.get_or_create("another")
        await until_rang("b")
        assert await durable.ref(Sexton, "s1").read() == ["b"]

    async def third():
        assert await durable.ref(Sexton, "s1").read() == ["b"]

    world.run(first)
    world.run(second)
    world.run(third)
    assert RANG == ["b"]


def test_timers_are_named_listed_and_come_once_or_again_and_again(world):
    async def main():
        one = await sexton()
        assert await one.set_with_names() == ["ring", "second", "third", "fourth"]
        await until_rang("bell")
        assert (await one.timers())[1:] == [
            ("ring", "ring", None, 0),
            ("second", "ring", None, 0),
            ("third", "ring", ("0 9 * * MON", "Europe/Berlin"), 0),
        ]
        [name, method, every, _] = (await one.timers())[0]
        assert (name, method, every) == ("fourth", "ring", dt.timedelta(milliseconds=5))
        assert (await one.read())[:3] == ["bell"] * 3

    world.run(main)


def test_an_object_may_have_many_timers(world):
    async def main():
        one = await sexton()
        bells = [f"b{number}" for number in range(200)]
        await one.set_each(*bells)
        await until_rang(*bells)
        assert sorted(await one.read()) == sorted(bells)

    world.run(main)


def test_a_timer_of_the_same_name_takes_the_place_of_the_other(world):
    async def main():
        one = await sexton()
        await one.set(LATER, "never")
        before = await one.due("t")
        await one.set(2 * LATER, "never either")
        assert await one.due("t") > before
        await one.set(0, "at once")
        await until_rang("at once")
        assert await one.timers() == []
        assert RANG == ["at once"]

    world.run(main)


def test_a_timer_that_repeats_may_cancel_itself(world):
    async def main():
        one = await sexton()
        await one.set_often(0.002)
        await until_rang(3)
        assert await one.timers() == []
        assert await one.read() == [1, 2, 3]

    world.run(main)


def test_a_method_sees_at_once_what_it_sets_and_cancels(world):
    async def main():
        assert await (await sexton()).set_and_cancel() == [["mine"], True, False, []]

    world.run(main)


def test_a_timer_cancelled_in_the_same_commit_as_the_state_does_not_fire(world):
    async def main():
        one = await sexton()
        staying = one.stay("busy")
        await until_rang("busy")
        # The firing is in the mailbox behind these two when the cancellation is committed.
        setting, cancelling = one.set(0, "never"), one.cancel("t")
        gate("busy").set()
        await asyncio.gather(staying, setting)
        cancelled = await cancelling
        await one.read()
        assert await one.read() == ([] if cancelled else ["never"])

    world.run(main)


def test_an_exception_undoes_timers_sends_and_cancellations(world):
    async def main():
        one = await sexton()
        await one.set(LATER, "later", name="stays")
        with pytest.raises(ValueError, match="on purpose"):
            await one.set_and_raise(0, "never")
        with pytest.raises(ValueError, match="on purpose"):
            await one.cancel_and_raise("stays")
        assert [name for name, *_ in await one.timers()] == ["stays"]
        assert await one.read() == []
        assert await durable.ref(Sexton, "other of s1").read() == []

    world.run(main)

    async def later():
        assert await durable.ref(Sexton, "s1").read() == []
        assert await durable.ref(Sexton, "other of s1").read() == []

    world.run(later)
    assert RANG == []


def test_a_save_keeps_the_timers_and_sends_before_it(world):
    async def main():
        one = await sexton()
        with pytest.raises(ValueError, match="on purpose"):
            await one.set_save_and_raise("b")
        await until_rang("b set", "b sent")
        assert await one.read() == ["b set"]
        assert await durable.ref(Sexton, "other of s1").read() == ["b sent"]

    world.run(main)


@pytest.mark.parametrize("method", ["ring", "ring_in_steps"])
def test_what_a_handler_does_is_done_once(world, method):
    async def main():
        one = await sexton()
        await one.set_method(method, "b")
        await until_rang("b")
        assert await one.read() == ["b"]
        assert await one.timers() == []

    world.run(main)
    world.run(main_again, "b")
    assert RANG.count("b") == 1


async def main_again(bell: str) -> None:
    assert await durable.ref(Sexton, "s1").read() == [bell]


def test_a_handler_that_fails_is_undone_and_called_again(tmp_path):
    async def main():
        one = await sexton()
        await one.set_method("ring_badly", "b")
        while RANG.count("b") < 2:
            await asyncio.sleep(0)
        assert await one.read() == ["b"]
        assert await one.timers() == []

    Served(tmp_path / "data", Limits(timer_retry_ms=1)).run(main)


def test_a_failed_timer_shows_how_often_it_was_tried(world):
    async def main():
        one = await sexton()
        await one.set_method("ring_badly", "b")
        await until_rang("b")
        assert await one.timers() == [("ring_badly", "ring_badly", None, 1)]
        assert await one.read() == []
        assert await one.cancel("ring_badly")

    world.run(main)


def test_an_object_has_a_bounded_number_of_timers(tmp_path):
    async def main():
        one = await sexton()
        with pytest.raises(TooManyTimers, match=r"Sexton\[s1\]"):
            await one.set_each("a", "b", "c", "d")
        assert await one.timers() == []
        await one.set_each("a", "b", "c")
        await until_rang("a", "b", "c")
        await one.set_each("d")

    Served(tmp_path / "data", Limits(timers_per_object_max=3)).run(main)


def test_a_timer_waits_for_its_turn_in_the_mailbox(world):
    async def main():
        one = await sexton()
        setting, staying = one.set(0, "b"), one.stay("busy")
        await until_rang("busy")
        gate("busy").set()
        await asyncio.gather(setting, staying)
        await until_rang("b")
        assert await one.read() == ["b"]

    world.run(main)


# Deletion.


def test_delete_removes_timers_and_calls_held_for_the_object(world):
    async def main():
        for delay in (0.02, 0.2, 2.0):
            one = await sexton()
            await one.set(delay, "of the old one")
            durable.send(one, delay=delay).ring("sent to the old one")
            assert await durable.delete(one)
            if not RANG:
                break
            RANG.clear()  # A slow machine: they rang before.
        again = await Sexton.get_or_create("s1")
        assert await again.timers() == []
        await again.set(delay + 0.01, "of the new one")
        await until_rang("of the new one")
        assert await again.read() == ["of the new one"]

    world.run(main)
    assert RANG == ["of the new one"]


def test_what_a_deleted_object_has_sent_still_arrives(world):
    async def main():
        one = await sexton()
        other = durable.ref(Sexton, "other of s1")
        assert await one.send(other, "b") == [None]
        assert await durable.delete(one)
        await until_rang("b")
        assert await other.read() == ["b"]

    world.run(main)


# Sends.


def test_sent_calls_run_in_the_order_in_which_they_were_sent(world):
    async def main():
        one = await sexton()
        other = durable.ref(Sexton, "other of s1")
        bells = [f"b{number}" for number in range(50)]
        assert await one.send(other, *bells) == [None] * 50
        await until_rang(*bells)
        assert await other.read() == bells

    world.run(main)


def test_a_call_does_not_overtake_what_was_sent_before_it(world):
    async def main():
        one = await sexton()
        other = durable.ref(Sexton, "other of s1")
        assert await one.send_and_call(other) == 3
        await until_rang("sent again")
        assert await other.read() == ["sent", "called", "sent again"]

    world.run(main)


def test_a_method_may_send_to_its_own_object(world):
    async def main():
        one = await sexton()
        assert await one.send_to_itself("b") == []
        await until_rang("b")
        assert await one.read() == ["b"]

    world.run(main)


def test_a_send_from_outside_gives_none_and_runs_once_per_key(world):
    async def main():
        one = await sexton()
        assert await durable.send(one).ring("b") is None
        for _ in range(3):
            await durable.send(one, key="k").ring("with a key")
        await until_rang("b", "with a key")
        assert await one.read() == ["b", "with a key"]

    world.run(main)


def test_a_delayed_send_outlives_every_process(world):
    async def first():
        await durable.send(await sexton(), delay=dt.timedelta(milliseconds=50)).ring("b")

    async def second():
        # It fires although nobody asks for its object.
        await Sexton.get_or_create("another")
        await until_rang("b")
        assert await durable.ref(Sexton, "s1").read() == ["b"]

    world.run(first)
    world.run(second)
    assert RANG == ["b"]


def test_a_send_that_nobody_awaits_is_sent(world):
    async def main():
        one = await sexton()
        durable.send(one).ring("b")
        await until_rang("b")
        assert await one.read() == ["b"]

    world.run(main)
