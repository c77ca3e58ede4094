"""What is called: the scenarios that are built in."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, Final

from perdure.codec import encode
from perdure.frames import Kind
from perdure.ids import ObjectKey

__all__ = ["CACHE_SHARE", "SCENARIOS", "Draw", "Scenario", "Shot", "name_of"]

CACHE_SHARE: Final = 10
"""How many times larger the working set of `cold` is than what a node keeps in memory."""

NOTHING: Final[tuple[int, int]] = (0, 0)
"""The version that a caller has who has seen no state yet."""


class Shot:
    """A call that is made again and again, ready to be sent.

    It asks for what the call of a handle asks for: the changes of the object's state since the
    last answer.
    """

    __slots__ = ("arguments", "have", "kind", "method", "target")

    def __init__(self, target: ObjectKey, method: str, *args: Any, kind: Kind = Kind.CALL) -> None:
        self.target = target
        self.method = method
        self.kind = kind
        self.arguments = encode([list(args), {}]) if kind == Kind.CALL else b""
        self.have: tuple[int, int] = NOTHING


Draw = Callable[[], Shot]
"""Returns what is to be called next."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to call."""

    name: str
    what: str
    """In a few words."""
    explained: str
    """In a sentence or two, for somebody who has never seen it."""
    type: str
    """Of the objects."""
    shots: Callable[[str, int, Random], Iterator[Shot]]
    """Makes the endless calls of one process, of the type, the number of objects and a source of
    chance."""
    objects: int = 1_000
    """How many there are unless somebody says otherwise."""
    is_fixed: bool = False
    """Nobody can say otherwise."""
    prepare: str = ""
    """A method that is called once on each object, before the load."""
    left: str = ""
    """A method that says how much each object has still to do, after the load."""


def _uniform(make: Callable[[ObjectKey], Shot]) -> Callable[[str, int, Random], Iterator[Shot]]:
    """Call objects by chance, all equally often."""

    def shots(type: str, objects: int, chance: Random) -> Iterator[Shot]:
        made: list[Shot | None] = [None] * objects
        random = chance.random
        while True:
            number = int(random() * objects)
            shot = made[number]
            if shot is None:
                shot = made[number] = make(ObjectKey(type, name_of(number)))
            yield shot

    return shots


def name_of(number: int) -> str:
    """Return the id of an object."""
    return f"bench-{number}"


def _reads(type: str, objects: int, chance: Random) -> Iterator[Shot]:
    reads = _uniform(lambda key: Shot(key, "peek"))(type, objects, chance)
    writes = _uniform(lambda key: Shot(key, "add", 1))(type, objects, chance)
    random = chance.random
    while True:
        yield next(reads if random() < 0.9 else writes)


def _new(type: str, _objects: int, _chance: Random) -> Iterator[Shot]:
    # Not from the seed: the same command over the same data would find them all.
    name = f"new-{uuid.uuid4().hex}"
    for number in count():
        yield Shot(ObjectKey(type, f"{name}-{number}"), "", kind=Kind.GET_OR_CREATE)


_ADD: Final = _uniform(lambda key: Shot(key, "add", 1))

_ALL: Final = (
    Scenario(
        "counter",
        "add to one of many counters",
        "Each call adds 1 to a counter, chosen by chance. The new value is on disk before the "
        "answer. Calls to one object run one after the other, and there are enough objects for "
        "that to matter little.",
        "BenchCounter",
        _ADD,
    ),
    Scenario(
        "hot",
        "add to one counter",
        "Every call adds 1 to the same counter: how fast one object is, whose calls run one after "
        "the other.",
        "BenchCounter",
        _ADD,
        objects=1,
        is_fixed=True,
    ),
    Scenario(
        "read",
        "9 of 10 calls read",
        "Nine of ten calls are of a @durable.shared method that returns a counter's value, one "
        "adds 1.",
        "BenchCounter",
        _reads,
    ),
    Scenario(
        "session",
        "replace an entry in 1 KB",
        "Each call replaces one entry of a dict of 1 KB. The dict is one attribute, which is "
        "written as a whole.",
        "BenchSession",
        _uniform(lambda key: Shot(key, "visit", "entry7")),
    ),
    Scenario(
        "large",
        "change little in 100 kB",
        "Each object holds a text of 100 kB and a number, and each call changes the number. Only "
        "attributes that have changed are written.",
        "BenchDocument",
        _uniform(lambda key: Shot(key, "open")),
        objects=100,
    ),
    Scenario(
        "create",
        "make new objects",
        "Each call is get_or_create of an object that was not there.",
        "BenchCounter",
        _new,
        objects=0,
        is_fixed=True,
    ),
    Scenario(
        "cold",
        "add to counters that are not in memory",
        f"As counter, but there are {CACHE_SHARE} times as many objects as the nodes keep in "
        f"memory: nine of ten calls bring theirs in from the disk, and another one goes.",
        "BenchCounter",
        _ADD,
        objects=10_000,
    ),
    Scenario(
        "nested",
        "an object calls another one",
        "Each call is of an object that calls a counter and waits for it: two objects change, and "
        "each is on disk before the answer.",
        "BenchPair",
        _uniform(lambda key: Shot(key, "add", 1)),
        prepare="prepare",
    ),
    Scenario(
        "service",
        "a method with two steps",
        "Each call is of a method that calls a service in the node, saves, and calls it again. "
        "Steps, their results and the save are on disk before what comes after them.",
        "BenchOrder",
        _uniform(lambda key: Shot(key, "work", 1)),
    ),
    Scenario(
        "timers",
        "set a timer that fires",
        "Each call sets a timer that fires a tenth of a second later and changes the object. What "
        "the timers cost is in the CPU time of each call.",
        "BenchAlarm",
        _uniform(lambda key: Shot(key, "arm")),
        left="waiting",
    ),
)

SCENARIOS: Final = {scenario.name: scenario for scenario in _ALL}
"""All, by name."""
