"""The partitions of one node: which there are, which are open, which are damaged."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from perdure.errors import DataLoss, DiskFull, NotOwner
from perdure_node.catalog import Types
from perdure_node.clock import Clock
from perdure_node.core.blames import Driven
from perdure_node.core.residents import Residents
from perdure_node.host import Damaged, Host, open_store
from perdure_node.identity import NEW, OPEN, Identity
from perdure_node.journal.node_journal import NodeJournal
from perdure_node.journal.segments import is_full
from perdure_node.settings import NodeSettings
from perdure_node.store import Store, StoreDamaged, StoreFull, StoreResources

__all__ = ["Hosts"]

_log = logging.getLogger("perdure.node")

_NEW_STORE_BYTES: Final = 1 << 20
"""What has to be free before a store is made. It takes a tenth of that, but an attempt that fails
leaves files behind: one after the other, they would take whatever room comes."""


class Hosts:
    """The partitions that this node owns. Iterating yields those that are open."""

    def __init__(
        self,
        settings: NodeSettings,
        identity: Identity,
        journal: NodeJournal,
        residents: Residents,
        clock: Clock,
        on_work: Callable[[Host], None],
        on_durable: Callable[[Host], None],
        on_open: Callable[[Host], None],
    ) -> None:
        self.states = dict(identity.partitions)
        """Every partition of this node, `new` or `open`: whether it has a store."""
        self.damaged: dict[int, str] = {}
        self.epoch = identity.epoch
        self._settings = settings
        self._identity = identity
        self._journal = journal
        self._residents = residents
        self._clock = clock
        self._on_work = on_work
        self._on_durable = on_durable
        self._on_open = on_open
        self._types = Types()
        self._resources = StoreResources()
        self._open: dict[int, Host] = {}
        self.driven: Driven | None = None
        """The call that ran when the last process died, until its partition is opened."""
        self._draining = False
        self._paused = False
        self._room = True
        self._lacks_room = False
        """There was none to open a partition, and that was said."""
        (settings.data / "partitions").mkdir(mode=0o700, exist_ok=True)

    def __iter__(self) -> Iterator[Host]:
        return iter(list(self._open.values()))

    def find(self, number: int) -> Host:
        """Return a partition, which is opened first if need be.

        Raises:
            NotOwner: It is not this node's.
            DataLoss: It is damaged.
            DiskFull: There is no room for what it takes to open it.
        """
        host = self._open.get(number)
        if host is not None:
            return host
        if number not in self.states:
            raise NotOwner(number, self.epoch)
        if number not in self.damaged:
            try:
                host = self._open_one(number)
            except (StoreFull, OSError) as error:
                if isinstance(error, OSError) and not is_full(error):
                    raise
                if not self._lacks_room:
                    self._lacks_room = True
                    _log.warning("there is no room to open partition %d: %s", number, error)
                raise DiskFull(1.0) from error
            self._lacks_room = False
            if host is not None:
                return host
        raise DataLoss(number, self.damaged[number])

    def is_served(self, number: int) -> bool:
        """Tell whether calls for a partition are served: it is open, or has nothing to read."""
        return number in self._open or self.states[number] == NEW

    @property
    def unopened(self) -> list[int]:
        """The partitions that have data and were not opened yet."""
        known = {*self._open, *self.damaged}
        return [n for n, state in self.states.items() if state == OPEN and n not in known]

    def is_damaged(self, number: int) -> bool:
        """Tell whether a partition could not be opened, or was stopped since."""
        host = self._open.get(number)
        return number in self.damaged or (host is not None and host.partition.stopped is not None)

    def of_memory(self, memory: object) -> Host:
        """Return the partition that an object's memory belongs to."""
        return next(host for host in self if host.partition.memory is memory)

    def open_known(self) -> None:
        """Open every partition that has data. Damaged ones are noted, and stay closed.

        The others get a store when they are called for the first time: it takes a dozen syncs.
        """
        for number in sorted(self.unopened):
            self._open_one(number)

    def open_store_again(self, number: int) -> Store:
        """Open the store of a partition that has just been closed."""
        return open_store(self.path(number), self._resources, new=False)

    def path(self, number: int) -> Path:
        """Return where the store of a partition is."""
        return self._settings.data / "partitions" / str(number)

    def drain(self) -> None:
        """Take no new calls."""
        self._draining = True
        for host in self:
            host.partition.draining = True

    def limit(self, *, paused: bool, room: bool) -> None:
        """Say whether calls may start, and whether those that write may come in."""
        for host in self:
            partition = host.partition
            partition.room = room
            if partition.paused and not paused:
                partition.paused = False
                partition.memory.now_ms = self._clock.monotonic_ms()
                partition.resume_starting()
                self._on_work(host)
            partition.paused = paused
        self._paused, self._room = paused, room

    def stop(self, host: Host, error: BaseException) -> None:
        """Stop a partition whose data turned out to be damaged. The others go on."""
        number = host.partition.number
        _log.error("partition %d is damaged and stopped: %s", number, error)
        self.damaged[number] = self._for_callers(error)
        host.partition.stop_damaged(self.damaged[number])
        self._on_work(host)

    def close(self) -> None:
        """Close all stores."""
        for host in self:
            try:
                host.close()
            except (StoreFull, StoreDamaged) as error:
                # What it could not flush is in the journal.
                _log.warning("a store was closed unflushed: %s", error)
        self._open.clear()

    def _for_callers(self, error: BaseException) -> str:
        """Return an error's text without the machine's paths."""
        return str(error).replace(f"{self._settings.data}/", "")

    def _open_one(self, number: int) -> Host | None:
        try:
            with contextlib.ExitStack() as undo:
                host = self._made(number, undo)
                undo.pop_all()
        except Damaged as error:
            self.damaged[number] = self._for_callers(error)
            _log.error("partition %d is damaged and stays closed: %s", number, error)
            return None
        self._open[number] = host
        host.partition.draining = self._draining
        host.partition.paused = self._paused
        host.partition.room = self._room
        if self.driven is not None and self.driven.partition == number:
            # Before it would run again.
            host.partition.blames.blame(self.driven, self._clock.wall_ms())
            self.driven = None
        host.resume()
        self._on_open(host)
        self._on_work(host)
        return host

    def _made(self, number: int, undo: contextlib.ExitStack) -> Host:
        new = self.states[number] == NEW
        if new and not self._has_room():
            raise StoreFull(f"a new store takes {_NEW_STORE_BYTES >> 20} MB")
        store = open_store(self.path(number), self._resources, new=new)
        undo.callback(_let_go, store)
        if new:
            self._identity.mark_open([number])
            self.states[number] = OPEN
        return Host(
            number,
            self.epoch,
            store,
            self._journal.log(number, after=store.applied),
            catalog=self._types,
            residents=self._residents,
            limits=self._settings.limits,
            clock=self._clock,
            server=self._settings.name,
            on_work=self._on_work,
            on_durable=self._on_durable,
        )

    def _has_room(self) -> bool:
        disk = os.statvfs(self._settings.data)
        return disk.f_bavail * disk.f_frsize >= _NEW_STORE_BYTES


def _let_go(store: Store) -> None:
    """Close a store that is not served, so that it can be opened again."""
    with contextlib.suppress(StoreFull, StoreDamaged):
        store.close()
