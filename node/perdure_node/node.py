"""A node: takes calls in, runs them in its partitions, and does what the partitions ask for.

Everything happens on one event loop. A tick goes like this: calls that arrived run; at its end
the commits of all partitions are appended to the journal, which makes them durable together;
when they are, the answers leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Container
from typing import TYPE_CHECKING, Any, Final

from perdure.bodies import Request, pack_error, pack_reply, unpack_request
from perdure.client import Client
from perdure.errors import (
    Code,
    ConfigError,
    DataLoss,
    DiskFull,
    NotOwner,
    OutcomeUnknown,
    PerdureError,
    code_of,
)
from perdure.frames import TIME_LEFT_MAX_MS, CallFrame
from perdure.ids import CallId
from perdure.transport import Transport, Welcome
from perdure_node.alarm import Alarm
from perdure_node.carrier import Carrier
from perdure_node.clock import Clock, SystemClock
from perdure_node.core.blames import Driven
from perdure_node.core.calls import Refusal
from perdure_node.core.cancelling import Stop
from perdure_node.core.copies import Answer
from perdure_node.core.partition import Partition
from perdure_node.core.probing import Probe
from perdure_node.core.residents import Residents
from perdure_node.core.run import Hear, Wake
from perdure_node.driving import Driving
from perdure_node.execution import Executor
from perdure_node.host import Host
from perdure_node.hosts import Hosts
from perdure_node.identity import OPEN, Identity
from perdure_node.intake import Intake
from perdure_node.journal.node_journal import NodeJournal
from perdure_node.journal.recovery import JournalUnusable
from perdure_node.operations import Operations
from perdure_node.outgoing import LocalTransport
from perdure_node.overview import Overview
from perdure_node.services import Services
from perdure_node.settings import NodeSettings
from perdure_node.upkeep import Upkeep

if TYPE_CHECKING:
    from perdure.serving.backend import AnswerSink, Description

__all__ = ["Node"]

_log = logging.getLogger("perdure.node")

_PIECE_CALLS: Final = 128
"""Calls that are run before the journal gets what they have committed. Fewer are not worth a group
and a message of their own: with 32 a call took a third more CPU time."""

_PIECES_MAX: Final = 16
"""Pieces that wait. Beyond this they are taken in at once, so that nobody reads on meanwhile."""

_BLAME_S: Final = 10.0
"""How long a start waits for the disk to have the blame: a full one must not keep reads away."""

_DRAIN_POLL_S: Final = 0.005


class Node:
    """One node. `start` it, hand it calls with `receive`, `drain` it, `close` it."""

    client: Client
    """Makes the calls that start on this node."""

    failed: asyncio.Future[BaseException]
    """Done when the disk has failed: nothing will be answered any more."""

    operations: Operations
    """What operators ask and decide."""

    def __init__(self, settings: NodeSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._residents = Residents(settings.limits)
        self._unclean: dict[Host, None] = {}
        """Partitions that may have something to do."""
        self._inbox: deque[tuple[list[CallFrame], AnswerSink]] = deque()
        """What has come in large messages and was not taken in yet."""
        self._piece_due = False
        self._tick_due = False
        self._working = False
        self._failure: str | None = None
        self._carrier: Carrier | None = None
        self._alarm = Alarm(self._clock.wall_ms, self._ring)
        self._timer = Alarm(self._clock.monotonic_ms, self._time_passed)

    # Life.

    async def start(self) -> None:
        """Recover what is on the disk and begin to serve.

        Raises:
            ConfigError: The data directory is not this node's, or the settings do not fit it.
            StorageHeld: Another process uses it.
        """
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        self.failed = self._loop.create_future()
        identity = self._identity = Identity.open(
            settings.data,
            node=settings.name,
            cluster_id=settings.cluster_id,
            nodes=sorted(settings.nodes) or [settings.name],
            partition_count=settings.partition_count,
            new=settings.new,
        )
        self._intake = Intake(identity.partition_count, settings.limits.key_bytes_max)
        with contextlib.ExitStack() as undo:
            # What is not served after all is left as it was found, for whoever tries again.
            undo.callback(identity.close)
            try:
                self._journal = NodeJournal.open(
                    settings.data / "journal",
                    identity=f"{identity.cluster_id}/{settings.name}".encode()[:64],
                    settings=settings.journal,
                    on_fatal=self._fail,
                    new=False if OPEN in identity.partitions.values() else None,
                )
            except JournalUnusable as error:
                raise ConfigError(str(error)) from None
            undo.callback(self._journal.abandon)
            identity.rise_above(self._journal.epoch)
            self._journal.start(self._loop)
            self._hosts = Hosts(
                settings,
                identity,
                self._journal,
                self._residents,
                self._clock,
                self._note,
                self._became_durable,
                self._opened,
            )
            undo.callback(self._hosts.close)
            driving = self._driving = Driving.open(settings.data, identity.epoch)
            self._hosts.driven = driving.last
            if not settings.lazy:
                self._hosts.open_known()
            undo.pop_all()
        self.client = Client(LocalTransport(self, self._elsewhere()))
        self._services = Services(settings.services, self.client, clock=self._clock)
        self._carrier = Carrier(
            self.client, self._services, self._clock, identity.cluster_id, self._ran
        )
        self._upkeep = Upkeep(
            settings, self._hosts, self._journal, self._residents, self._clock, self._carrier.depart
        )
        self._executor = Executor(
            self.client, settings.limits, self._clock, self._carrier, self._ran, driving
        )
        for host in self._hosts:
            self._carrier.open(host.partition)
        self.operations = self._open_operations()
        self._upkeep_task = self._loop.create_task(self._upkeep.run(), name="perdure upkeep")
        self._upkeep_task.add_done_callback(self._upkeep_ended)
        if driving.last is not None:
            await self._blame(driving.last)
        driving.start()

    async def _blame(self, driven: Driven) -> None:
        """Make durable which call the last process has died with, before anything runs again."""
        with contextlib.suppress(NotOwner, DataLoss, DiskFull):
            host = self._hosts.find(driven.partition)
            id = CallId(driven.session, driven.partition, driven.sequence)
            _log.warning("the process before this one has ended while call %s ran", id)
            durable = self._loop.create_future()
            host.partition.hold_all(lambda: durable.set_result(None))
            self._working = True  # So that no method runs meanwhile.
            try:
                self._tick()
                self._let_out(host.partition.take_outputs(), host.partition)
                ends: list[asyncio.Future[Any]] = [durable, self.failed]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=_BLAME_S)
            finally:
                self._working = False
        for host in self._hosts:
            self._note(host)

    def _open_operations(self) -> Operations:
        overview = Overview(
            self.settings,
            self._identity.cluster_id,
            self.partition_count,
            self._hosts,
            self._residents,
            self.client,
            self._services,
            self._clock,
        )
        return Operations(overview, self._hosts, self.partition_count, self._clock, self._note)

    def transport(self) -> Transport:
        """Return a way for clients in this process to call."""
        return LocalTransport(self)

    async def drain(self, longest_s: float | None = None) -> None:
        """Take no new calls, and let those that are here finish; for `drain_s` at most."""
        self._hosts.drain()
        if longest_s is None:
            longest_s = self.settings.drain_s
        deadline = self._loop.time() + longest_s
        while self._failure is None:
            running = sum(not host.partition.is_idle for host in self._hosts)
            if not running and not (self._journal.undurable_bytes or self._unclean or self._inbox):
                return
            if self._loop.time() > deadline:
                _log.warning("calls still run in %d partitions and are given up", running)
                return
            await asyncio.sleep(_DRAIN_POLL_S)

    async def close(self) -> None:
        """End. Loses nothing that was answered."""
        self._upkeep_task.cancel()
        await asyncio.wait([self._upkeep_task])
        await self._executor.close()
        if self._carrier is not None:
            await self._carrier.close()
        if self._failure is None:
            for state, memory in self._residents:
                if state.deferred:
                    self._hosts.of_memory(memory).commit_deferred(state)
            for host in self._hosts:
                host.partition.recorder.flush_marks()
                host.append(self._clock.wall_ms())
        await self.client.close()
        self._timer.cancel()
        self._alarm.cancel()
        await self._journal.close()
        self._hosts.close()
        self._driving.close()
        self._identity.close()

    def abandon(self) -> None:
        """Let go of the disk from outside of the loop, which is gone: as after kill -9."""
        self._journal.abandon()
        self._hosts.close()
        self._identity.close()

    def _elsewhere(self) -> Transport | None:
        if not self.settings.routers:
            return None
        from perdure.routing.direct import DirectTransport

        return DirectTransport(self.settings.routers[0])

    # Calls in.

    @property
    def partition_count(self) -> int:
        """Of the whole cluster."""
        return self._intake.partition_count

    @property
    def owned(self) -> Container[int]:
        """The partitions of this node."""
        return self._hosts.states.keys()

    def welcome(self) -> Welcome:
        """Return what a client is told first."""
        owned = dict.fromkeys(self._hosts.states, self._hosts.epoch)
        return Welcome(self._identity.cluster_id, self.partition_count, self.settings.name, owned)

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        """Take calls in, in order. Each with a number other than 0 is answered once.

        A large message is taken in piece by piece: while the next piece runs, the one before is
        on its way to the disk, and the answers of the one before that are on theirs.
        """
        if not self._inbox and len(frames) <= _PIECE_CALLS:
            self._take_in(frames, sink)
            self._work()
            if self._unclean and not self._tick_due:
                # Calls of other streams may still come in this tick of the loop.
                self._tick_due = True
                self._loop.call_soon(self._tick)
            return
        for first in range(0, len(frames), _PIECE_CALLS):
            self._inbox.append((frames[first : first + _PIECE_CALLS], sink))
        while len(self._inbox) > _PIECES_MAX:
            self._take_piece()
        if not self._piece_due:
            self._piece_due = True
            self._take_next_piece()

    def _take_next_piece(self) -> None:
        self._piece_due = False
        if self._inbox:
            self._take_piece()
        if self._inbox:
            self._piece_due = True
            self._loop.call_soon(self._take_next_piece)

    def _take_piece(self) -> None:
        self._take_in(*self._inbox.popleft())
        self._tick()

    def _take_in(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
        self._residents.counters.calls += len(frames)
        # First all are unpacked, then all are admitted: the code of both at once is more than the
        # first cache of a processor holds.
        arrived: list[tuple[Request, Host, int, int]] = []
        for number, partition, time_left_ms, body in frames:
            try:
                request = unpack_request(body)
                if self._failure is not None:
                    raise OutcomeUnknown(self._failure)
                self._intake.check(request, partition, len(body))
                host = self._hosts.find(partition)
            except PerdureError as error:
                self._refuse(sink, number, error)
                continue
            left_ms = time_left_ms if time_left_ms < TIME_LEFT_MAX_MS else TIME_LEFT_MAX_MS
            arrived.append((request, host, number, left_ms))
        for request, host, number, left_ms in arrived:
            try:
                host.partition.call_arrived(request, sink, number, left_ms, now_ms, wall_ms)
            except Exception:
                # A bug of ours. It may cost this call, but not the others of the message.
                _log.exception("a call to a %s could not be taken in", request.type)
                failed = OutcomeUnknown("the node has failed on this call")
                self._refuse(sink, number, failed, Code.INTERNAL)
            self._unclean[host] = None

    @staticmethod
    def _refuse(
        sink: AnswerSink, number: int, error: PerdureError, code: Code | None = None
    ) -> None:
        if number:
            answered, payload = pack_error(code or code_of(error), error.args)
            sink.send((number, answered, pack_reply(payload)))

    # Work.

    def _ran(self, partition: Partition) -> None:
        """A method has ended or saved: its partition has something to do."""
        if not self._working and self._failure is None:
            self._note(self._hosts.find(partition.number))

    def _opened(self, host: Host) -> None:
        # At the start they are opened before there is anybody who could send their calls.
        if self._carrier is not None:
            self._carrier.open(host.partition)

    def _note(self, host: Host) -> None:
        self._unclean[host] = None
        if not self._tick_due and not self._working:
            self._tick_due = True
            self._loop.call_soon(self._tick)

    def _became_durable(self, host: Host) -> None:
        """Let out what waited for the disk. It is no reason for another record."""
        self._let_out(host.partition.take_outputs(), host.partition)
        if self._upkeep.is_paused or host.partition.has_work:
            self._note(host)

    def _work(self) -> None:
        """Do what the partitions ask for, until they ask for nothing more."""
        if self._working:
            return
        self._working = True
        try:
            for host in list(self._unclean):
                self._work_off(host)
        finally:
            self._working = False

    def _work_off(self, host: Host) -> None:
        partition, driving = host.partition, self._driving
        while partition.has_work:
            ready = partition.take_ready()
            if ready.outputs:
                self._let_out(ready.outputs, partition)
            if not ready.runs:
                continue
            outer = driving.outer()
            for call in ready.runs:
                driving.begin(partition.number, call)
                self._executor.run(partition, call)
            # A call that has ended is not noted for much longer; the next one takes its place.
            driving.end(outer)

    def _let_out(self, outputs: list[Any], partition: Partition) -> None:
        for output in outputs:
            if type(output) is Answer:
                output.sink.send(output.frame)
            elif type(output) is Stop:
                self._executor.stop(partition, output)
            elif type(output) is Hear or type(output) is Wake:
                self._executor.runs.hear(partition, output)
            elif type(output) is Probe:
                assert self._carrier is not None
                self._carrier.probe(partition, output)
            else:
                output()

    def _tick(self) -> None:
        """End a tick: one group of records for all that was committed in it."""
        self._tick_due = False
        self._work()
        unclean, self._unclean = self._unclean, {}
        if self._failure is not None:
            return
        wall_ms = self._clock.wall_ms()
        next_ms: int | None = None
        bytes = weight = 0
        for host in unclean:
            partition = host.partition
            if partition.memory.making:
                one, other = host.append(wall_ms)
                bytes += one
                weight += other
            due_ms = partition.next_time_ms
            if due_ms is not None and (next_ms is None or due_ms < next_ms):
                next_ms = due_ms
            if partition.memory.timers_due_ms is not None:
                self._alarm.set(partition.memory.timers_due_ms, wall_ms)
        self._upkeep.appended(bytes, weight)
        self._journal.flush()
        if next_ms is not None:
            self._timer.set(next_ms, self._clock.monotonic_ms())
        if self._residents.are_too_many:
            self._upkeep.passivate()
        self._upkeep.watch_limits()

    def _ring(self, wall_ms: int) -> None:
        """Let timers fire."""
        for host in [] if self._failure is not None else self._hosts:
            due_ms = host.partition.memory.timers_due_ms
            if due_ms is not None and due_ms <= wall_ms:
                host.partition.memory.now_ms = self._clock.monotonic_ms()
                host.partition.fire(wall_ms)
                self._note(host)
            elif due_ms is not None:
                self._alarm.set(due_ms, wall_ms)

    def _time_passed(self, now_ms: int) -> None:
        for host in self._hosts:
            if host.partition.next_time_ms is not None:
                host.partition.time_passed(now_ms)
                self._note(host)

    # Failure.

    def _fail(self, error: BaseException) -> None:
        """The disk has failed: nothing may be answered any more."""
        self._failure = f"the journal cannot be written: {error}"
        _log.error("the disk has failed, the node gives up: %s", error)
        # Whoever has called may call again, with the same id, when the node has been restarted.
        refusal = Refusal(Code.OWNER_LOST, (self._failure,))
        for host in self._hosts:
            host.partition.stop(refusal)
            self._work_off(host)
        if not self.failed.done():
            self.failed.set_result(error)

    def _upkeep_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours, but going on without upkeep would fill memory and disk.
            _log.error("upkeep has failed", exc_info=error)
            self._fail(error)

    # For operators.

    async def describe(self) -> Description:
        """Return what operators see."""
        return self.operations.describe()

    async def list(
        self, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[list[str], bool]:
        """Return ids of one type in one partition, in order, without waking any object.

        Raises:
            NotOwner, DataLoss: The partition is not here, or damaged.
        """
        return await self.operations.list(partition, type, prefix, after, limit)
