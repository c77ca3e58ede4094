"""What the commands about one run print: its picture, its events, its streams."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Iterable
from typing import Final

from rich.console import Console

from perdure.cli.failure import CommandFailed
from perdure.cli.run_client import RunClient
from perdure.cli.run_json import event_as_json, run_as_json
from perdure.cli.run_picture import Shown, picture
from perdure.cli.run_timeline import timeline_of
from perdure.cli.run_wording import clock, moment, plain
from perdure.cli.shown_values import json_of, text_of
from perdure.hints import did_you_mean
from perdure.workflows.events import RunEvent
from perdure.workflows.streams import DEFAULT

__all__ = ["print_events", "print_run", "read_run", "tail_stream"]

_WIDTH_OF_A_FILE: Final = 160

_TRIES: Final = 5
"""A run that is continued as new all the time is shown as it was told of last."""


async def read_run(client: RunClient, id: str) -> Shown:
    """Ask for all that is known of a run.

    Raises:
        RunNotFound: There is no such run.
    """
    for tries_left in reversed(range(_TRIES)):
        before = await client.status(id)
        events = await client.events(id)
        details = await client.details(id)
        streams = await client.streams(id)
        status = await client.status(id)
        # Else it has ended meanwhile, or was continued as new: what was told may not fit together.
        if not tries_left or (before.status, before.generation) == (
            status.status,
            status.generation,
        ):
            return Shown(
                status=status,
                timeline=timeline_of(events, status.started_ms),
                input=(details.encoding, details.arguments),
                code=details.code,
                result=details.result,
                streams=streams,
                now_ms=time.time_ns() // 1_000_000,
            )
    raise AssertionError("the last try shows what it has been told")


def print_run(run: Shown, *, as_json: bool, is_whole: bool) -> None:
    """Print what has happened in a run, and what it waits for."""
    if as_json:
        sys.stdout.write(json.dumps(run_as_json(run)) + "\n")
        return
    console = Console(
        width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, highlight=False, markup=False
    )
    for line in picture(run, _local_zone(), console, is_whole=is_whole):
        console.print(line, soft_wrap=True)


def _local_zone() -> dt.tzinfo:
    zone = dt.datetime.now().astimezone().tzinfo
    assert zone is not None
    return zone


def print_events(events: Iterable[RunEvent], *, as_json: bool) -> None:
    """Print events as they are recorded, one a line."""
    zone = _local_zone()
    for event in events:
        content = event_as_json(event)
        if as_json:
            sys.stdout.write(json.dumps(content) + "\n")
            continue
        day = moment(event.time_ms, zone).date()
        words = [f"{event.place:>6}", f"{day}", clock(event.time_ms, zone), event.kind]
        words += [f"step {event.step}"] if event.step else []
        words += [plain(event.name)] if event.name else []
        words += [text_of(json.loads(json.dumps(event.detail)))] if event.detail else []
        words += [text_of(content["value"])] if event.packed else []
        sys.stdout.write("  ".join(words) + "\n")


async def tail_stream(
    client: RunClient,
    id: str,
    stream: str | None,
    start: int,
    *,
    follow: bool,
    as_json: bool,
    is_joined: bool,
) -> None:
    """Print the chunks of a stream, as they are written.

    Args:
        client: Asks.
        id: Of the run.
        stream: Its name; None: the one without.
        start: The first chunk; a negative one counts from the last.
        follow: Wait for what is not written yet, until the run ends.
        as_json: Print each chunk with its index.
        is_joined: Print text with nothing in between.

    Raises:
        CommandFailed: The run has ended, and never had such a stream.
        RunNotFound: There is no such run.
    """
    name = DEFAULT if stream is None else stream
    await _check_stream(client, id, stream, name)
    end = "" if is_joined else "\n"
    async for chunk in client.chunks(id, name, start, follow=follow):
        if chunk.data is None:
            _say_void(chunk.at, chunk.void_from, as_json=as_json)
            continue
        value = json_of(chunk.data)
        if as_json:
            text = json.dumps({"index": chunk.at, "chunk": value}) + "\n"
        elif type(value) is str:
            text = _for_terminal(value) + end
        else:
            text = text_of(value) + end
        sys.stdout.write(text)
        sys.stdout.flush()
    if is_joined and not as_json:
        sys.stdout.write("\n")


async def _check_stream(client: RunClient, id: str, stream: str | None, name: str) -> None:
    status = await client.status(id)
    streams = await client.streams(id)
    if status.status == "running" or name in streams:
        return
    if not streams:
        raise CommandFailed(f"the run {id} has ended, and has no streams")
    if stream is None:
        raise CommandFailed(
            f"the run {id} has no stream without a name: --stream takes {', '.join(streams)}"
        )
    raise CommandFailed(f"the run {id} has no stream {name!r}{did_you_mean(name, list(streams))}")


def _say_void(index: int, first: int, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"index": index, "void_from": first}) + "\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(
            f"perdure: forget the chunks from {first} on: the attempt that wrote them has failed\n"
        )


def _for_terminal(text: str) -> str:
    """Return text as it is; for a terminal without what that would obey."""
    if not sys.stdout.isatty():
        return text
    return "\n".join(plain(line) for line in text.split("\n"))
