"""When a timer fires: what users say, and the milliseconds of the wall clock that it means.

How often a timer comes is one text, `every`:

    (empty)                        once
    ms:60000                       every minute, counted from its first firing
    ms:60000@1800000000000         the same, while it is late: where its beat is
    cron:0 9 * * MON|Europe/Berlin a cron expression, in the local time of a zone

Cron is cronsim's: five fields (minute, hour, day of month, month, day of week), or six with the
second before them. When clocks change, what cron says for each hour of the day (minute or hour
begins with `*`) is taken by real time: it comes in both of two equal hours, and not in an hour
that is left out. What comes at fixed times comes once: at the first of two equal times, and when
its time is left out, as soon as that gap is over. With six fields it is the same.

Occurrences that were missed (nobody ran the timer: an outage, a method that failed, a clock that
was put forward) are made up for by one firing, whatever their number; then the next regular one
follows. A clock that is put back brings no occurrence a second time.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Final, NamedTuple

from perdure import temporal

__all__ = [
    "TimerSetting",
    "anchored",
    "due_at",
    "due_of",
    "every_of",
    "next_due",
    "next_due_after_firing",
    "schedule_of",
    "unanchored",
]

_TEN_YEARS: Final = dt.timedelta(days=3_653)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MS: Final = dt.timedelta(milliseconds=1)
_CRON_LENGTH_MAX: Final = 200
_OFFSET: Final = re.compile(r"[+-]\d\d:\d\d(:\d\d(\.\d{6})?)?")


class TimerSetting(NamedTuple):
    """One timer of an object."""

    name: str
    due_ms: int
    """Wall clock, when it fires next."""
    method: str
    arguments: bytes
    """`codec.encode([positional list, named dict])`; empty: none."""
    every: str = ""
    """Empty: it fires once. `ms:<interval>`, or `cron:<expression>|<time zone>`."""
    generation: int = 0
    """Counts the settings of this name: a firing of an earlier one does not run."""
    attempts: int = 0
    """Firings since it last succeeded."""
    deaths: int = 0
    """How many of them have ended their process."""


def due_of(delay: dt.timedelta | float, now_ms: int) -> int:
    """Return when a delay is over, rounded up to a millisecond.

    Args:
        delay: A number means seconds. A negative one is over now.
        now_ms: Wall clock.

    Raises:
        TypeError: It is neither a timedelta nor a number.
        ValueError: It is not a number (NaN), or more than ten years.
    """
    if isinstance(delay, dt.timedelta):
        waited = delay
    elif isinstance(delay, bool) or not isinstance(delay, int | float):
        raise TypeError(f"a delay is a timedelta or seconds, not {_kind(delay)}")
    elif delay <= 0:
        return now_ms
    elif delay > _TEN_YEARS.total_seconds():
        raise ValueError("a delay is at most ten years")
    elif math.isnan(delay):
        raise ValueError("a delay that is not a number")
    else:
        waited = dt.timedelta(seconds=delay)
    if waited > _TEN_YEARS:
        raise ValueError("a delay is at most ten years")
    return now_ms + max(0, _ms_up(waited))


def due_at(when: dt.datetime, now_ms: int) -> int:
    """Return a point in time, rounded up to a millisecond; what is past is now.

    Args:
        when: With a time zone.
        now_ms: Wall clock.

    Raises:
        TypeError: It is no datetime, or has no time zone.
        ValueError: It is more than ten years away.
    """
    if not isinstance(when, dt.datetime):
        raise TypeError(f"a time is a datetime with a time zone, not {_kind(when)}")
    if when.utcoffset() is None:
        raise TypeError(
            f"{when.isoformat()} says no time zone: give it one, as in "
            f"datetime.now(UTC) + timedelta(hours=1), or when.replace(tzinfo=UTC)"
        )
    due_ms = _ms_up(when - _EPOCH)
    if due_ms - now_ms > _ms_up(_TEN_YEARS):
        raise ValueError(f"{when.isoformat()} is more than ten years away")
    return max(due_ms, now_ms)


def every_of(schedule: str | dt.timedelta, tz: str | dt.tzinfo | None = None) -> str:
    """Return the text of how often a timer comes.

    Args:
        schedule: A cron expression of five fields, or six with seconds first; or an interval,
            which is rounded up to a millisecond.
        tz: The zone of the cron expression: a name like `Europe/Berlin`, an offset like `+02:00`,
            a `ZoneInfo` or a `datetime.timezone`. None: UTC.

    Raises:
        TypeError: One of them is something else.
        ValueError: The expression is none, or fits no day; there is no such zone, or it was given
            with an interval; the interval is not positive, or more than ten years.
    """
    if isinstance(schedule, dt.timedelta):
        if tz is not None:
            raise ValueError("an interval has no time zone; a cron expression has")
        if schedule <= dt.timedelta():
            raise ValueError(f"an interval of {schedule} is not positive")
        if schedule > _TEN_YEARS:
            raise ValueError(f"an interval of {schedule} is more than ten years")
        return f"ms:{_ms_up(schedule)}"
    if not isinstance(schedule, str):
        raise TypeError(f"a schedule is a cron expression or a timedelta, not {_kind(schedule)}")
    expression = " ".join(schedule.split())
    every = f"cron:{expression}|{_zone_text(tz)}"
    if not expression.isascii() or len(expression) > _CRON_LENGTH_MAX:
        raise ValueError(f"{schedule!r:.100} is no cron expression")
    # A fixed day to count from: the answer must not depend on when it is asked.
    next_due(every, 946_684_800_000)
    return every


def schedule_of(every: str) -> dt.timedelta | tuple[str, str] | None:
    """Return what an `every` says: an interval, or a cron expression and its zone; None: once."""
    if not every:
        return None
    if every.startswith("ms:"):
        return dt.timedelta(milliseconds=_interval(every)[0])
    expression, _, zone = every.removeprefix("cron:").rpartition("|")
    return expression, zone


def next_due(every: str, after_ms: int) -> int:
    """Return when a timer comes next, strictly after a time.

    Args:
        every: What `every_of` returned.
        after_ms: Wall clock.

    Raises:
        ValueError: There is no such zone on this machine, or no such time in the next 50 years.
    """
    if every.startswith("ms:"):
        interval, anchor = _interval(every)
        return after_ms + interval if anchor is None else _beat(anchor, interval, after_ms)
    expression, _, zone = every.removeprefix("cron:").rpartition("|")
    return _next_cron(expression, _zone(zone), after_ms)


def next_due_after_firing(every: str, due_ms: int, now_ms: int) -> int:
    """Return when a timer comes next after a firing, which makes up for all that were missed.

    Args:
        every: What `every_of` or `anchored` returned.
        due_ms: When the firing was due. An interval goes on in this beat, unless it is anchored.
        now_ms: Wall clock. The clock may have been put back: then `due_ms` counts.

    Raises:
        ValueError: See `next_due`.
    """
    return next_due(anchored(every, due_ms), max(due_ms, now_ms))


def anchored(every: str, due_ms: int) -> str:
    """Return an `every` that remembers its beat while its timer is due at other times."""
    return f"{every}@{due_ms}" if every.startswith("ms:") and "@" not in every else every


def unanchored(every: str) -> str:
    """Return an `every` as it was before `anchored`: its timer is in its beat again."""
    return every.partition("@")[0] if every.startswith("ms:") else every


def _interval(every: str) -> tuple[int, int | None]:
    interval, _, anchor = every.removeprefix("ms:").partition("@")
    return int(interval), int(anchor) if anchor else None


def _beat(anchor: int, interval: int, after_ms: int) -> int:
    return anchor + ((after_ms - anchor) // interval + 1) * interval


def _next_cron(expression: str, zone: dt.tzinfo, after_ms: int) -> int:
    # Only programs with cron timers pay for it.
    from cronsim import CronSim, CronSimError

    fields = expression.split()
    try:
        after = (_EPOCH + after_ms * _MS).astimezone(zone)
        # What is said for fixed times is looked up in local time; a gap or a repetition is
        # dealt with here. Cronsim itself does that too, but not for six fields.
        fixed = not any(field.startswith("*") for field in fields[-5:-3])
        times = CronSim(expression, after.replace(tzinfo=None, fold=0) if fixed else after)
        for time in times:
            due = _real(time, zone) if fixed else time
            due_ms = _ms_up(due - _EPOCH)
            # Local time may be before `after` though it is later on the dial.
            if due_ms > after_ms:
                return due_ms
    except CronSimError as error:
        raise ValueError(f"{expression!r:.100} is no cron expression: {error}") from None
    except OverflowError:
        pass
    raise ValueError(f"{expression!r:.100} says no time in the next 50 years")


def _real(local: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """Return the first moment that a local time means; in a gap: the end of the gap."""
    time = local.replace(tzinfo=zone)
    while time.astimezone(dt.UTC).astimezone(zone).replace(tzinfo=None) != local:
        local = (local + dt.timedelta(minutes=1)).replace(second=0)
        time = local.replace(tzinfo=zone)
    return time


def _zone_text(tz: str | dt.tzinfo | None) -> str:
    if tz is None:
        return "UTC"
    if isinstance(tz, str):
        _zone(tz)
        return tz
    if not isinstance(tz, dt.tzinfo):
        raise TypeError(f"a time zone is a name or a tzinfo, not {_kind(tz)}")
    if isinstance(tz, dt.timezone):
        # Without the name that the program may have given to the offset.
        offset = tz.utcoffset(None)
        return temporal.zone_text(dt.timezone(offset)) if offset else "UTC"
    return temporal.zone_text(tz)[1:-1]


def _zone(text: str) -> dt.tzinfo:
    if text == "UTC":
        return dt.UTC
    if _OFFSET.fullmatch(text):
        return temporal.read_zone(text)
    zone = temporal.read_zone(f"[{text}]")
    if temporal.zone_text(zone) != f"[{text}]":
        raise ValueError(f"there is no time zone {text!r:.100} here")
    return zone


def _ms_up(duration: dt.timedelta) -> int:
    """Return milliseconds; of a fraction the next one, so that nothing is early."""
    return -(-duration // _MS)


def _kind(value: object) -> str:
    return type(value).__qualname__
