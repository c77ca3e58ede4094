"""Items of runs, times and durations as people read them."""

from __future__ import annotations

import datetime as dt
import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from perdure.cli.run_timeline import Item, OpenHook, Packed
from perdure.cli.shown_values import arguments_text, error_text, json_of, shortened, text_of
from perdure.cli.wording import counted, duration
from perdure.errors import Code

__all__ = [
    "Described",
    "attempts_of",
    "clock",
    "describe",
    "label_of",
    "left_out",
    "moment",
    "plain",
    "took",
    "waits_of",
]

_ATTEMPTS_SHOWN: Final = 4


def took(milliseconds: int) -> str:
    """Return how long something took: `35 ms`, `1.2 s`, `4.2 min` ..."""
    return f"{milliseconds} ms" if milliseconds < 1_000 else duration(milliseconds)


def moment(time_ms: int, zone: dt.tzinfo) -> dt.datetime:
    """Return a time of the wall clock in a time zone."""
    return dt.datetime.fromtimestamp(0, zone) + dt.timedelta(milliseconds=time_ms)


def clock(time_ms: int, zone: dt.tzinfo) -> str:
    """Return the time of day: `09:30:12.345`."""
    return moment(time_ms, zone).strftime("%H:%M:%S.%f")[:-3]


def plain(text: str) -> str:
    """Return text without anything that a terminal would obey, in one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Described(NamedTuple):
    """An item in words."""

    label: str
    """What kind of thing it is: `step 3`, `hook`."""
    text: str
    """What is done, with what."""
    arrow: str
    """Before `outcome`: `to` (a result), `from` (what has come), `failed`; empty: no outcome."""
    outcome: str


def label_of(item: Item) -> str:
    """Return what kind of thing an item is: `step 3`, `hook`."""
    label = _LABELS.get(item.kind, item.kind)
    return f"{label} {item.step}" if item.takes_time else label


def describe(item: Item, room: int | None) -> Described:
    """Say what an item is.

    Args:
        item: The item.
        room: Characters for its arguments, and for its outcome; None: as many as there are.
    """
    label = label_of(item)
    name = plain(item.name)
    given = _cut(_given(item), room)
    if item.kind == "payload":
        return Described(label, name, "from", _value(item.given, room))
    if item.kind == "reply":
        return Described(label, name, "to", _value(item.got, room) if item.got else "")
    if item.kind == "value":
        times = f" ({counted(item.count, 'time')})" if item.count > 1 else ""
        return Described(label, f"{name}{times}", "to", _value(item.given, room))
    arrow, outcome = _outcome(item, room)
    text = _WHAT.get(item.kind, "{name}({given})").format(
        name=name, given=given, target=plain(item.target), chunks=counted(item.count, "chunk")
    )
    if item.was_woken:
        text = "ended early"
    return Described(label, text, arrow, outcome)


_LABELS: Final = {"result": "await", "payload": "hook", "closed": "hook", "note": ""}

_WHAT: Final = {
    "run": "{name}",
    "read": "{name}",
    "start": "{name}({given}) as run {target}",
    "result": "the end of run {target}",
    "sleep": "",
    "hook": "{name} opened",
    "closed": "{name} closed",
    "stream": "{name}: {chunks} written",
    "note": "{name}",
    "send": "{name}",
}


def _given(item: Item) -> str:
    if item.given is None:
        return ""
    if item.kind == "service":  # It has one payload, which may look like arguments.
        return text_of(json_of(item.given.data, item.given.encoding))
    return arguments_text(item.given.data, item.given.encoding)


def _outcome(item: Item, room: int | None) -> tuple[str, str]:
    if not item.takes_time or item.is_open or item.got is None:
        return "", ""
    if item.code:
        return "failed", _cut(plain(error_text(item.code, item.got.data)), room)
    value = json_of(item.got.data, item.got.encoding)
    # What returns nothing needs no words, nor does that a run was begun.
    if value is None or item.kind in ("sleep", "start"):
        return "", ""
    return "to", _cut(text_of(value), room)


def _value(packed: Packed | None, room: int | None) -> str:
    return "" if packed is None else _cut(text_of(json_of(packed.data, packed.encoding)), room)


def _cut(text: str, room: int | None) -> str:
    return text if room is None else shortened(text, room)


def attempts_of(item: Item, room: int | None) -> list[str]:
    """Return a line for each failed attempt of a step, and for what else there is to say of it.

    Args:
        item: The item.
        room: Characters for an error; None: as many as there are, and all attempts.
    """
    lines = []
    for attempt in item.attempts:
        pause = took(max(0, attempt.next_ms - attempt.failed_ms))
        lasted = took(max(0, attempt.failed_ms - attempt.begun_ms))
        before = f"attempt {attempt.number} failed after {lasted}: "
        behind = f"; the next one {pause} later"
        error = plain(error_text(Code.RAISED, attempt.error))
        if room is not None:
            error = shortened(error, max(room // 2, 3 * room - len(before) - len(behind)))
        lines.append(before + error + behind)
    left = len(lines) - _ATTEMPTS_SHOWN
    if room is not None and left > 0:
        lines[2:-2] = [f"... {counted(left, 'attempt')} more"]
    if item.kind == "payload" and item.answer == "none":
        lines.append("got no reply")
    return [*lines, *map(plain, item.remarks)]


def left_out(items: Iterable[Item]) -> str:
    """Say what is not shown: `1,234 more (600 payloads, 634 steps; 3 failed)`."""
    skipped = list(items)
    kinds = Counter(_KINDS.get(item.kind, item.kind) for item in skipped)
    counts = [counted(count, kind) for kind, count in kinds.most_common()]
    text = ", ".join(counts).replace("replys", "replies")
    failed = sum(item.code != 0 for item in skipped)
    if failed:
        text += f"; {failed:,} failed"
    return f"{len(skipped):,} more ({text})"


_KINDS: Final = {
    "result": "awaited run",
    "start": "started run",
    "stream": "write",
    "hook": "opened hook",
    "closed": "closed hook",
    "run": "function",
}


def waits_of(
    items: Iterable[Item], hooks: Iterable[OpenHook], now_ms: int, zone: dt.tzinfo
) -> list[tuple[str, str]]:
    """Say what a run waits for, each with a command that tells or does more; empty: none."""
    return [
        *(_wait(item, now_ms, zone) for item in items),
        *(_wait_of_hook(hook, now_ms) for hook in hooks if hook.is_claimed),
        *(
            (f"the token {plain(hook.token)}, to be its own", "")
            for hook in hooks
            if not hook.is_claimed
        ),
    ]


def _wait(item: Item, now_ms: int, zone: dt.tzinfo) -> tuple[str, str]:
    since = f"for {took(max(0, now_ms - item.begun_ms))}"
    if item.kind == "sleep":
        due_ms = item.due_ms or 0
        until = moment(due_ms, zone).strftime("%Y-%m-%d %H:%M:%S")
        left = f"in {took(due_ms - now_ms)}" if due_ms > now_ms else "now"
        return f"sleep {item.step}, which ends {left} ({until}), {since}", ""
    what = f"{describe(item, 0).label} ({plain(item.name)})"
    if item.kind == "result":
        what = f"the end of the run {plain(item.target)}"
        return f"{what}, {since}", f"perdure runs show {shlex.quote(item.target)}"
    last = item.attempts[-1] if item.attempts else None
    if last is not None:
        since += f", attempt {item.attempt}"
        if last.next_ms > now_ms:
            since += f" begins in {took(last.next_ms - now_ms)}"
    see = ""
    if item.kind == "call" and "[" in item.name:
        type, _, rest = item.name.partition("[")
        id = rest.rpartition("].")[0]
        see = f"perdure why {shlex.quote(f'{type}/{id}')}"
    return f"{what}, {since}", see


def _wait_of_hook(hook: OpenHook, now_ms: int) -> tuple[str, str]:
    since = took(max(0, now_ms - hook.since_ms))
    so_far = f"{counted(hook.payloads, 'payload')} so far"
    text = f"a payload for the hook {plain(hook.token)}, for {since} ({so_far})"
    return text, f"perdure runs resume {shlex.quote(hook.token)} JSON"
