"""Objects that the cluster tests call: one of everything, and some that misbehave."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from perdure import DurableContext, DurableObject, durable

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import bank_account  # noqa: F401
import cache  # noqa: F401
import cart  # noqa: F401
import chat_room  # noqa: F401
import counter  # noqa: F401
import flights  # noqa: F401
import game  # noqa: F401
import orders  # noqa: F401
import organisation  # noqa: F401
import reminders  # noqa: F401
import session  # noqa: F401
import stream_window  # noqa: F401


@durable.error
class OutOfStock(Exception):
    """An error that callers are meant to know."""


class NobodyKnows(Exception):
    """An error whose class no caller knows."""


@durable.object
class Ledger(DurableObject):
    """Keeps what was appended, in order."""

    def __init__(self, ledger_id: str) -> None:
        super().__init__(ledger_id)
        self.entries: list[tuple[int, int]] = []

    async def append(self, caller: int, number: int) -> int:
        self.entries.append((caller, number))
        return len(self.entries)

    async def read(self) -> list[tuple[int, int]]:
        return self.entries


@durable.object(name="TestCounter")
class TestCounter(DurableObject):
    __test__ = False  # pytest: this is no class of tests

    def __init__(self, counter_id: str) -> None:
        super().__init__(counter_id)
        self.value = 0

    async def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    async def get(self) -> int:
        return self.value

    @property
    def doubled(self) -> int:
        return 2 * self.value

    @staticmethod
    def static() -> int:
        return 1

    @classmethod
    def of_class(cls) -> int:
        return 1

    def _private(self) -> int:
        return self.value


@durable.object
class Register(DurableObject):
    def __init__(self, register_id: str) -> None:
        super().__init__(register_id)
        self.value: Any = None
        self.writes = 0

    async def set(self, value: Any) -> None:
        self.value = value
        self.writes += 1

    async def get(self) -> Any:
        return self.value

    async def compare_and_set(self, expected: Any, value: Any) -> bool:
        if self.value != expected:
            return False
        self.value = value
        self.writes += 1
        return True


@durable.object(max_state_bytes=64 * 1024)
class Sink(DurableObject):
    """Takes whatever it is given, and fails in every way there is."""

    def __init__(self, sink_id: str) -> None:
        super().__init__(sink_id)
        self.entered = 0
        self.kept = ""

    async def echo(self, value: Any) -> Any:
        self.entered += 1
        return value

    async def typed(self, number: int, text: str = "x") -> str:
        self.entered += 1
        return text * number

    async def keep(self, size: int) -> None:
        self.entered += 1
        self.kept = "x" * size

    async def big_result(self, size: int) -> bytes:
        self.entered += 1
        return bytes(size)

    async def known_error(self, item: str) -> None:
        self.entered += 1
        raise OutOfStock(item)

    async def unknown_error(self) -> None:
        self.entered += 1
        raise NobodyKnows("the password is hunter2")

    async def built_in_error(self) -> float:
        self.entered += 1
        return 1 / (self.entered - self.entered)

    async def unstorable(self) -> None:
        self.entered += 1
        self.callback = asyncio.sleep

    async def unstorable_result(self) -> Any:
        self.entered += 1
        return asyncio.sleep


@durable.object
class Gate(DurableObject):
    """Stays in a method until a file appears, or for so long; `until_entered` waits for that."""

    def __init__(self, gate_id: str) -> None:
        super().__init__(gate_id)
        self.passed = 0

    async def wait_for(self, file: str, at_most_s: float = 600.0) -> int:
        end = time.monotonic() + at_most_s
        if Path(file).parent.is_dir():  # Else nobody waits for that.
            _entered(file).touch()
        while not Path(file).exists() and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self.passed += 1
        return self.passed

    async def pass_by(self) -> int:
        self.passed += 1
        return self.passed


def until_entered(file: Path) -> None:
    """Return once somebody is in the method that waits for that file; forget it."""
    while not has_entered(file):
        time.sleep(0.01)


def has_entered(file: Path) -> bool:
    """Tell whether somebody is in the method that waits for that file; forget it."""
    entered = _entered(str(file))
    if not entered.exists():
        return False
    entered.unlink()
    return True


def _entered(file: str) -> Path:
    return Path(f"{file}.entered")


@dataclass(frozen=True)
class Point:
    x: float
    y: float


class Colour(Enum):
    RED = "red"
    BLUE = 2


@durable.object
class Box(DurableObject):
    """Keeps anything under any name, and fails when told to."""

    def __init__(self, box_id: str) -> None:
        super().__init__(box_id)
        self.made_at = datetime.now(UTC)
        self.default = "default"
        self.inner: dict[str, list[int]] = {"a": [1]}
        self._in_memory = 0

    async def put(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    async def take(self, name: str) -> Any:
        return getattr(self, name)

    async def remove(self, name: str) -> None:
        delattr(self, name)

    async def names(self) -> list[str]:
        return sorted(name for name in vars(self) if not name.startswith("_"))

    async def remember(self) -> int:
        self._in_memory += 1
        return self._in_memory

    async def change_and_fail(self) -> None:
        self.inner["a"].append(2)
        self.inner["b"] = [3]
        raise ValueError("no")

    async def save_change_and_fail(self) -> None:
        self.inner["a"].append(2)
        await self.save()
        self.inner["a"].append(3)
        raise ValueError("no")

    async def change_and_recover(self) -> None:
        self.inner["a"].append(2)
        try:
            raise ValueError("caught")
        except ValueError:
            self.inner["a"].append(3)

    async def change_what_was_given(self, items: list[int]) -> list[int]:
        items.append(4)
        return self.inner["a"]

    async def keep_a_function(self) -> None:
        self.inner["a"].append(2)
        self.items = [{"callback": print}]

    def plain(self, factor: int = 2) -> int:
        return factor * len(self.inner)

    @durable.shared
    async def look(self) -> dict[str, list[int]]:
        return self.inner

    @durable.shared
    async def look_and_touch(self) -> None:
        self.inner["touched"] = []

    async def who_calls(self, ctx: DurableContext, greeting: str) -> str:
        return f"{greeting}, {bool(ctx.call_id)}"


@durable.object(name="Tagged")
class NamedOtherwise(DurableObject):
    """Its type's name is not its class's."""

    state_version = 2

    def __init__(self, tagged_id: str) -> None:
        super().__init__(tagged_id)
        self.tags: set[str] = set()

    async def tag(self, *tags: str, **more: str) -> set[str]:
        self.tags |= {*tags, *more.values()}
        return self.tags


@durable.object(persist="on_save")
class Draft(DurableObject):
    """Is kept when it is saved, and not before."""

    max_length = 20

    def __init__(self, draft_id: str) -> None:
        super().__init__(draft_id)
        self.text = ""

    async def write(self, text: str) -> str:
        self.text += text
        return self.text

    async def write_and_save(self, text: str) -> str:
        self.text += text
        await self.save()
        return self.text

    @property
    def length(self) -> int:
        return len(self.text)


@durable.object
class Sleeper(DurableObject):
    """Changes its state whenever it comes into memory."""

    def __init__(self, sleeper_id: str) -> None:
        super().__init__(sleeper_id)
        self.woken = 0

    async def on_activate(self) -> None:
        self.woken += 1

    async def times_woken(self) -> int:
        return self.woken


@durable.object
class Caller(DurableObject):
    """Calls others, and itself."""

    def __init__(self, caller_id: str) -> None:
        super().__init__(caller_id)
        self.calls = 0

    async def call_self(self) -> int:
        self.calls += 1
        me = await Caller.get_or_create(self.object_id)
        return await me.call_self()

    async def call_and_back(self, other: str) -> int:
        self.calls += 1
        return await (await Caller.get_or_create(other)).call_back(self.object_id)

    async def call_back(self, first: str) -> int:
        self.calls += 1
        return await (await Caller.get_or_create(first)).call_and_back(self.object_id)

    async def dive(self, depth: int) -> int:
        self.calls += 1
        if depth == 0:
            return 0
        deeper = await Caller.get_or_create(f"{self.object_id}.")
        return 1 + await deeper.dive(depth - 1)

    async def who(self, ctx: DurableContext) -> str:
        return str(ctx.call_id)
