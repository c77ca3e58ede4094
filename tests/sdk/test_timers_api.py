"""Timers as a method sets, sees and cancels them."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime, timedelta

import pytest
from harness.recording_turn import RecordingTurn

from perdure import BadArguments, DurableContext, DurableObject, Timer, ctx, durable
from perdure.codec import decode, encode
from perdure.context import TimerSetting
from perdure.ids import ObjectKey


class WithReminder(DurableObject):
    async def remind(self, text: str) -> None: ...


@durable.object
class TimedOrder(WithReminder):
    async def expire(self, reason: str = "", *, hard: bool = False) -> None: ...

    def note(self, ctx: DurableContext, text: str, name: str = "") -> None: ...

    async def remind(self, text: str) -> None: ...

    def remind_as_before(self) -> None:
        ctx.after(1, super().remind, "x")

    async def _hidden(self) -> None: ...

    @staticmethod
    def helper() -> None: ...

    @property
    def late(self) -> bool:
        return True


@pytest.fixture
def turn():
    with RecordingTurn(ObjectKey("TimedOrder", "o1")).running() as made:
        yield made


@pytest.fixture
def order() -> TimedOrder:
    return TimedOrder("o1")


def now_ms() -> int:
    return int(time.time() * 1000)


def is_now(due_ms: int, after_ms: int = 0) -> bool:
    return -30_000 < due_ms - now_ms() - after_ms <= 1


def test_after_sets_a_timer_by_the_name_of_the_method(turn, order):
    name = ctx.after(timedelta(hours=1), order.expire)

    setting = turn.settings["expire"]
    assert name == "expire"
    assert setting == TimerSetting("expire", setting.due_ms, "expire", b"", "")
    assert is_now(setting.due_ms, 3_600_000)


def test_arguments_and_names_go_along_and_a_name_is_replaced(turn, order):
    assert ctx.after(0.5, order.expire, "late", hard=True, name="first") == "first"
    assert ctx.after(-5, order.expire, "later", name="first") == "first"

    [setting] = turn.settings.values()
    assert decode(setting.arguments) == [["later"], {}]
    assert is_now(setting.due_ms)


def test_an_argument_that_is_called_name_is_given_by_its_place(turn, order):
    ctx.after(1, order.note, "text", "its name", name="of the timer")

    setting = turn.settings["of the timer"]
    assert decode(setting.arguments) == [["text", "its name"], {}]


def test_the_context_of_a_handler_is_no_argument(turn, order):
    ctx.after(1, order.note, ctx, "text")

    assert decode(turn.settings["note"].arguments) == [["text"], {}]


def test_at_takes_a_point_in_time(turn, order):
    when = datetime.now(UTC) + timedelta(days=3)
    ctx.at(when, order.expire)

    assert 0 <= turn.settings["expire"].due_ms - when.timestamp() * 1000 < 1.01


def test_every_takes_an_interval_or_a_cron_expression(turn, order):
    ctx.every(timedelta(minutes=5), order.expire, name="interval")
    ctx.every("0 9 * * MON", order.remind, "x", tz="Europe/Berlin")

    interval, cron = turn.settings["interval"], turn.settings["remind"]
    assert (interval.every, cron.every) == ("ms:300000", "cron:0 9 * * MON|Europe/Berlin")
    assert is_now(interval.due_ms, 300_000)
    assert 0 < cron.due_ms - now_ms() <= 7 * 86_400_000 + 3_600_000
    assert decode(cron.arguments) == [["x"], {}]


def test_timers_shows_what_is_set(turn, order):
    ctx.every("0 9 * * *", order.remind, "x", name="b")
    ctx.every(timedelta(seconds=5), order.expire, name="c")
    turn.settings["a"] = TimerSetting("a", 1_800_000_000_123, "expire", b"", "", 7, 2)

    a, b, c = ctx.timers()

    due = datetime(2027, 1, 15, 8, 0, 0, 123_000, UTC)
    assert a == Timer(name="a", due=due, method="expire", every=None, attempts=2)
    assert (b.every, b.method, b.attempts) == (("0 9 * * *", "UTC"), "remind", 0)
    assert c.every == timedelta(seconds=5)
    assert c.due.tzinfo is UTC
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.name = "other"  # type: ignore[misc]


def test_timers_can_be_returned_from_a_method_and_stored(turn, order):
    ctx.every("0 9 * * *", order.remind, "x")

    assert decode(encode(ctx.timers())) == ctx.timers()


def test_cancel_says_whether_there_was_one(turn, order):
    ctx.after(1, order.expire)

    assert ctx.cancel("expire") is True
    assert ctx.cancel("expire") is False
    assert ctx.timers() == []


def test_arguments_are_bound_and_packed_at_once(turn, order):
    with pytest.raises(TypeError, match=r"takes .* positional argument"):
        ctx.after(1, order.remind, "a", "b")
    with pytest.raises(BadArguments, match=r"unexpected keyword argument 'txt'.*text"):
        ctx.after(1, order.remind, txt="a")
    with pytest.raises(BadArguments, match=r"TimedOrder.remind\(\) argument text\[0\]: object"):
        ctx.after(1, order.remind, [object()])

    assert turn.settings == {}


def test_only_public_methods_of_the_very_object_can_be_called(turn, order):
    other, handle = TimedOrder("o2"), durable.ref(TimedOrder, "o1")
    for method, why in (
        (other.expire, "not one of <TimedOrder 'o2', inside>"),
        (order._hidden, "not self._hidden: it is called by name, so it must be public"),
        (order.helper, "such as self.expire, not <function"),
        (order.save, "self.save is another one, or none"),
        (lambda: None, "such as self.expire, not <function"),
        ("expire", "such as self.expire, not 'expire'"),
        (handle.expire, "for another object use durable.send"),
        ([].append, "such as self.expire, not"),
    ):
        with pytest.raises(TypeError, match=r"ctx.after takes a method of this object") as raised:
            ctx.after(1, method)  # type: ignore[arg-type]
        assert why in str(raised.value)
    with pytest.raises(TypeError, match=r"self.remind is another one"):
        order.remind_as_before()

    assert turn.settings == {}


def test_a_call_in_the_place_of_a_method_is_explained(turn, order):
    made = order.expire()
    with pytest.raises(TypeError, match="leave the parentheses away"):
        ctx.after(1, made)  # type: ignore[arg-type]
    made.close()


@pytest.mark.parametrize("name", ["", "x" * 257, "\ud800"])
def test_a_name_that_is_not_possible_is_refused(turn, order, name):
    with pytest.raises(ValueError, match="a timer's name"):
        ctx.after(1, order.expire, name=name)
    with pytest.raises(ValueError, match="a timer's name"):
        ctx.cancel(name)


def test_a_name_is_text(turn, order):
    with pytest.raises(TypeError, match="a timer's name is a str, not int"):
        ctx.after(1, order.expire, name=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a timer's name is a str, not method"):
        ctx.cancel(order.expire)  # type: ignore[arg-type]


def test_times_that_are_not_possible_are_refused(turn, order):
    with pytest.raises(TypeError, match="says no time zone"):
        ctx.at(datetime(2030, 1, 1), order.expire)
    with pytest.raises(ValueError, match="not positive"):
        ctx.every(timedelta(), order.expire)
    with pytest.raises(ValueError, match="no cron expression"):
        ctx.every("now and then", order.expire)
    with pytest.raises(TypeError, match="a delay is a timedelta or seconds, not method"):
        ctx.after(order.expire, 1)  # type: ignore[arg-type]


def test_at_top_level_timers_say_where_they_work(order):
    for ask in (
        lambda: ctx.after(1, order.expire),
        lambda: ctx.at(datetime.now(UTC), order.expire),
        lambda: ctx.every("* * * * *", order.expire),
        lambda: ctx.cancel("expire"),
        ctx.timers,
    ):
        with pytest.raises(RuntimeError, match=r"ctx\.\w+ works inside the methods of durable"):
            ask()


def test_where_the_turn_refuses_timers_its_error_passes_through(order):
    turn = RecordingTurn(ObjectKey("TimedOrder", "o1"), refuses=True)

    with turn.running(), pytest.raises(RuntimeError, match="no steps here"):
        ctx.after(1, order.expire)
