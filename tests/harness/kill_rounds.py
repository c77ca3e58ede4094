"""Callers of ledgers while a part of their cluster is killed in the middle."""

from __future__ import annotations

import asyncio
import random
import signal

from harness.app import Ledger
from harness.history import Entry, History, Told
from harness.processes import READY_S, Cluster

from perdure import CallRejected, OutcomeUnknown, durable

CALLERS = 64
BURSTS = 4
BURST_CALLS = 3
"""Calls that a caller sends to one object before it awaits the first of them."""
LEDGERS = 16
IMPATIENT_EVERY = 8
IMPATIENT_TIMEOUT_S = 0.3


class Round:
    """One round: callers at work, a kill in the middle, and what they were told."""

    def __init__(self, number: int, name: str = "round") -> None:
        self.chance = random.Random(number)
        self.ids = [f"{name}-{number}-{k}" for k in range(LEDGERS)]
        self.history = History()
        self.ended_badly: list[str] = []
        self._kill_after = self.chance.randrange(CALLERS * BURSTS * BURST_CALLS * 3 // 4)
        self._done = 0
        self._reached = asyncio.Event()

    async def play(self, cluster: Cluster, victim: str) -> None:
        ledgers = [await Ledger.get_or_create(id) for id in self.ids]
        async with asyncio.TaskGroup() as group:
            for caller in range(CALLERS):
                group.create_task(self._call(caller, ledgers))
            await self._reached.wait()
            await asyncio.to_thread(kill, cluster, victim, self.chance)

    async def _call(self, caller: int, ledgers: list[Ledger]) -> None:
        patient = caller % IMPATIENT_EVERY != 0
        for burst in range(BURSTS):
            ledger = self.chance.choice(ledgers)
            timeout_s = READY_S if patient else IMPATIENT_TIMEOUT_S
            ledger = durable.options(ledger, timeout=timeout_s)
            numbers = range(burst * BURST_CALLS, (burst + 1) * BURST_CALLS)
            calls = [(number, ledger.append(caller, number)) for number in numbers]
            for number, call in calls:
                try:
                    await call
                    told = Told.DONE
                except CallRejected as error:
                    told = Told.REFUSED
                    self._complain(patient, caller, error)
                except OutcomeUnknown as error:
                    told = Told.UNKNOWN
                    self._complain(patient, caller, error)
                self.history.note(ledger.object_id, (caller, number), told)
                self._done += 1
                if self._done > self._kill_after:
                    self._reached.set()

    def _complain(self, patient: bool, caller: int, error: Exception) -> None:
        if patient:
            self.ended_badly.append(f"caller {caller}: {error!r}")

    async def problems(self) -> list[str]:
        held: dict[str, list[Entry]] = {}
        for id in self.ids:
            held[id] = await (await Ledger.get_or_create(id)).read()
        return self.history.problems(held)


def kill(cluster: Cluster, victim: str, chance: random.Random) -> None:
    """Kill a part of a cluster: what is killed starts again."""
    if victim == "everything":
        cluster.restart_after_kill()
        return
    if victim == "one node and the router":
        kill(cluster, "the router", chance)
        kill(cluster, "one node", chance)
        return
    module = "perdure_router" if victim == "the router" else "perdure_node"
    only = chance.randrange(3) if victim.startswith("one node") else None
    by = signal.SIGTERM if victim.endswith("politely") else signal.SIGKILL
    assert cluster.kill(module, only=only, by=by)
