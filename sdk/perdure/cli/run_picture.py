"""`perdure runs show`: a run and its events as a picture that is understood at a glance.

Time goes down. Each item has a row: when it began, what it is, how long it took. What goes on at
the same time stands in lanes beside one another. On a wide terminal each row has a bar as well.
"""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich.console import Console
from rich.text import Text

from perdure.cli.run_timeline import Item, Timeline
from perdure.cli.run_wording import (
    Described,
    attempts_of,
    clock,
    describe,
    label_of,
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
_TIME_WIDTH: Final = 12
_TEXT_WIDTH_MIN: Final = 24
_HEAD_LINES: Final = 3
"""Lines of a value in the head, unless all of it is wanted."""


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

    @classmethod
    def of(cls, encoding: str) -> Glyphs:
        """Return those that an encoding has."""
        return _UNICODE if encoding.lower().startswith("utf") else _ASCII


_UNICODE: Final = Glyphs("●", "✗", "○", "◆", "·", "│", "⋮", "━", "┄", "→", "←")
_ASCII: Final = Glyphs("*", "x", "o", "+", ".", "|", ":", "=", "-", "->", "<-")

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
    run: Shown, zone: dt.tzinfo, console: Console, *, is_whole: bool = False
) -> Iterator[Text]:
    """Return a picture of a run, line by line.

    Args:
        run: What is known of it.
        zone: Of the times that are shown.
        console: For which it is drawn: its width and encoding count.
        is_whole: Nothing is shortened.
    """
    yield from _labelled(_head(run, zone, console.width, is_whole=is_whole), console)
    if run.timeline.items:
        yield Text()
        yield from _Drawing(run, zone, console, is_whole=is_whole).lines()
    if run.status.status == "running":
        yield Text()
        yield from _labelled(_waits(run, zone), console)


_Labelled = Iterator[tuple[str, Text]]


def _labelled(rows: _Labelled, console: Console) -> Iterator[Text]:
    """Give texts with labels before them. An empty label belongs to the one before it."""
    found = list(rows)
    indent = max(len(label) for label, _ in found) + 2
    width = max(_TEXT_WIDTH_MIN, console.width - indent)
    for label, text in found:
        before = label
        for line in text.wrap(console, width, overflow="fold"):
            line.rstrip()
            yield Text.assemble((before.ljust(indent), "dim"), line)
            before = ""


# What it is.


def _head(run: Shown, zone: dt.tzinfo, width: int, *, is_whole: bool) -> _Labelled:
    status, room = run.status, None if is_whole else max(60, _HEAD_LINES * (width - 12))
    state = state_of(status)
    lasted = took(max(0, run.ended_ms - status.started_ms))
    word = "after" if status.ended_ms else "for"
    yield "run", Text(plain(status.id), style="bold")
    yield "workflow", Text(plain(status.workflow))
    yield "state", Text.assemble((state, style_of(state)), f" {word} {lasted}")
    if status.parked is not None:
        yield "because", Text(plain(status.parked), style="red")
    started = moment(status.started_ms, zone)
    ago = took(max(0, run.now_ms - status.started_ms))
    yield "started", Text(f"{started:%Y-%m-%d %H:%M:%S} {started:%Z}, {ago} ago")
    for label, text in _facts(run):
        yield label, Text(plain(text))
    encoding, arguments = run.input
    yield "input", Text(_cut(arguments_text(arguments, encoding), room) or "none")
    if status.status == "completed":
        yield "result", Text(_cut(text_of(json_of(run.result)), room))
    elif status.status != "running":
        error = _cut(plain(error_text(run.code, run.result)), room)
        yield "error", Text(error, style=style_of(state))
    for token, payload in status.left:
        yield "not taken", Text(f"{plain(token)}: {_cut(text_of(json_of(payload)), room)}")


def _facts(run: Shown) -> Iterator[tuple[str, str]]:
    status = run.status
    if status.parent:
        yield "parent", f"run {status.parent}"
    if status.version != "1":
        yield "version", status.version
    if run.timeline.dropped:
        before = counted(run.timeline.dropped, "event")
        yield "anew", f"generation {run.timeline.generation}: {before} of earlier ones are gone"
    if run.streams:
        streams = (f"{name} ({counted(length, 'chunk')})" for name, length in run.streams.items())
        yield "streams", ", ".join(streams)


def _cut(text: str, room: int | None) -> str:
    return text if room is None else shortened(text, room)


# What has happened.


class _Row(NamedTuple):
    """One row, before it is known how wide its columns are."""

    at: str
    lanes: Text
    lanes_below: Text
    """Beside what does not fit into one line."""
    label: Text
    text: Text
    lasted: Text
    bar: Text


class _Drawing:
    """Items as lines of a table."""

    def __init__(self, run: Shown, zone: dt.tzinfo, console: Console, *, is_whole: bool) -> None:
        self._run = run
        self._zone = zone
        self._console = console
        self._glyphs = Glyphs.of(console.encoding)
        self._is_whole = is_whole
        self._lanes = min(run.timeline.lanes, _LANES_MAX)
        self._has_bars = console.width >= _WIDTH_WITH_BARS
        self._day = moment(run.status.started_ms, zone).date()
        self._room: int | None = None

    def lines(self) -> Iterator[Text]:
        """Return the table."""
        items = self._run.timeline.items
        head, skipped, tail = _split(items, len(items) if self._is_whole else ROWS)
        labels = max(len(self._end_label()), *(len(label_of(item)) for item in [*head, *tail]))
        lasted = max(3, *(self._lasted(item).cell_len for item in [*head, *tail]))
        # Between the columns is one space.
        fixed = _TIME_WIDTH + self._lanes + labels + lasted + 4
        fixed += _BAR_WIDTH + 1 if self._has_bars else 0
        text_width = max(_TEXT_WIDTH_MIN, self._console.width - fixed)
        self._room = None if self._is_whole else text_width
        rows = [row for item in head for row in self._rows(item)]
        if skipped:
            text = Text(f"... {left_out(skipped)}: --all shows them", style="yellow")
            below = Text(self._glyphs.more)
            rows.append(_Row("", below, below, Text(), text, Text(), Text()))
        rows += [row for item in tail for row in self._rows(item)]
        rows += self._end(items[-1].begun_ms)
        yield from self._laid_out(rows, text_width)

    def _laid_out(self, rows: list[_Row], text_width: int) -> Iterator[Text]:
        """Give the rows, in columns as wide as what is in them."""
        labels = max(row.label.cell_len for row in rows)
        width = min(text_width, max(row.text.cell_len for row in rows))
        lasted = max(3, *(row.lasted.cell_len for row in rows))
        head = f"{'at':<{_TIME_WIDTH}} {'':<{self._lanes}} {'what':<{labels + 1 + width}} "
        yield Text(f"{head}{'for':>{lasted}}", style="dim")
        for row in rows:
            fits = row.text.cell_len <= width  # To find out how to wrap takes longer.
            parts = [row.text] if fits else row.text.wrap(self._console, width, overflow="fold")
            for number, part in enumerate(parts):
                first = number == 0
                part.rstrip()
                line = Text.assemble(
                    (f"{row.at if first else '':<{_TIME_WIDTH}} ", "dim"),
                    _padded(row.lanes if first else row.lanes_below, self._lanes + 1),
                    _padded(row.label if first else Text(), labels + 1),
                    _padded(part, width + 1),
                )
                if first:
                    line.append(" " * (lasted - row.lasted.cell_len))
                    line.append_text(row.lasted).append(" ").append_text(row.bar)
                line.rstrip()
                yield line

    def _rows(self, item: Item) -> Iterator[_Row]:
        """Give the rows of an item: itself, and what there is to say of it."""
        yield from self._day_of(item.begun_ms)
        style, glyph = self._look(item)
        described = describe(item, self._room)
        below = self._lanes_of(item, self._glyphs.beside if item.takes_time else " ", "dim")
        yield _Row(
            clock(item.begun_ms, self._zone),
            self._lanes_of(item, glyph, style),
            below,
            Text(described.label, style="dim"),
            self._text(item, described),
            self._lasted(item),
            self._bar(item, style) if self._has_bars else Text(),
        )
        for line in attempts_of(item, self._room):
            yield _Row("", below, below, Text(), Text(line, style="dim"), Text(), Text())

    def _text(self, item: Item, described: Described) -> Text:
        if item.kind == "sleep":
            text = Text(f"until {self._due(item.due_ms or 0)} {described.text}".rstrip())
        else:
            is_aside = item.kind in ("value", "stream", "hook", "closed")
            text = Text(described.text, style="dim" if is_aside else "")
        if described.outcome:
            glyphs = self._glyphs
            sign = {"to": glyphs.to, "from": glyphs.come}.get(described.arrow, glyphs.failed)
            has_failed = described.arrow == "failed"
            text.append(f" {sign} ", "red" if has_failed else "dim")
            text.append(described.outcome, "red" if has_failed else "cyan")
        return text

    def _end(self, last_ms: int) -> Iterator[_Row]:
        """Give the row that says how the run has ended, or that it goes on."""
        run = self._run
        state = state_of(run.status)
        at_ms = max(last_ms, run.ended_ms)
        yield from self._day_of(at_ms)
        style = style_of(state) if run.status.ended_ms else "dim"
        label = Text(self._end_label(), style=style)
        at, no = clock(at_ms, self._zone), Text()
        lanes = Text.assemble(
            *(
                (self._glyphs.beside if lane in run.timeline.open_lanes else " ", "dim")
                for lane in range(self._lanes)
            )
        )
        yield _Row(at, no if run.status.ended_ms else lanes, no, label, no, no, no)

    def _end_label(self) -> str:
        return state_of(self._run.status) if self._run.status.ended_ms else "now"

    def _day_of(self, time_ms: int) -> Iterator[_Row]:
        """Give a row for a day that begins."""
        day = moment(time_ms, self._zone).date()
        if day != self._day:
            self._day = day
            no = Text()
            yield _Row(f"{day}", no, no, no, no, no, no)

    def _due(self, due_ms: int) -> str:
        due = moment(due_ms, self._zone)
        return clock(due_ms, self._zone) if due.date() == self._day else f"{due:%Y-%m-%d %H:%M:%S}"

    def _look(self, item: Item) -> tuple[str, str]:
        """Return the style and the glyph of an item."""
        if item.code:
            return "red", self._glyphs.failed
        if item.is_open:
            return ("dim" if self._run.status.ended_ms else "yellow"), self._glyphs.open
        if item.kind in ("payload", "reply"):
            return "magenta", self._glyphs.point
        return ("green", self._glyphs.done) if item.takes_time else ("dim", self._glyphs.small)

    def _lanes_of(self, item: Item, glyph: str, style: str) -> Text:
        cells = [
            (self._glyphs.beside if lane in item.beside else " ", "dim")
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
            return Text()
        end_ms = self._run.ended_ms if item.ended_ms is None else item.ended_ms
        text = took(max(0, end_ms - item.begun_ms))
        is_going_on = item.is_open and not self._run.status.ended_ms
        return Text(f"{text} ...", style="yellow") if is_going_on else Text(text)

    def _bar(self, item: Item, style: str) -> Text:
        """Draw from when to when something took its time, between the run's begin and end."""
        if not item.takes_time and item.waited_ms is None:
            return Text()
        begun_ms, end_ms = item.begun_ms - (item.waited_ms or 0), item.ended_ms
        if item.waited_ms is not None:
            end_ms = item.begun_ms
        start_ms, last_ms = self._run.status.started_ms, self._run.ended_ms
        scale = _BAR_WIDTH / max(1, last_ms - start_ms)
        end_ms = last_ms if end_ms is None else end_ms
        first = min(_BAR_WIDTH - 1, max(0, int((begun_ms - start_ms) * scale)))
        last = min(_BAR_WIDTH, max(first + 1, round((end_ms - start_ms) * scale)))
        is_waiting = item.waited_ms is not None or item.kind == "sleep"
        line = self._glyphs.wait if is_waiting else self._glyphs.work
        return Text(" " * first + line * (last - first), style=style)


def _split(items: list[Item], rows: int) -> tuple[list[Item], list[Item], list[Item]]:
    """Return the first items, those that are left out, and the last ones, which are most."""
    if len(items) <= rows:
        return items, [], []
    first = rows // 3
    last = len(items) - (rows - first)
    return items[:first], items[first:last], items[last:]


def _padded(text: Text, width: int) -> Text:
    made = text.copy()
    made.pad_right(max(0, width - made.cell_len))
    return made


# What it waits for.


def _waits(run: Shown, zone: dt.tzinfo) -> _Labelled:
    id = run.status.id
    if run.status.parked is not None:
        yield "waits for", Text("you to decide: run it again, or end it", style="yellow")
        for see in (f"calls retry {object_name('workflow', id)}", f"runs cancel {shlex.quote(id)}"):
            yield "", Text(plain(f"perdure {see}"), style="cyan")
        return
    timeline = run.timeline
    waits = waits_of(timeline.open_items, timeline.hooks.values(), run.now_ms, zone)
    if not waits:
        waits = [("nothing that is recorded: its code runs, or is about to", "")]
    label = "waits for"
    for text, see in waits:
        yield label, Text(text, style="yellow")
        if see:
            yield "", Text(plain(see), style="cyan")
        label = ""
