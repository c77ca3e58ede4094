"""What the callers do, drawn from a seed: which objects, which methods, how patiently.

Pure: everything random comes from the seed. What is drawn for one caller does not depend on the
others, but for the value that a compare-and-set expects, which is one that somebody was told.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

__all__ = ["ENABLED", "KINDS", "TYPES", "Burst", "Objects", "Script", "group_of"]

KINDS: Final = ("counter", "register", "list", "keyed", "nested", "timers")
"""All there are. `nested` are calls between objects."""

ENABLED: Final = ("counter", "register", "list", "keyed", "nested", "timers")
"""What a check does."""

TYPES: Final = {
    "counter": "CheckCounter",
    "register": "CheckRegister",
    "list": "CheckList",
    "keyed": "CheckKeyed",
    "nested": "CheckAccount",
    "timers": "CheckAlarm",
}

CALLS_PER_OBJECT: Final = 200
"""After so many calls a new object takes an object's place: histories stay short enough to be
decided for certain, whatever has become of the calls in them."""

ACCOUNTS: Final = 6
"""In each group. Money goes from lower to higher ones only, so that no two wait for each other."""

_HOT: Final = 0.3
"""How often it is the first object of its kind: callers have to meet somewhere."""

_IMPATIENT: Final = 0.1
_BURST: Final = 0.3
_READ: Final = 0.25
_READS: Final = ("read", "peek", "get")
_PATIENT_S: Final = 60.0
_TIMER_MS_MAX: Final = 3_000


@dataclass(frozen=True, slots=True)
class Burst:
    """Calls to one object that are sent without waiting for each other."""

    kind: str
    slot: int
    object: str
    calls: list[tuple[str, tuple[Any, ...]]]
    """Methods and arguments."""
    timeout_s: float
    copies: int = 1
    """How many copies of each are sent at once, with one key."""
    think_s: float = 0.0
    """To wait afterwards."""


class Objects:
    """The objects of a run: of each kind a number of places, and who is in each of them now."""

    def __init__(self, run: str, kinds: tuple[str, ...], places: int) -> None:
        """Name the first objects.

        Args:
            run: Begins all names, so that no other run has the same.
            kinds: Of `KINDS`.
            places: Of each kind.
        """
        self.kinds = kinds
        self.places = places
        self._run = run
        self._used: dict[tuple[str, int], tuple[int, int]] = {}
        self._seen: dict[tuple[str, int], str] = {}
        self.names: dict[str, set[str]] = {kind: set() for kind in kinds}
        """All objects that were ever called, by kind."""

    def current(self, kind: str, slot: int) -> str:
        """Return the object, or the group of accounts, that is in a place now."""
        generation, _ = self._used.get((kind, slot), (0, 0))
        return f"{self._run}-{kind}-{slot}-{generation}"

    def use(self, kind: str, slot: int, object: str, calls: int) -> None:
        """Count calls to an object; the next caller may find another one in its place."""
        self.names[kind].add(object)
        generation, used = self._used.get((kind, slot), (0, 0))
        used += calls
        if used >= CALLS_PER_OBJECT:
            generation, used = generation + 1, 0
            self._seen.pop((kind, slot), None)
        self._used[kind, slot] = (generation, used)

    def saw(self, kind: str, slot: int, value: str) -> None:
        """Note the value that a register was seen to have."""
        self._seen[kind, slot] = value

    def seen(self, kind: str, slot: int) -> str:
        """Return the value that a register was last seen to have."""
        return self._seen.get((kind, slot), "")


class Script:
    """What one caller does."""

    def __init__(self, seed: int, caller: int, objects: Objects) -> None:
        self._chance = Random(f"{seed}/{caller}")
        self._caller = caller
        self._objects = objects
        self._number = 0

    def next(self) -> Burst:
        """Draw the next burst."""
        chance, objects = self._chance, self._objects
        kind = chance.choice(objects.kinds)
        slot = chance.randrange(objects.places)
        # Accounts wait for each other as it is.
        if kind != "nested" and chance.random() < _HOT:
            slot = 0
        object = objects.current(kind, slot)
        timeout_s = _PATIENT_S
        if chance.random() < _IMPATIENT:
            timeout_s = chance.uniform(0.05, 1.0)
        size = chance.randint(2, 6) if chance.random() < _BURST else 1
        if kind == "nested":
            object, calls = self._transfer(object)
        else:
            calls = [self._call(kind, slot) for _ in range(size)]
        copies = 2 if kind == "keyed" and chance.random() < 0.3 else 1
        think_s = chance.uniform(0.0, 0.02)
        return Burst(kind, slot, object, calls, timeout_s, copies, think_s)

    def _call(self, kind: str, slot: int) -> tuple[str, tuple[Any, ...]]:
        chance = self._chance
        match kind:
            case "keyed":
                return "apply", (self._token(),)
            case "timers":
                return "arm", (self._token(), chance.randrange(_TIMER_MS_MAX))
        if chance.random() < _READ:
            return chance.choice(_READS), ()
        match kind:
            case "counter":
                return "add", (chance.choice((1, 1, 1, 7)),)
            case "list":
                self._number += 1
                return "append", ((self._caller, self._number),)
        if chance.random() < 0.5:
            return "write", (self._token(),)
        return "cas", (self._objects.seen(kind, slot), self._token())

    def _transfer(self, group: str) -> tuple[str, list[tuple[str, tuple[Any, ...]]]]:
        payer, receiver = sorted(self._chance.sample(range(ACCOUNTS), 2))
        arguments = (f"{group}/{receiver}", self._chance.randint(1, 9), self._token())
        return f"{group}/{payer}", [("transfer", arguments)]

    def _token(self) -> str:
        self._number += 1
        return f"{self._caller}.{self._number}"


def group_of(group: str) -> list[str]:
    """Return the accounts of a group."""
    return [f"{group}/{number}" for number in range(ACCOUNTS)]
