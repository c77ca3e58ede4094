"""What operators ask of a node, and what they decide."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from perdure.errors import DataLoss, NotOwner, Parked
from perdure.ids import ObjectKey, partition_of
from perdure.objects import all_types
from perdure.sent import names_meant
from perdure.serving.backend import LIST_LIMIT_MAX
from perdure.wire.v1 import cluster_pb2
from perdure_node.core.damage import DamageFound
from perdure_node.core.firing import PARKED_MS, TimerChange
from perdure_node.core.inspection import Query, object_facts, open_calls, parked_timers
from perdure_node.overview import Overview

if TYPE_CHECKING:
    from perdure.serving.backend import Description
    from perdure_node.clock import Clock
    from perdure_node.core.partition import Partition
    from perdure_node.host import Host
    from perdure_node.hosts import Hosts

__all__ = ["Operations"]

_RETRY_CALL: Final = cluster_pb2.DECISION_RETRY_CALL
_DROP_CALL: Final = cluster_pb2.DECISION_DROP_CALL
_RETRY_TIMER: Final = cluster_pb2.DECISION_RETRY_TIMER
_DROP_TIMER: Final = cluster_pb2.DECISION_DROP_TIMER


class Operations:
    """The operators' side of one node."""

    def __init__(
        self,
        overview: Overview,
        hosts: Hosts,
        partition_count: int,
        clock: Clock,
        note: Callable[[Host], None],
    ) -> None:
        """Begin.

        Args:
            overview: Describes what was found.
            hosts: The node's partitions.
            partition_count: Of the cluster.
            clock: The node's.
            note: Tells the node that a partition has something to do.
        """
        self._overview = overview
        self._hosts = hosts
        self._partition_count = partition_count
        self._clock = clock
        self._note = note
        self._loop = asyncio.get_running_loop()

    def describe(self) -> Description:
        """Return the node's partitions, counters and types."""
        return self._overview.node()

    async def list(
        self, partition: int, type: str, prefix: str, after: str, limit: int
    ) -> tuple[list[str], bool]:
        """Return ids of one type in one partition, in order, without waking any object.

        Raises:
            NotOwner, DataLoss: The partition is not here, or damaged.
        """
        host = self._hosts.find(partition)
        wanted = min(limit or LIST_LIMIT_MAX, LIST_LIMIT_MAX)
        try:
            found = host.partition.memory.list_ids(type, prefix, after, wanted)
        except DamageFound as error:
            raise self._stopped(host, error) from None
        # A list could have seen any commit of the partition.
        await self._durable(host)
        return found

    # Looks. They do not wait for the disk: one that hangs is what somebody may be looking for.

    def inspect(self, target: ObjectKey) -> cluster_pb2.Inspection:
        """Return what an object does and waits for.

        Raises:
            NotOwner: It is another node's.
        """
        number = self._owned_partition(target)
        answer = cluster_pb2.Inspection(
            node=self._overview.name,
            partition=number,
            reachable=True,
            type_known=target.type in all_types(),
        )
        try:
            host = self._hosts.find(number)
        except DataLoss as error:
            answer.stopped = str(error)
            return answer
        try:
            if host.partition.stopped is None:
                facts = object_facts(host.partition, target, self._clock.monotonic_ms())
                self._overview.fill(answer, host.partition, target, facts)
                return answer
            answer.stopped = str(host.partition.stopped.args[-1])
        except DamageFound as error:
            answer.stopped = str(self._stopped(host, error))
        return answer

    def list_calls(self, asked: cluster_pb2.ListCallsRequest) -> cluster_pb2.CallPage:
        """Return one page of the calls that are not over, and of the timers that are parked."""
        limit = min(asked.limit or LIST_LIMIT_MAX, LIST_LIMIT_MAX)
        # One more than asked for tells whether there are more.
        query = Query(asked.parked_only, asked.type, asked.older_than_ms, asked.after, limit + 1)
        now_ms = self._clock.monotonic_ms()
        page = cluster_pb2.CallPage()
        calls: list[cluster_pb2.OpenCall] = []
        timers: list[cluster_pb2.OpenTimer] = []
        for number in sorted(self._hosts.states):
            if self._hosts.is_damaged(number):
                page.missing.append(f"partition {number} of {self._overview.name} (damaged)")
        for host in self._hosts:
            partition = host.partition
            if partition.stopped is not None:
                continue
            found = open_calls(partition, query, now_ms)
            calls += [self._overview.call(partition, facts) for facts in found]
            try:
                parked = parked_timers(partition, query)
            except DamageFound as error:
                self._stopped(host, error)
                page.missing.append(
                    f"partition {partition.number} of {self._overview.name} (damaged)"
                )
                continue
            timers += [self._overview.timer(partition, *timer) for timer in parked]
        calls = heapq.nsmallest(limit + 1, calls, key=lambda call: call.place)
        timers = heapq.nsmallest(limit + 1 - len(calls), timers, key=lambda timer: timer.place)
        page.calls.extend(calls[:limit])
        page.timers.extend(timers[: max(0, limit - len(calls))])
        page.more = len(calls) + len(timers) > limit
        places = [call.place for call in page.calls] + [timer.place for timer in page.timers]
        page.next = places[-1] if places else asked.after
        return page

    # Decisions.

    async def decide(
        self, target: ObjectKey, decision: cluster_pb2.Decision.ValueType, name: str
    ) -> bool:
        """Carry out what an operator has decided about a parked call or timer.

        Returns:
            Whether there was one. That is durable then.

        Raises:
            NotOwner, DataLoss: The object's partition is not here, or damaged.
            Parked: The call cannot be retried, because its code is gone.
        """
        number = self._owned_partition(target)
        host = self._hosts.find(number)
        partition = host.partition
        if partition.stopped is not None:
            raise DataLoss(number, str(partition.stopped.args[-1]))
        partition.memory.now_ms = self._clock.monotonic_ms()
        try:
            done = self._decide(partition, target, decision, name)
        except DamageFound as error:
            raise self._stopped(host, error) from None
        await self._durable(host)
        return done

    def _decide(
        self,
        partition: Partition,
        target: ObjectKey,
        decision: cluster_pb2.Decision.ValueType,
        name: str,
    ) -> bool:
        journalled = partition.journalled
        if decision == _DROP_CALL:
            return journalled.drop(target)
        if decision == _RETRY_CALL:
            done = journalled.retry(target)
            if not done and (refusal := journalled.refusal(target)) is not None:
                raise Parked(*map(str, refusal.args))
            return done
        memory = partition.memory
        found = (memory.timers.get(target, each) for each in names_meant(name))
        timer = next(filter(None, found), None)
        state = memory.state(target)
        if timer is None or timer.due_ms != PARKED_MS or state is None or state.image is None:
            return False
        if decision == _DROP_TIMER:
            change = TimerChange(timer.name, None)
        else:
            assert decision == _RETRY_TIMER
            now_ms = max(memory.time_ms, self._clock.wall_ms())
            generation = memory.timers.new_generation(partition.recorder.record)
            again = timer._replace(due_ms=now_ms, attempts=0, generation=generation)
            change = TimerChange(timer.name, again)
        partition.recorder.commit_timers(state, [change])
        return True

    def _owned_partition(self, target: ObjectKey) -> int:
        number = partition_of(target, self._partition_count)
        if number not in self._hosts.states:
            raise NotOwner(number, self._hosts.epoch)
        return number

    def _stopped(self, host: Host, error: DamageFound) -> DataLoss:
        self._hosts.stop(host, error)
        return DataLoss(host.partition.number, self._hosts.damaged[host.partition.number])

    async def _durable(self, host: Host) -> None:
        durable = self._loop.create_future()

        def tell() -> None:
            # Whoever has asked may have gone.
            if not durable.done():
                durable.set_result(None)

        host.partition.hold_all(tell)
        self._note(host)
        await durable
