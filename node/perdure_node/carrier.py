"""Carries steps out of the process: calls of a partition's session, services, sleeping."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from perdure import codec
from perdure.bodies import pack_reply
from perdure.context import StepResult
from perdure.frames import Encoding, Kind
from perdure.ids import CallId, ObjectKey, partition_session_id
from perdure_node.clock import Clock
from perdure_node.core.events import OutboxEntry
from perdure_node.core.partition import Partition
from perdure_node.core.probing import Probe
from perdure_node.delivery import deliver
from perdure_node.services import Services

if TYPE_CHECKING:
    from perdure.client import Answer, Client

__all__ = ["Carrier"]

_PROBE_S: Final = 1.0
"""How long the answer to a probe is waited for: by then the next one asks."""


class Carrier:
    """A `performer.Performer` over the node's client and its services."""

    def __init__(
        self,
        client: Client,
        services: Services,
        clock: Clock,
        cluster_id: str,
        flush: Callable[[Partition], None],
    ) -> None:
        self._client = client
        self._services = services
        self._clock = clock
        self._cluster_id = cluster_id
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[StepResult]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._closing = False

    def open(self, partition: Partition) -> None:
        """Go on with the calls that leave a partition, which has just been opened."""
        underway = partition.memory.underway
        session = partition_session_id(self._cluster_id, partition.number)
        found = underway.open_sequences()
        for target, sequence in underway.sequences.items():
            self._client.resume_origin(session, target, sequence + 1, found.get(target, set()))
        for entry in sorted(underway.outbox.values(), key=lambda e: (e.partition, e.sequence)):
            deliver(self, partition, entry, self._flush)

    def depart(self, partition: Partition, entries: Iterable[OutboxEntry]) -> None:
        """Let calls of a partition's outbox leave, once they are durable."""
        for entry in entries:
            partition.hold_all(functools.partial(deliver, self, partition, entry, self._flush))

    def send(self, session: int, entry: OutboxEntry) -> asyncio.Future[StepResult]:
        """Send a call of a partition's session until it is answered; or have it killed."""
        ended: asyncio.Future[StepResult] = self._loop.create_future()
        if self._client.closed:
            ended.cancel()
            return ended
        if entry.kind == Kind.CANCEL:
            id = codec.encode(str(self._origin(session, entry)))
            killed = self._client.call(
                entry.target, Kind.CANCEL, "kill", arguments=id, timeout_s=None
            )
            killed.add_done_callback(functools.partial(_pass_on, ended))
            return ended
        answer = self._client.call(
            entry.target,
            Kind(entry.kind),
            entry.method,
            arguments=entry.arguments,
            encoding=Encoding(entry.encoding),
            key=entry.key,
            timeout_s=self._left_s(entry),
            have=None if entry.have is None else (entry.have[0], entry.have[1]),
            chain=entry.chain,
            due_ms=entry.due_ms or entry.start_by_ms,
            origin=self._origin(session, entry),
        )
        answer.add_done_callback(functools.partial(_pass_on, ended))
        return ended

    def read(
        self,
        target: ObjectKey,
        kind: Kind,
        method: str,
        have: list[int] | None,
        arguments: bytes,
    ) -> asyncio.Future[StepResult]:
        """Ask for something of which copies do no harm."""
        ended: asyncio.Future[StepResult] = self._loop.create_future()
        if self._client.closed:
            ended.cancel()
            return ended
        version = None if have is None else (have[0], have[1])
        # How a run ends may be asked years before it does.
        timeout_s = None if kind == Kind.ASK else 30.0
        answer = self._client.call(
            target, kind, method, arguments=arguments, have=version, timeout_s=timeout_s
        )
        answer.add_done_callback(functools.partial(_pass_on, ended))
        return ended

    def probe(self, partition: Partition, probe: Probe) -> None:
        """Ask another partition what a call waits for."""
        if self._client.closed:
            return
        answer = self._client.call(
            probe.target, Kind.PROBE, arguments=codec.encode(str(probe.id)), timeout_s=_PROBE_S
        )

        def answered(answer: asyncio.Future[Answer]) -> None:
            if answer.cancelled() or answer.exception() is not None:
                return  # The client was closed.
            code, reply = answer.result().code, answer.result().reply
            probe.told(reply.payload if code == 0 else None)
            self._flush(partition)

        answer.add_done_callback(answered)

    def confirm(self, entry: OutboxEntry, session: int) -> None:
        """Tell the target that its answer is durable here."""
        if not self._client.closed:
            self._client.confirm(self._origin(session, entry))

    def service(
        self,
        service: str,
        method: str,
        payload: bytes | None,
        key: str,
        chain: list[list[str]],
        *,
        at_once: bool,
    ) -> StepResult | Coroutine[Any, Any, StepResult]:
        """Call a service: now, if it never waits and may run `at_once`."""
        if at_once and not self._closing:
            return self._services.begin(service, method, payload, key, chain, self._loop)
        return self._services.call(service, method, payload, key, 1, chain=chain)

    def start(
        self, work: Coroutine[Any, Any, StepResult], done: Callable[[StepResult], None]
    ) -> None:
        """Let something run in a task of its own."""
        task = self._loop.create_task(work, name="perdure step")
        self._tasks.add(task)

        def ended(task: asyncio.Task[StepResult]) -> None:
            self._tasks.discard(task)
            # What it says once it is told to stop is not what it would have said.
            if not task.cancelled() and not self._closing:
                done(task.result())

        task.add_done_callback(ended)

    def wake_at(self, due_ms: int, done: Callable[[], None]) -> None:
        """Call `done` when the wall clock shows this."""
        left_ms = due_ms - self._clock.wall_ms()
        if left_ms <= 0:
            self._loop.call_soon(done)
            return

        def again() -> None:
            self._timers.discard(timer)
            self.wake_at(due_ms, done)

        # Looked at again at least every hour, because the wall clock may be set.
        timer = self._loop.call_later(min(left_ms / 1_000, 3_600.0), again)
        self._timers.add(timer)

    def wall_ms(self) -> int:
        """Return the wall clock."""
        return self._clock.wall_ms()

    async def close(self) -> None:
        """Stop: whatever is not done will be done again after the next start."""
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        await self._services.close()

    def _left_s(self, entry: OutboxEntry) -> float | None:
        """Return how long a call may wait for its start, in seconds; None: for ever."""
        if not entry.start_by_ms:
            return None
        return max(0.001, (entry.start_by_ms - self._clock.wall_ms()) / 1_000)

    def _origin(self, session: int, entry: OutboxEntry) -> CallId:
        id = partition_session_id(self._cluster_id, session)
        return CallId(id, entry.partition, entry.sequence)


def _pass_on(ended: asyncio.Future[StepResult], answer: asyncio.Future[Answer]) -> None:
    if ended.cancelled():
        return
    if answer.cancelled() or answer.exception() is not None:
        # The client was closed: the next start sends it again.
        ended.cancel()
        return
    code, reply = answer.result().code, answer.result().reply
    version = None if reply.version is None else (reply.version[0], reply.version[1])
    ended.set_result(StepResult(code, pack_reply(reply.payload, version, reply.changes)))
