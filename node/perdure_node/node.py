"""A node: takes calls in, runs them in its partitions, and does what the partitions ask for.

Everything happens on one event loop. A tick goes like this: calls that arrived run; at its end
the commits of all partitions are appended to the journal, which makes them durable together;
when they are, the answers leave.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import structlog

from perdure.client import Client
from perdure.errors import (
    BadKey,
    BadObjectId,
    BadPayload,
    Code,
    ConfigError,
    DataLoss,
    NotOwner,
    PerdureError,
    code_of,
)
from perdure.frames import (
    TIME_LEFT_MAX_MS,
    AnswerFrame,
    CallFrame,
    Kind,
    Request,
    pack_error,
    pack_reply,
    unpack_request,
)
from perdure.ids import ObjectKey, check_object_id, partition_of
from perdure.objects import all_types
from perdure.transport import CALL_BYTES_MAX, Transport, Welcome
from perdure_node.catalog import Types
from perdure_node.clock import Clock, SystemClock
from perdure_node.core.partition import Answer, Partition
from perdure_node.core.residents import Residents
from perdure_node.execution import Executor
from perdure_node.host import Damaged, Host, open_store
from perdure_node.identity import NEW, OPEN, Identity
from perdure_node.journal.node_journal import NodeJournal
from perdure_node.outgoing import LocalTransport
from perdure_node.settings import NodeSettings
from perdure_node.store import StoreDamaged, StoreFull, StoreResources

if TYPE_CHECKING:
    from perdure.serving.backend import AnswerSink, Description

__all__ = ["Node"]

_log = structlog.get_logger("perdure.node")

_KINDS = frozenset(Kind)


class Node:
    """One node. `start` it, hand it calls with `receive`, `close` it."""

    client: Client
    """Makes the calls that start on this node."""

    def __init__(self, settings: NodeSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.failed: asyncio.Future[BaseException] | None = None
        """Done when the disk has failed: nothing will be answered any more."""
        self._clock = clock or SystemClock()
        self._residents = Residents(settings.limits)
        self._types = Types()
        self._hosts: dict[int, Host] = {}
        self._damaged: dict[int, str] = {}
        self._unclean: dict[Host, None] = {}
        self._tick_due = False
        self._working = False
        self._paused = False
        self._room = True
        self._draining = False
        self._failure: str | None = None
        self._appended = 0
        self._timer: asyncio.TimerHandle | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._apply_now = asyncio.Event()

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
        self._identity = Identity.open(
            settings.data,
            node=settings.name,
            cluster_id=settings.cluster_id,
            nodes=sorted(settings.nodes) or [settings.name],
            partition_count=settings.partition_count,
            new=settings.new,
        )
        self.partition_count = self._identity.partition_count
        self._states = dict(self._identity.partitions)
        try:
            self._journal = NodeJournal.open(
                settings.data / "journal",
                identity=f"{self._identity.cluster_id}/{settings.name}".encode()[:64],
                settings=settings.journal,
                on_fatal=self._fail,
                new=False if OPEN in self._states.values() else None,
            )
            self._journal.start(self._loop)
        except BaseException:
            self._identity.close()
            raise
        (settings.data / "partitions").mkdir(mode=0o700, exist_ok=True)
        self._resources = StoreResources()
        self.client = Client(self.transport(self._elsewhere()))
        self._executor = Executor(self.client, settings.limits, self._ran)
        if not settings.lazy:
            self._open_all()
        self._upkeep = self._loop.create_task(self._keep_up(), name="perdure upkeep")

    def transport(self, elsewhere: Transport | None = None) -> Transport:
        """Return a way for clients in this process to call."""
        return LocalTransport(self, elsewhere)

    async def drain(self) -> None:
        """Take no new calls, and let those that are here finish; for `drain_s` at most."""
        self._draining = True
        for host in self._hosts.values():
            host.partition.draining = True
        deadline = self._loop.time() + self.settings.drain_s
        while self._loop.time() < deadline and self._failure is None:
            idle = all(h.partition.is_idle for h in self._hosts.values())
            if idle and not self._journal.undurable_bytes and not self._unclean:
                return
            await asyncio.sleep(0.005)
        running = sum(not h.partition.is_idle for h in self._hosts.values())
        if running:
            _log.warning("calls are still running and are given up", partitions=running)

    async def close(self) -> None:
        """End: commit what only memory has, and close everything. Loses nothing that was
        answered."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])
        await self._executor.close()
        if self._failure is None:
            for state, memory in self._residents:
                if state.deferred:
                    host = self._host_of(memory)
                    host.partition.commit_deferred(state)
            for host in self._hosts.values():
                host.partition.flush_marks()
                host.append()
        await self.client.close()
        if self._timer is not None:
            self._timer.cancel()
        await self._journal.close()
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()
        self._identity.close()

    # Opening partitions.

    @property
    def owned(self) -> Container[int]:
        """The partitions of this node."""
        return self._states.keys()

    def _open_all(self) -> None:
        new = [number for number, state in self._states.items() if state == NEW]
        stores = {n: open_store(self._path(n), self._resources, new=True) for n in new}
        self._identity.mark_open(new)
        self._states.update(dict.fromkeys(new, OPEN))
        for number in sorted(self._states):
            self._open(number, stores.get(number))

    def _open(self, number: int, store: object = None) -> Host | None:
        """Open one partition. None: it is damaged, and stays closed."""
        try:
            if store is None:
                new = self._states[number] == NEW
                store = open_store(self._path(number), self._resources, new=new)
                if new:
                    self._identity.mark_open([number])
                    self._states[number] = OPEN
            settings = self.settings
            host = Host(
                number,
                self._identity.epoch,
                store,  # type: ignore[arg-type]
                self._journal.log(number, after=store.applied),  # type: ignore[attr-defined]
                catalog=self._types,
                residents=self._residents,
                limits=settings.limits,
                clock=self._clock,
                server=settings.name,
                flush=self._note,
            )
        except Damaged as error:
            self._damaged[number] = str(error)
            _log.error("a partition is damaged and stays closed", partition=number, why=str(error))
            return None
        self._hosts[number] = host
        host.partition.draining = self._draining
        host.partition.paused = self._paused
        host.partition.room = self._room
        host.resume()
        self._note(host)
        return host

    def _path(self, number: int) -> os.PathLike[str]:
        return self.settings.data / "partitions" / str(number)

    def _elsewhere(self) -> Transport | None:
        if not self.settings.routers:
            return None
        from perdure.grpc_transport import GrpcTransport

        return GrpcTransport(self.settings.routers[0])

    # Calls in.

    def welcome(self) -> Welcome:
        """Return what a client is told first."""
        epoch = self._identity.epoch
        owned = {number: epoch for number in self._states}
        return Welcome(self._identity.cluster_id, self.partition_count, self.settings.name, owned)

    def receive(self, frames: list[CallFrame], sink: AnswerSink) -> None:
        """Take calls in, in order."""
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
        for number, partition, time_left_ms, body in frames:
            try:
                request = unpack_request(body)
                host = self._find_host(request, partition, len(body))
                if host is None:
                    continue
                self._residents.counters.calls += 1
                host.partition.call_arrived(
                    request, sink, number, min(time_left_ms, TIME_LEFT_MAX_MS), now_ms, wall_ms
                )
            except PerdureError as error:
                if number:
                    code, payload = pack_error(code_of(error), error.args)
                    sink.send(AnswerFrame(number, code, pack_reply(payload)))
                continue
            except Damaged as error:
                self._stop(host, error)
            self._unclean[host] = None
        self._work()

    def _find_host(self, request: Request, partition: int, size: int) -> Host | None:
        """Return who is asked; None: nobody any more, and that needs no answer.

        Raises:
            PerdureError: The call is refused.
        """
        if self._failure is not None:
            raise DataLoss(partition, self._failure)
        kind = request.kind
        if kind not in _KINDS:
            raise BadPayload(f"there is no kind of call {kind}")
        if kind not in (Kind.CONFIRM, Kind.LIST):
            check_object_id(request.id)
            if "\0" in request.type or not request.type:
                raise BadObjectId("a type's name is not empty and holds no NUL character")
            key = ObjectKey(request.type, request.id)
            if partition_of(key, self.partition_count) != partition:
                raise BadPayload(
                    f"{key} is in partition {partition_of(key, self.partition_count)} of "
                    f"{self.partition_count}, not in {partition}"
                )
            if request.key is not None:
                _check_key(request.key, self.settings.limits.key_bytes_max)
            if size > CALL_BYTES_MAX + 65_536:
                raise BadPayload(f"a call has at most {CALL_BYTES_MAX} bytes")
        host = self._hosts.get(partition)
        if host is not None:
            return host
        if partition in self._damaged:
            raise DataLoss(partition, self._damaged[partition])
        if partition not in self._states:
            raise NotOwner(partition, self._identity.epoch)
        host = self._open(partition)
        if host is None:
            raise DataLoss(partition, self._damaged[partition])
        return host

    # Work.

    def _ran(self, partition: Partition) -> None:
        """A method has ended or saved: its partition has something to do."""
        host = self._hosts.get(partition.number)
        if host is not None:
            self._note(host)

    def _note(self, host: Host) -> None:
        self._unclean[host] = None
        if not self._tick_due and not self._working:
            self._tick_due = True
            self._loop.call_soon(self._tick)

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
        if not self._tick_due and self._unclean:
            self._tick_due = True
            self._loop.call_soon(self._tick)

    def _work_off(self, host: Host) -> None:
        partition = host.partition
        while partition.has_work:
            ready = partition.take_ready()
            for output in ready.outputs:
                if isinstance(output, Answer):
                    output.sink.send(output.frame)
                else:
                    output()
            for call in ready.runs:
                try:
                    self._executor.run(partition, call)
                except Damaged as error:
                    self._stop(host, error)

    def _tick(self) -> None:
        """End a tick: one group of records for all that was committed in it."""
        self._tick_due = False
        self._work()
        unclean, self._unclean = self._unclean, {}
        if self._failure is not None:
            return
        next_ms: int | None = None
        for host in unclean:
            self._appended += host.append()
            due_ms = host.partition.next_time_ms
            if due_ms is not None and (next_ms is None or due_ms < next_ms):
                next_ms = due_ms
        self._journal.flush()
        if next_ms is not None and self._timer is None:
            delay_s = max(0, next_ms - self._clock.monotonic_ms()) / 1000
            self._timer = self._loop.call_later(delay_s + 0.001, self._time_passed)
        if len(self._residents) > self.settings.limits.activations_max:
            self._passivate()
        self._watch_limits()

    def _time_passed(self) -> None:
        self._timer = None
        now_ms = self._clock.monotonic_ms()
        for host in self._hosts.values():
            if host.partition.next_time_ms is not None:
                host.partition.time_passed(now_ms)
                self._note(host)

    def _watch_limits(self) -> None:
        """Start no further calls while too much is on its way to the disk."""
        limits = self.settings.limits
        unapplied = sum(host.partition.memory.unapplied_bytes for host in self._hosts.values())
        if unapplied > self.settings.apply_bytes:
            self._apply_now.set()
        paused = (
            self._journal.undurable_bytes > limits.undurable_bytes_max
            or unapplied > limits.unapplied_bytes_max
        )
        room = self._journal.has_room and self._room
        for host in self._hosts.values():
            host.partition.room = room
            if host.partition.paused and not paused:
                host.partition.paused = False
                host.partition.resume_starting()
                self._note(host)
            host.partition.paused = paused
        self._paused = paused

    def _passivate(self) -> None:
        for state, memory in self._residents.surplus(self._clock.monotonic_ms()):
            if state.deferred:
                host = self._host_of(memory)
                host.partition.commit_deferred(state)
                self._note(host)
            memory.passivate(state)

    def _host_of(self, memory: object) -> Host:
        return next(h for h in self._hosts.values() if h.partition.memory is memory)

    def _stop(self, host: Host, error: BaseException) -> None:
        """Stop a partition whose data turned out to be damaged. The others go on."""
        number = host.partition.number
        _log.error("a partition is damaged and stopped", partition=number, why=str(error))
        self._damaged[number] = str(error)
        host.partition.stop(str(error))
        self._note(host)

    def _fail(self, error: BaseException) -> None:
        """The disk has failed: nothing may be answered any more."""
        self._failure = f"the journal cannot be written: {error}"
        _log.error("the disk has failed, the node gives up", why=str(error))
        for host in self._hosts.values():
            host.partition.stop(self._failure)
            self._work_off(host)
        if self.failed is not None and not self.failed.done():
            self.failed.set_result(error)

    # Upkeep: off the answer path.

    async def _keep_up(self) -> None:
        """Apply durable records to the stores, flush them now and then, trim the journal."""
        settings = self.settings
        while True:
            try:
                await asyncio.wait_for(self._apply_now.wait(), settings.apply_interval_s)
            except TimeoutError:
                pass
            self._apply_now.clear()
            full = False
            for host in list(self._hosts.values()):
                if host.partition.damage is None:
                    full |= not self._guarded_apply(host)
                    await asyncio.sleep(0)
            if self._appended > settings.checkpoint_bytes and not full:
                self._appended = 0
                full |= not await self._checkpoint()
            if full:
                full = not await self._make_room()
            self._room = not full
            self._passivate()
            self._watch_limits()
            if full:
                await asyncio.sleep(1.0)

    def _guarded_apply(self, host: Host) -> bool:
        try:
            return host.apply()
        except Damaged as error:
            self._stop(host, error)
            return True

    async def _checkpoint(self) -> bool:
        """Flush all stores that hold the journal back. False: the disk is full."""
        ok = True
        for host in list(self._hosts.values()):
            if host.partition.damage is None and host.needs_checkpoint:
                try:
                    ok &= await host.checkpoint()
                except Damaged as error:
                    self._stop(host, error)
        return ok

    async def _make_room(self) -> bool:
        """After a full disk: open the stores again, which stay broken otherwise."""
        for number, host in list(self._hosts.items()):
            if host.partition.damage is not None:
                continue
            try:
                if host.apply() and await host.checkpoint():
                    continue
            except Damaged:
                pass
            try:
                host.store.close()
                host.reopen_store(open_store(self._path(number), self._resources, new=False))
                if not (host.apply() and await host.checkpoint()):
                    return False
            except StoreFull:
                return False
            except Damaged as error:
                self._stop(host, error)
        return True

    # For operators.

    async def describe(self) -> Description:
        """Return what operators see."""
        from perdure.serving import backend

        epoch = self._identity.epoch
        partitions = [
            backend.PartitionDescription(number, epoch, self._partition_state(number))
            for number in sorted(self._states)
        ]
        counters = self._residents.counters
        node = backend.NodeDescription(
            self.settings.name,
            self.settings.listen,
            True,
            partitions,
            backend.Counters(
                calls=counters.calls,
                resident=len(self._residents),
                resident_bytes=self._residents.bytes,
                hits=counters.hits,
                loads=counters.loads,
                passivations=counters.passivations,
                rss_bytes=_rss_bytes(),
            ),
        )
        types = [
            backend.TypeDescription(
                name,
                [backend.MethodDescription(*row) for row in object_type.describe()],
            )
            for name, object_type in sorted(all_types().items())
        ]
        return backend.Description(
            self._identity.cluster_id,
            self.partition_count,
            self.settings.name,
            "node",
            [node],
            types,
        )

    def _partition_state(self, number: int) -> str:
        if number in self._damaged or self._failure is not None:
            return "damaged"
        return "serving" if number in self._hosts or self.settings.lazy else "opening"

    async def list(
        self, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[Sequence[str], bool]:
        """Return ids of one type in one partition, in order, without waking any object.

        Raises:
            NotOwner, DataLoss: The partition is not here, or damaged.
        """
        if partition in self._damaged:
            raise DataLoss(partition, self._damaged[partition])
        host = self._hosts.get(partition)
        if host is None and partition in self._states:
            host = self._open(partition)
        if host is None:
            raise NotOwner(partition, self._identity.epoch)
        found = host.partition.memory.list_ids(type, prefix, after, min(limit or 1_000, 1_000))
        durable = self._loop.create_future()
        host.partition.hold_all(lambda: durable.set_result(None))
        self._note(host)
        await durable
        return found


def _check_key(key: str, limit: int) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise BadKey("an idempotency key is valid Unicode text") from None
    if not 0 < size <= limit:
        raise BadKey(f"an idempotency key has 1 to {limit} bytes of UTF-8, this has {size}")


def _rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
