"""Dates, times, time zones and durations as text, exactly.

The text is ISO 8601 as Python writes it, with what ISO 8601 cannot say in brackets behind it:

    2026-03-01T09:30:00                         naive
    2026-03-01T09:30:00+01:00                   with an offset
    2026-03-01T09:30:00[Europe/Berlin]          in a zone: local time, the zone says the offset
    2026-10-25T02:30:00[Europe/Berlin][fold=1]  the second of two equal local times
    2026-03-01T09:30:00+01:00[name=CET]         an offset that was given a name
    P1DT3600.5S, -PT0.000001S                   durations

Every reader raises ValueError for text that says nothing.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import sys
import zoneinfo
from typing import Final, TypeVar

__all__ = [
    "duration_text",
    "is_zone_file",
    "read_date",
    "read_datetime",
    "read_duration",
    "read_time",
    "read_zone",
    "text_of",
    "zone_text",
]

_T = TypeVar("_T", dt.datetime, dt.time)

_FOLD: Final = "[fold=1]"
_NAME: Final = "[name="
_TINY_OFFSET: Final = re.compile(r"([+-])00:?00:?00[.,]([0-9]+)")
_ZONE_KEY_MAX: Final = 255
_ZONE_KEY: Final = re.compile(r"[A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+)*")
_DURATION: Final = re.compile(
    r"([+-])?P(?=.)(?:(\d{1,9})W)?(?:(\d{1,10})D)?"
    r"(?:T(?=.)(?:(\d{1,12})H)?(?:(\d{1,14})M)?(?:(\d{1,16})(?:[.,](\d{1,6}))?S)?)?",
    re.ASCII,
)


def text_of(value: dt.datetime | dt.time) -> str:
    """Return the text of a datetime or time.

    Raises:
        ValueError: Its zone is neither a `datetime.timezone` nor a `ZoneInfo` with a key.
    """
    zone = value.tzinfo
    fold = _FOLD if value.fold else ""
    if zone is None:
        return value.isoformat() + fold
    if type(zone) is dt.timezone:
        _, *name = _timezone_arguments(zone)
        return value.isoformat() + fold + (f"{_NAME}{name[0]}]" if name else "")
    return f"{value.replace(tzinfo=None).isoformat()}[{_zone_key(zone)}]{fold}"


def read_datetime(text: str) -> dt.datetime:
    """Return the datetime of a text."""
    if not text.endswith("]"):
        return _exactly(dt.datetime.fromisoformat(text), text)
    local, zone, fold = _split(text)
    value = _exactly(dt.datetime.fromisoformat(local), local)
    return value.replace(tzinfo=_zone(zone, value.tzinfo), fold=fold)


def read_time(text: str) -> dt.time:
    """Return the time of a text."""
    if not text.endswith("]"):
        return _exactly(dt.time.fromisoformat(text), text)
    local, zone, fold = _split(text)
    value = _exactly(dt.time.fromisoformat(local), local)
    return value.replace(tzinfo=_zone(zone, value.tzinfo), fold=fold)


def read_date(text: str) -> dt.date:
    """Return the date of a text."""
    return dt.date.fromisoformat(text)


def zone_text(zone: dt.tzinfo) -> str:
    """Return the text of a zone: an offset, with its name if it has one, or a key.

    Raises:
        ValueError: It is neither a `datetime.timezone` nor a `ZoneInfo` with a key.
    """
    if type(zone) is not dt.timezone:
        return f"[{_zone_key(zone)}]"
    return text_of(dt.time(tzinfo=zone))[len("00:00:00") :]


def read_zone(text: str) -> dt.tzinfo:
    """Return the zone of a text."""
    zone = read_time("00:00:00" + text).tzinfo
    if zone is None:
        raise ValueError(f"{text!r} is no time zone")
    return zone


def duration_text(value: dt.timedelta) -> str:
    """Return the text of a duration."""
    sign, value = ("-", -value) if value.days < 0 else ("", value)
    days = f"{value.days}D" if value.days else ""
    if not value.seconds and not value.microseconds:
        return f"{sign}P{days or 'T0S'}"
    fraction = f".{value.microseconds:06}" if value.microseconds else ""
    return f"{sign}P{days}T{value.seconds}{fraction}S"


def read_duration(text: str) -> dt.timedelta:
    """Return the duration of a text: weeks, days, hours, minutes and seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r:.100} is no ISO 8601 duration")
    sign, *numbers, fraction = match.groups()
    weeks, days, hours, minutes, seconds = (int(n or 0) for n in numbers)
    if sign == "-":
        weeks, days, hours, minutes, seconds = -weeks, -days, -hours, -minutes, -seconds
    microseconds = int((fraction or "").ljust(6, "0")) * (-1 if sign == "-" else 1)
    try:
        return dt.timedelta(
            weeks=weeks,
            days=days,
            hours=hours,
            minutes=minutes,
            seconds=seconds,
            microseconds=microseconds,
        )
    except OverflowError:
        raise ValueError(f"{text!r:.100} is longer than a timedelta can be") from None


def _exactly(value: _T, text: str) -> _T:
    """Return what was read from a text, with its offset as it is there.

    Python 3.11 takes an offset of less than a second for none.
    """
    if value.tzinfo is not dt.UTC or text.endswith(("Z", "+00:00")):
        return value
    tiny = _TINY_OFFSET.search(text)
    if tiny is None:
        return value
    microseconds = int(tiny[1] + tiny[2][:6].ljust(6, "0"))
    return value.replace(tzinfo=dt.timezone(dt.timedelta(microseconds=microseconds)))


def _split(text: str) -> tuple[str, str, int]:
    """Return the part before the brackets, what is in them besides the fold, and the fold."""
    local, _, brackets = text.partition("[")
    fold = brackets.startswith(_FOLD[1:])
    zone = brackets.removeprefix(_FOLD[1:])[:-1].removeprefix("[") if fold else brackets[:-1]
    if zone.endswith(_FOLD[:-1]) and not zone.startswith(_NAME[1:]):
        zone, fold = zone.removesuffix(_FOLD[:-1]).removesuffix("]"), True
    return local, zone, int(fold)


def _zone(zone: str, offset: dt.tzinfo | None) -> dt.tzinfo | None:
    if not zone:
        return offset
    if zone.startswith(_NAME[1:]):
        if not isinstance(offset, dt.timezone):
            raise ValueError("only an offset has a name")
        return dt.timezone(_timezone_arguments(offset)[0], zone.removeprefix(_NAME[1:]))
    if offset is not None:
        raise ValueError("a time has either an offset or a zone")
    return _zone_of_key(zone)


def _timezone_arguments(zone: dt.timezone) -> tuple[dt.timedelta] | tuple[dt.timedelta, str]:
    # The only way to tell a name that was given from one that was derived.
    return zone.__getinitargs__()  # type: ignore[attr-defined, no-any-return]


def _zone_key(zone: dt.tzinfo) -> str:
    key = zone.key if type(zone) is zoneinfo.ZoneInfo else None
    if key is None:
        raise ValueError(
            f"{type(zone).__qualname__}, a time zone that is neither a datetime.timezone nor a "
            f"ZoneInfo with a key"
        )
    if not _is_zone_key(key):
        raise ValueError(f"a ZoneInfo with the key {key!r}, which other processes need not know")
    return key


def _zone_of_key(key: str) -> zoneinfo.ZoneInfo:
    if not _is_zone_key(key):
        raise ValueError(f"there is no time zone {key!r:.100} here")
    return zoneinfo.ZoneInfo(key)


def _is_zone_key(key: str) -> bool:
    """Tell whether a key names a file of the time zone database.

    Asked before `ZoneInfo` is: that would try to import a module named after an unknown key.
    """
    # Nothing that is longer is remembered: values come from anybody.
    return len(key) <= _ZONE_KEY_MAX and is_zone_file(key)


@functools.lru_cache(maxsize=2000)
def is_zone_file(key: str) -> bool:
    """Tell the same of a key that is short enough for a file's name, and remember it."""
    if not _ZONE_KEY.fullmatch(key):
        return False
    folders = [*zoneinfo.TZPATH, *_packaged_zones()]
    return any(os.path.isfile(os.path.join(folder, key)) for folder in folders)


@functools.cache
def _packaged_zones() -> list[str]:
    """Return where the `tzdata` package has its zones, if it is installed."""
    return [
        os.path.join(folder, "tzdata", "zoneinfo")
        for folder in sys.path
        if os.path.isfile(os.path.join(folder, "tzdata", "zoneinfo", "UTC"))
    ]
