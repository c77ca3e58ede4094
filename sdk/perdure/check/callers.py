"""The callers of a check: they follow their scripts and write down what they are told.

When the load is over, they read every object once more: a cluster that has healed answers.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final

from perdure.check import effects
from perdure.check.app import OPENING_BALANCE
from perdure.check.connections import Connections, Told, send
from perdure.check.history import History, Outcome
from perdure.check.workload import Burst, Objects, Script, group_of

__all__ = ["Callers"]

_PATIENT_S: Final = 60.0
_ATTEMPTS_OF_KEYED: Final = 4
_AFTER_BAD_NEWS_S: Final = 0.2
"""Who was not answered waits before the next call: else nearly all calls of a check would be
those that nobody could answer."""

_SETTLE_S: Final = 30.0
"""How long calls between objects and timers may take to come to rest, when all is well again."""

_SETTLE_POLL_S: Final = 0.5
_READS_AT_ONCE: Final = 32

_READER: Final = -1
"""The caller of the reads at the end."""


class Callers:
    """All callers, and what they were told."""

    def __init__(
        self, connections: Connections, objects: Objects, history: History, seed: int, count: int
    ) -> None:
        """Prepare; `run` begins.

        Args:
            connections: Shared by all.
            objects: What is called.
            history: Where every operation is written down.
            seed: Of the scripts.
            count: How many callers there are.
        """
        self._connections = connections
        self._objects = objects
        self._history = history
        self._scripts = [Script(seed, caller, objects) for caller in range(count)]
        self._made: dict[str, asyncio.Task[None]] = {}
        self.answers: dict[int, list[Any]] = defaultdict(list)
        """All answers to the copies of each operation with a key, by its number."""
        self.held: dict[str, dict[str, Any]] = defaultdict(dict)
        """What objects held at the end, by kind and object."""
        self.unread: list[str] = []
        """Objects that could not be read at the end."""

    async def run(self, stop: asyncio.Event) -> None:
        """Call until `stop` is set, and every call has ended."""
        async with asyncio.TaskGroup() as group:
            for caller in range(len(self._scripts)):
                group.create_task(self._follow(caller, stop))

    async def _follow(self, caller: int, stop: asyncio.Event) -> None:
        script = self._scripts[caller]
        while not stop.is_set():
            burst = script.next()
            await self._make(burst)
            self._objects.use(burst.kind, burst.slot, burst.object, len(burst.calls))
            told = await self._send_all(caller, burst)
            is_bad = any(item.outcome is not Outcome.OK for item in told)
            await asyncio.sleep(burst.think_s + is_bad * _AFTER_BAD_NEWS_S)

    async def _make(self, burst: Burst) -> None:
        """Make the object, unless it is there; of accounts the whole group."""
        is_account = burst.kind == "nested"
        name = burst.object.rpartition("/")[0] if is_account else burst.object
        if name not in self._made:
            names = group_of(name) if is_account else [name]
            self._made[name] = asyncio.create_task(self._make_all(burst.kind, names))
        await self._made[name]

    async def _make_all(self, kind: str, names: list[str]) -> None:
        for name in names:
            client = self._connections.client(_READER, kind, name)
            # If it is not made, the calls to it say so.
            await send(client, kind, name, "create", (), _PATIENT_S)

    async def _send_all(self, caller: int, burst: Burst) -> list[Told]:
        numbers = [
            self._history.invoke(caller, burst.kind, burst.object, method, arguments)
            for method, arguments in burst.calls
        ]
        if burst.kind == "keyed":
            sent = [self._send_keyed(caller, burst, number) for number in numbers]
        else:
            sent = [self._send_one(caller, burst, number) for number in numbers]
        return await asyncio.gather(*sent)

    async def _send_one(self, caller: int, burst: Burst, number: int) -> Told:
        operation = self._history.operations[number]
        client = self._connections.client(caller, burst.kind, burst.object)
        told = await send(
            client,
            burst.kind,
            burst.object,
            operation.method,
            operation.arguments,
            burst.timeout_s,
        )
        self._note(number, told)
        if burst.kind == "register" and told.outcome is Outcome.OK:
            shown = operation.arguments[0] if operation.method == "write" else told.result
            if burst.object == self._objects.current(burst.kind, burst.slot):
                self._objects.saw(burst.kind, burst.slot, shown)
        return told

    async def _send_keyed(self, caller: int, burst: Burst, number: int) -> Told:
        """Send copies with one key, over several connections, until one is answered."""
        operation = self._history.operations[number]
        kind, object, timeout_s = burst.kind, burst.object, burst.timeout_s
        told = Told(Outcome.FAILED, None, "")
        maybe = False
        for attempt in range(_ATTEMPTS_OF_KEYED):
            copies = burst.copies if attempt == 0 else 1
            found = await asyncio.gather(
                *(
                    send(
                        self._connections.client(caller + attempt + copy, kind, object),
                        kind,
                        object,
                        operation.method,
                        operation.arguments,
                        timeout_s,
                        f"key-{operation.arguments[0]}",
                    )
                    for copy in range(copies)
                )
            )
            timeout_s = _PATIENT_S
            good = [item for item in found if item.outcome is Outcome.OK]
            self.answers[number] += [item.result for item in good]
            maybe |= any(item.outcome is Outcome.UNKNOWN for item in found)
            told = good[0] if good else found[0]
            if good:
                break
        if maybe and told.outcome is Outcome.FAILED:
            told = Told(Outcome.UNKNOWN, None, told.code)
        self._note(number, told)
        return told

    def _note(self, number: int, told: Told) -> None:
        match told.outcome:
            case Outcome.OK:
                self._history.ok(number, told.result)
            case Outcome.FAILED:
                self._history.fail(number, told.code)
            case Outcome.UNKNOWN:
                self._history.unknown(number, told.code)

    # The end.

    async def read_all(self) -> None:
        """Read every object that was called."""
        gate = asyncio.Semaphore(_READS_AT_ONCE)

        async def one(kind: str, object: str) -> None:
            async with gate:
                await self._read(kind, object)

        async with asyncio.TaskGroup() as group:
            for kind, names in self._objects.names.items():
                for object in self._all_of(kind, names):
                    group.create_task(one(kind, object))
        await self._until_settled()

    def _all_of(self, kind: str, names: set[str]) -> list[str]:
        if kind != "nested":
            return sorted(names)
        groups = {name.rpartition("/")[0] for name in names}
        return [account for group in sorted(groups) for account in group_of(group)]

    async def _read(self, kind: str, object: str) -> None:
        client = self._connections.client(_READER, kind, object)
        if kind in ("keyed", "nested", "timers"):
            told = await send(client, kind, object, "get", (), _PATIENT_S)
        else:
            number = self._history.invoke(_READER, kind, object, "read", ())
            told = await send(client, kind, object, "read", (), _PATIENT_S)
            self._note(number, told)
        if told.outcome is Outcome.OK:
            self.held[kind][object] = told.result
        else:
            self.held[kind].pop(object, None)
            self.unread.append(f"{object} ({told.code})")

    async def _until_settled(self) -> None:
        """Read accounts and alarms again while what they hold may still be on its way."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + _SETTLE_S
        while (kinds := self._unsettled()) and loop.time() < give_up_s and not self.unread:
            await asyncio.sleep(_SETTLE_POLL_S)
            for kind in kinds:
                for object in self._all_of(kind, self._objects.names[kind]):
                    await self._read(kind, object)

    def _unsettled(self) -> list[str]:
        problems = self.problems()
        return [kind for kind in ("nested", "timers") if problems.get(kind)]

    def problems(self) -> dict[str, list[str]]:
        """Return what is wrong with effects, by kind: see `effects`."""
        operations = defaultdict(list)
        for item in self._history.operations:
            operations[item.kind].append(item)
        found: dict[str, list[str]] = {}
        for kind, held in self.held.items():
            match kind:
                case "list":
                    found[kind] = effects.appends(operations[kind], held)
                case "keyed":
                    found[kind] = effects.keyed(operations[kind], self.answers, held)
                case "timers":
                    found[kind] = effects.timers(operations[kind], held)
                case "nested":
                    accounts = {name: effects.Account(**state) for name, state in held.items()}
                    found[kind] = effects.transfers(operations[kind], accounts, OPENING_BALANCE)
        return found
