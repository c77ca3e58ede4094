from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import schedules
from perdure.schedules import (
    due_at,
    due_of,
    every_of,
    next_due,
    next_due_after_firing,
    schedule_of,
)

NOW = 1_800_000_000_000
BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3_600_000
DAY = 24 * HOUR


def ms(year: int, month: int, day: int, *rest: int, zone: dt.tzinfo = dt.UTC, fold: int = 0) -> int:
    return round(dt.datetime(year, month, day, *rest, tzinfo=zone, fold=fold).timestamp() * 1000)


def firings(every: str, after_ms: int, until_ms: int, zone: dt.tzinfo = dt.UTC) -> list[str]:
    times = []
    while (after_ms := next_due(every, after_ms)) < until_ms:
        times.append(dt.datetime.fromtimestamp(after_ms / 1000, zone).strftime("%d %H:%M:%S %z"))
    return times


# Delays.


@pytest.mark.parametrize(
    ("delay", "milliseconds"),
    [
        (dt.timedelta(minutes=1), 60_000),
        (dt.timedelta(microseconds=1), 1),
        (dt.timedelta(milliseconds=5, microseconds=1), 6),
        (1.5, 1_500),
        (1.001, 1_001),
        (0.0004, 1),
        (3, 3_000),
        (0, 0),
        (-0.0, 0),
    ],
)
def test_a_delay_is_rounded_up_to_a_millisecond(
    delay: dt.timedelta | float, milliseconds: int
) -> None:
    assert due_of(delay, NOW) == NOW + milliseconds


@pytest.mark.parametrize("delay", [-1, -1e300, float("-inf"), dt.timedelta.min, -(10**400)])
def test_a_negative_delay_is_over_now(delay: dt.timedelta | float) -> None:
    assert due_of(delay, NOW) == NOW


@pytest.mark.parametrize(
    "delay",
    [float("nan"), float("inf"), 1e300, 10**400, dt.timedelta.max, dt.timedelta(days=3_654)],
)
def test_a_delay_beyond_ten_years_is_refused_and_so_is_not_a_number(
    delay: dt.timedelta | float,
) -> None:
    with pytest.raises(ValueError, match=r"ten years|not a number"):
        due_of(delay, NOW)


def test_ten_years_are_allowed() -> None:
    start = dt.datetime.fromtimestamp(NOW / 1000, dt.UTC)

    assert due_of(start.replace(year=start.year + 10) - start, NOW) > NOW
    assert due_at(start.replace(year=start.year + 10), NOW) > NOW


@pytest.mark.parametrize("delay", ["1", None, True, dt.time(1)])
def test_what_is_no_delay_is_a_type_error(delay: object) -> None:
    with pytest.raises(TypeError, match="a delay is a timedelta or seconds"):
        due_of(delay, NOW)  # type: ignore[arg-type]


@given(st.timedeltas(max_value=dt.timedelta(days=3_650)))
def test_no_delay_is_over_early(delay: dt.timedelta) -> None:
    waited = dt.timedelta(milliseconds=due_of(delay, NOW) - NOW)

    assert waited >= delay
    assert waited - max(delay, dt.timedelta()) < dt.timedelta(milliseconds=1)


# Points in time.


def test_a_point_in_time_is_rounded_up_to_a_millisecond() -> None:
    when = dt.datetime(2027, 3, 1, 9, 30, 0, 1, tzinfo=BERLIN)

    assert due_at(when, NOW) == ms(2027, 3, 1, 8, 30) + 1


def test_the_second_of_two_equal_times_is_an_hour_after_the_first() -> None:
    first = dt.datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN)

    assert due_at(first.replace(fold=1), NOW) - due_at(first, NOW) == HOUR


@pytest.mark.parametrize(
    "when", [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime.min.replace(tzinfo=dt.UTC)]
)
def test_what_is_past_is_now(when: dt.datetime) -> None:
    assert due_at(when, NOW) == NOW


@pytest.mark.parametrize(
    "when",
    [dt.datetime(2040, 1, 1, tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=BERLIN)],
)
def test_a_time_beyond_ten_years_is_refused(when: dt.datetime) -> None:
    with pytest.raises(ValueError, match="more than ten years away"):
        due_at(when, NOW)


def test_a_time_without_a_zone_is_refused_with_the_way_to_give_it_one() -> None:
    with pytest.raises(TypeError, match=r"says no time zone: give it one, as in datetime\.now"):
        due_at(dt.datetime(2027, 1, 1), NOW)


@pytest.mark.parametrize("when", [dt.date(2027, 1, 1), 1.5, "2027-01-01", None])
def test_what_is_no_time_is_a_type_error(when: object) -> None:
    with pytest.raises(TypeError, match="a datetime with a time zone"):
        due_at(when, NOW)  # type: ignore[arg-type]


# How often.


@pytest.mark.parametrize(
    ("schedule", "zone", "every"),
    [
        (dt.timedelta(minutes=1), None, "ms:60000"),
        (dt.timedelta(microseconds=1), None, "ms:1"),
        ("0 9 * * *", None, "cron:0 9 * * *|UTC"),
        ("  0  9\t* * mon ", "Europe/Berlin", "cron:0 9 * * mon|Europe/Berlin"),
        ("0 9 L * *", BERLIN, "cron:0 9 L * *|Europe/Berlin"),
        ("0 0 9 * * MON#1", dt.UTC, "cron:0 0 9 * * MON#1|UTC"),
        ("0 9 * * *", dt.timezone(dt.timedelta(hours=2), "EET"), "cron:0 9 * * *|+02:00"),
        ("0 9 * * *", "-03:30", "cron:0 9 * * *|-03:30"),
    ],
)
def test_how_often_has_one_text(
    schedule: str | dt.timedelta, zone: str | dt.tzinfo | None, every: str
) -> None:
    assert every_of(schedule, zone) == every
    assert next_due(every, NOW) > NOW


def test_the_text_says_what_was_asked_for() -> None:
    assert schedule_of("") is None
    assert schedule_of(every_of(dt.timedelta(hours=1))) == dt.timedelta(hours=1)
    assert schedule_of("ms:3600000@5") == dt.timedelta(hours=1)
    assert schedule_of(every_of("0 9 * * *", BERLIN)) == ("0 9 * * *", "Europe/Berlin")


@pytest.mark.parametrize(
    "expression",
    ["", "every day", "@daily", "* * * *", "60 * * * *", "* * * * * * *", "0 0 31 2 *",
     "*/0 * * * *",
     "1|2 * * * *", "* * * * MON#1/2", "0 0 * 2 8", "² * * * *", "1," * 200 + "1 * * * *"],
)  # fmt: skip
def test_what_is_no_cron_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"no cron expression|no time in"):
        every_of(expression)


@given(st.text("0123456789*/,-#LW MONFEB|@", max_size=30))
def test_every_text_is_a_schedule_or_a_value_error(expression: str) -> None:
    try:
        every = every_of(expression)
    except ValueError:
        return
    assert next_due(every, NOW) > NOW


@pytest.mark.parametrize(
    "zone", ["Europe/Nowhere", "", "../etc/passwd", "UTC]", "UTC][fold=1", "a|b", "+99:00", "os"]
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        every_of("0 9 * * *", zone)


def test_a_zone_that_no_other_process_knows_is_refused() -> None:
    class Own(dt.tzinfo):
        pass

    with pytest.raises(ValueError, match="Own"):
        every_of("0 9 * * *", Own())
    with pytest.raises(TypeError, match="a time zone is a name or a tzinfo"):
        every_of("0 9 * * *", 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "interval", [dt.timedelta(), dt.timedelta(seconds=-1), dt.timedelta(days=4_000)]
)
def test_an_interval_is_positive_and_at_most_ten_years(interval: dt.timedelta) -> None:
    with pytest.raises(ValueError, match=r"positive|ten years"):
        every_of(interval)


def test_an_interval_has_no_zone_and_a_number_is_no_schedule() -> None:
    with pytest.raises(ValueError, match="an interval has no time zone"):
        every_of(dt.timedelta(hours=1), "UTC")
    with pytest.raises(TypeError, match="a schedule is a cron expression or a timedelta"):
        every_of(60)  # type: ignore[arg-type]


# What comes next.


def test_the_next_time_is_strictly_later() -> None:
    nine = ms(2027, 3, 1, 9)

    assert next_due("cron:0 9 * * *|UTC", nine - 1) == nine
    assert next_due("cron:0 9 * * *|UTC", nine) == nine + DAY
    assert next_due("cron:0 9 * * *|UTC", nine + 1) == nine + DAY
    assert next_due("ms:60000", nine) == nine + 60_000


def test_six_fields_begin_with_the_second() -> None:
    start = ms(2027, 3, 1)

    assert next_due("cron:*/10 * * * * *|UTC", start + 9_999) == start + 10_000
    assert next_due("cron:5 30 9 * * *|UTC", start) == start + 9 * HOUR + 30 * 60_000 + 5_000


@pytest.mark.parametrize("seconds", ["", "0 "])
def test_a_fixed_time_that_is_left_out_comes_once_as_the_gap_ends(seconds: str) -> None:
    every = every_of(f"{seconds}30 2 * * *", BERLIN)

    # On 28 March 2027 the clock goes from 2:00 to 3:00.
    assert firings(every, ms(2027, 3, 27), ms(2027, 3, 30), BERLIN) == [
        "27 02:30:00 +0100",
        "28 03:00:00 +0200",
        "29 02:30:00 +0200",
    ]


@pytest.mark.parametrize("seconds", ["", "0 "])
def test_a_fixed_time_that_is_there_twice_comes_once(seconds: str) -> None:
    every = every_of(f"{seconds}30 2 * * *", BERLIN)

    # On 31 October 2027 the clock goes from 3:00 back to 2:00.
    assert firings(every, ms(2027, 10, 30), ms(2027, 11, 2), BERLIN) == [
        "30 02:30:00 +0200",
        "31 02:30:00 +0200",
        "01 02:30:00 +0100",
    ]


def test_several_fixed_times_in_a_gap_come_once() -> None:
    every = every_of("15,45 2,3 * * *", BERLIN)

    assert firings(every, ms(2027, 3, 28), ms(2027, 3, 28, 12), BERLIN) == [
        "28 03:00:00 +0200",
        "28 03:15:00 +0200",
        "28 03:45:00 +0200",
    ]


def test_what_comes_every_half_hour_comes_by_real_time() -> None:
    every = every_of("*/30 * * * *", BERLIN)

    assert firings(every, ms(2027, 10, 31) - 1, ms(2027, 10, 31, 2), BERLIN) == [
        "31 02:00:00 +0200",
        "31 02:30:00 +0200",
        "31 02:00:00 +0100",
        "31 02:30:00 +0100",
    ]
    assert firings(every, ms(2027, 3, 28) - 1, ms(2027, 3, 28, 2), BERLIN) == [
        "28 01:00:00 +0100",
        "28 01:30:00 +0100",
        "28 03:00:00 +0200",
        "28 03:30:00 +0200",
    ]


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana",
         "Africa/Cairo", "Asia/Kathmandu", "Atlantic/Azores", "+05:45"]  # fmt: skip


@given(
    st.sampled_from(ZONES), st.integers(0, 59), st.integers(0, 23), st.integers(2024, 2030),
    st.booleans(),
)  # fmt: skip
def test_a_daily_time_comes_once_on_every_day_of_a_year_in_every_zone(
    zone: str, minute: int, hour: int, year: int, seconds: bool
) -> None:
    place = schedules._zone(zone)
    every = every_of(f"{'7 ' if seconds else ''}{minute} {hour} * * *", zone)
    end = dt.datetime(year + 1, 1, 1, tzinfo=place).timestamp() * 1000
    after = round(dt.datetime(year, 1, 1, tzinfo=place).timestamp() * 1000) - 1

    days = []
    while (after := next_due(every, after)) < end:
        days.append(dt.datetime.fromtimestamp(after / 1000, place).date())

    assert days == [dt.date(year, 1, 1) + dt.timedelta(n) for n in range(len(days))]
    assert len(days) in (365, 366)


# After a firing.


@given(st.integers(1, 10**9), st.integers(0, 10**12))
def test_an_interval_keeps_its_beat_however_late_the_firing(interval: int, late: int) -> None:
    after = next_due_after_firing(f"ms:{interval}", NOW, NOW + late)

    assert (after - NOW) % interval == 0
    assert NOW + late < after <= NOW + late + interval


def test_one_firing_makes_up_for_all_that_were_missed() -> None:
    every = every_of("0 9 * * *")
    nine = ms(2027, 3, 1, 9)

    assert next_due_after_firing(every, nine, nine + 30 * DAY + 5) == nine + 31 * DAY


@pytest.mark.parametrize("every", ["ms:86400000", "cron:0 9 * * *|UTC"])
def test_a_clock_put_back_brings_nothing_a_second_time(every: str) -> None:
    nine = ms(2027, 3, 1, 9)

    assert next_due_after_firing(every, nine, nine - 30 * DAY) == nine + DAY


def test_an_anchored_interval_goes_back_to_its_beat() -> None:
    late = schedules.anchored("ms:1000", NOW)

    assert schedules.anchored(late, NOW + 5_555) == late
    assert next_due_after_firing(late, NOW + 5_555, NOW + 5_560) == NOW + 6_000
    assert schedules.unanchored(late) == "ms:1000"
    assert schedules.anchored("cron:0 9 * * *|UTC", 5) == "cron:0 9 * * *|UTC"
    assert schedules.anchored("", 5) == ""


def test_a_zone_that_this_machine_lacks_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=re.escape("there is no time zone 'Mars/Base' here")):
        next_due("cron:0 9 * * *|Mars/Base", NOW)
