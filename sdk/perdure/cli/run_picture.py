"""`perdure runs show`: a run and its events as a picture that is understood at a glance.

Time goes down. Each item has one row: when it began, what it is, how long it took. What goes on
at the same time stands in lanes beside one another. On a wide terminal each row has a bar as well.
"""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perdure.cli.run_timeline import Item, Timeline
from perdure.cli.run_wording import (
    attempts_of,
    clock,
    describe,
    left_out,
    moment,
    plain,
    took,
    waits_of,
)
from perdure.cli.shown_values import arguments_text, error_text, json_of, shortened, text_of
from perdure.cli.wording import counted, object_name
from perdure.workflows.runs import RunStatus

__all__ = ["ROWS", "Glyphs", "Shown", "picture", "state_of", "style_of"]

ROWS: Final = 60
"""Items that are shown unless somebody wants all."""

_LANES_MAX: Final = 8
_BAR_WIDTH: Final = 24
_WIDTH_WITH_BARS: Final = 104
_FIXED_WIDTH: Final = 36
"""Of all columns but the text: time, lanes, label, duration."""


class Glyphs(NamedTuple):
    """The characters of a picture."""

    done: str
    failed: str
    open: str
    point: str
    small: str
    beside: str
    more: str
    work: str
    wait: str
    to: str
    come: str
    fails: str

    @classmethod
    def of(cls, encoding: str) -> Glyphs:
        """Return those that an encoding has."""
        return _UNICODE if encoding.lower().startswith("utf") else _ASCII


_UNICODE: Final = Glyphs("●", "✗", "○", "◆", "·", "│", "⋮", "━", "┄", "→", "←", "✗")
_ASCII: Final = Glyphs("*", "x", "o", "+", ".", "|", ":", "=", "-", "->", "<-", "x")

_STYLES: Final = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "parked": "bold red",
    "running": "cyan",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """All that is known of a run."""

    status: RunStatus
    timeline: Timeline
    input: tuple[int, bytes]
    """Encoding and arguments."""
    code: int
    result: bytes
    """With `code`, as an answer says it. Only of a run that has ended."""
    streams: dict[str, int]
    """And how many indexes each has."""
    now_ms: int
    """Wall clock, here."""

    @property
    def ended_ms(self) -> int:
        """When it has ended, or the time now."""
        return self.status.ended_ms or max(self.now_ms, self.status.started_ms)


def state_of(status: RunStatus) -> str:
    """Return how a run stands, in one word."""
    if status.status != "running":
        return status.status
    if status.parked is not None:
        return "parked"
    return "cancelling" if status.cancelling else "running"


def style_of(state: str) -> str:
    """Return the colour of a state."""
    return _STYLES.get(state, "")


def picture(
    run: Shown, zone: dt.tzinfo, width: int, glyphs: Glyphs, *, is_whole: bool = False
) -> RenderableType:
    """Return a picture of a run.

    Args:
        run: What is known of it.
        zone: Of the times that are shown.
        width: Of the terminal, in characters.
        glyphs: To draw it with.
        is_whole: Nothing is shortened.
    """
    parts: list[RenderableType] = [_head(run, zone, width, is_whole=is_whole)]
    if run.timeline.items:
        parts += ["", _rows(run, zone, width, glyphs, is_whole=is_whole)]
    waits = _waits(run, zone)
    if waits is not None:
        parts += ["", waits]
    return Group(*parts)


# What it is.


def _head(run: Shown, zone: dt.tzinfo, width: int, *, is_whole: bool) -> Table:
    status, room = run.status, None if is_whole else max(20, 3 * (width - 12))
    state = state_of(status)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    lasted = took(max(0, run.ended_ms - status.started_ms))
    word = {"running": "for", "parked": "for", "cancelling": "for"}.get(state, "after")
    first = Text.assemble(
        (plain(status.workflow), "bold"), "  ", (state, style_of(state)), f" {word} {lasted}"
    )
    table.add_row(Text(plain(status.id), style="bold not dim"), first)
    if status.parked is not None:
        table.add_row("because", Text(plain(status.parked), style="red"))
    started = moment(status.started_ms, zone)
    ago = took(max(0, run.now_ms - status.started_ms))
    table.add_row("started", f"{started:%Y-%m-%d %H:%M:%S} {started:%Z}, {ago} ago")
    for label, text in _facts(run):
        table.add_row(label, Text(plain(text)))
    encoding, arguments = run.input
    given = arguments_text(arguments, encoding)
    table.add_row("input", Text(_cut(given, room) or "none", style="" if given else "dim"))
    if status.status == "completed":
        table.add_row("result", Text(_cut(text_of(json_of(run.result)), room)))
    elif status.status != "running":
        error = _cut(plain(error_text(run.code, run.result)), room)
        table.add_row("error", Text(error, style=style_of(state)))
    for token, payload in status.left:
        value = _cut(text_of(json_of(payload)), room)
        table.add_row("not taken", Text(f"{plain(token)}: {value}"))
    return table


def _facts(run: Shown) -> Iterator[tuple[str, str]]:
    status = run.status
    if status.parent:
        yield "parent", f"run {status.parent}"
    if status.version != "1":
        yield "version", status.version
    if status.generation or run.timeline.dropped:
        before = counted(run.timeline.dropped, "event")
        times = counted(status.generation, "time") if status.generation else "before"
        yield "anew", f"continued as new: {times}; {before} before that are gone"
    if run.streams:
        streams = (f"{name} ({counted(length, 'chunk')})" for name, length in run.streams.items())
        yield "streams", ", ".join(streams)


def _cut(text: str, room: int | None) -> str:
    return text if room is None else shortened(text, room)


# What has happened.


def _rows(run: Shown, zone: dt.tzinfo, width: int, glyphs: Glyphs, *, is_whole: bool) -> Table:
    timeline = run.timeline
    lanes = min(timeline.lanes, _LANES_MAX)
    has_bars = width >= _WIDTH_WITH_BARS
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("at", no_wrap=True, style="dim")
    table.add_column("", no_wrap=True, width=lanes)
    table.add_column("what", no_wrap=True, style="dim")
    table.add_column("", overflow="fold")
    table.add_column("for", no_wrap=True, justify="right")
    if has_bars:
        table.add_column("", no_wrap=True, width=_BAR_WIDTH)
    taken = _FIXED_WIDTH + lanes + (_BAR_WIDTH + 1 if has_bars else 0)
    room = None if is_whole else max(24, width - taken)
    head, skipped, tail = _split(timeline.items, len(timeline.items) if is_whole else ROWS)
    writer = _Writer(table, run, zone, glyphs, lanes, room, has_bars=has_bars)
    for item in head:
        writer.add(item)
    if skipped:
        text = f"... {left_out(skipped)}: --all shows them"
        table.add_row("", Text(glyphs.more), "", Text(text, style="yellow"))
    for item in tail:
        writer.add(item)
    writer.end()
    return table


def _split(items: list[Item], rows: int) -> tuple[list[Item], list[Item], list[Item]]:
    """Return the first items, those that are left out, and the last ones, which are most."""
    if len(items) <= rows:
        return items, [], []
    first = rows // 3
    last = len(items) - (rows - first)
    return items[:first], items[first:last], items[last:]


class _Writer:
    """Writes items as rows of a table."""

    def __init__(
        self,
        table: Table,
        run: Shown,
        zone: dt.tzinfo,
        glyphs: Glyphs,
        lanes: int,
        room: int | None,
        *,
        has_bars: bool,
    ) -> None:
        self._table = table
        self._run = run
        self._zone = zone
        self._glyphs = glyphs
        self._lanes = lanes
        self._room = room
        self._has_bars = has_bars
        self._day = moment(run.status.started_ms, zone).date()

    def add(self, item: Item) -> None:
        """Write an item, and what there is to say of it."""
        self._note_day(item.begun_ms)
        style, glyph = self._look(item)
        label, text, arrow, outcome = describe(item, self._room)
        what = Text(text, style="dim" if item.kind in ("value", "note", "stream") else "")
        if outcome:
            sign = {"to": self._glyphs.to, "from": self._glyphs.come}.get(arrow, self._glyphs.fails)
            what.append(" " if text else "")
            what.append(f"{sign} ", "red" if arrow == "failed" else "dim")
            what.append(outcome, "red" if arrow == "failed" else "cyan")
        if item.kind == "sleep":
            due_ms = item.due_ms or 0
            what = Text.assemble(f"until {self._due(due_ms)}", f" {text}".rstrip())
        row: list[RenderableType] = [
            clock(item.begun_ms, self._zone),
            self._lanes_of(item, glyph, style),
            label,
            what,
            self._lasted(item),
        ]
        if self._has_bars:
            row.append(self._bar(item, style))
        self._table.add_row(*row)
        for line in attempts_of(item, self._room):
            beside = self._lanes_of(item, self._glyphs.beside if item.takes_time else " ", "dim")
            self._table.add_row("", beside, "", Text(line, style="dim"))

    def end(self) -> None:
        """Write how the run has ended, or that it goes on."""
        run = self._run
        state = state_of(run.status)
        if run.status.ended_ms:
            self._note_day(run.status.ended_ms)
            at = clock(run.status.ended_ms, self._zone)
            self._table.add_row(at, "", Text(state, style=style_of(state)))
        else:
            self._note_day(run.now_ms)
            at = clock(run.now_ms, self._zone)
            self._table.add_row(at, "", "now")

    def _note_day(self, time_ms: int) -> None:
        day = moment(time_ms, self._zone).date()
        if day != self._day:
            self._day = day
            self._table.add_row(f"{day}")

    def _due(self, due_ms: int) -> str:
        due = moment(due_ms, self._zone)
        return clock(due_ms, self._zone) if due.date() == self._day else f"{due:%Y-%m-%d %H:%M:%S}"

    def _look(self, item: Item) -> tuple[str, str]:
        """Return the style and the glyph of an item."""
        if item.code:
            return "red", self._glyphs.failed
        if item.is_open:
            ended = self._run.status.ended_ms
            return ("dim" if ended else "yellow"), self._glyphs.open
        if item.kind in ("payload", "reply"):
            return "magenta", self._glyphs.point
        return ("green", self._glyphs.done) if item.takes_time else ("dim", self._glyphs.small)

    def _lanes_of(self, item: Item, glyph: str, style: str) -> Text:
        cells = [
            (self._glyphs.beside, "dim") if lane in item.beside else (" ", "")
            for lane in range(self._lanes)
        ]
        if item.lane < self._lanes:
            cells[item.lane] = (glyph, style)
        else:
            cells[-1] = (self._glyphs.more, style)
        return Text.assemble(*cells)

    def _lasted(self, item: Item) -> Text:
        if item.waited_ms is not None:
            return Text(took(item.waited_ms), style="magenta")
        if not item.takes_time:
            return Text("")
        end_ms = self._run.ended_ms if item.ended_ms is None else item.ended_ms
        text = took(max(0, end_ms - item.begun_ms))
        return Text(f"{text} ..." if item.is_open else text, style="yellow" if item.is_open else "")

    def _bar(self, item: Item, style: str) -> Text:
        """Draw from when to when something took its time, between the run's begin and end."""
        end_ms = item.ended_ms
        if item.waited_ms is not None:
            begun_ms, end_ms = item.begun_ms - item.waited_ms, item.begun_ms
        elif item.takes_time:
            begun_ms = item.begun_ms
        else:
            return Text("")
        start_ms, last_ms = self._run.status.started_ms, self._run.ended_ms
        scale = _BAR_WIDTH / max(1, last_ms - start_ms)
        end_ms = last_ms if end_ms is None else end_ms
        first = min(_BAR_WIDTH - 1, max(0, int((begun_ms - start_ms) * scale)))
        last = min(_BAR_WIDTH, max(first + 1, round((end_ms - start_ms) * scale)))
        waits = item.waited_ms is not None or item.kind == "sleep"
        return Text(
            " " * first + (self._glyphs.wait if waits else self._glyphs.work) * (last - first),
            style=style,
        )


# What it waits for.


def _waits(run: Shown, zone: dt.tzinfo) -> Table | None:
    status, id = run.status, plain(run.status.id)
    if status.status != "running":
        return None
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    if status.parked is not None:
        table.add_row("waits for", Text("you to decide: run it again, or end it", style="yellow"))
        table.add_row("", Text(f"perdure calls retry {object_name('workflow', id)}", style="cyan"))
        table.add_row("", Text(f"perdure runs cancel {shlex.quote(id)}", style="cyan"))
        return table
    timeline = run.timeline
    waits = waits_of(timeline.open_items, timeline.hooks.values(), run.now_ms, zone)
    if not waits:
        waits = [("nothing that is recorded: its code runs, or is about to", "")]
    label = "waits for"
    for text, see in waits:
        table.add_row(label, Text(text, style="yellow"))
        if see:
            table.add_row("", Text(see, style="cyan"))
        label = ""
    return table
