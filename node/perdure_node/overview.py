"""What a node tells operators of itself, in the words of the wire."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from perdure.bodies import unpack_error, unpack_reply
from perdure.errors import error_from_wire
from perdure.ids import CallId, ObjectKey, partition_session_id
from perdure.objects import all_types
from perdure.sent import shown_name
from perdure.serving import backend
from perdure.wire.v1 import cluster_pb2
from perdure_node.core.firing import PARKED_MS
from perdure_node.core.inspection import CallFacts, ObjectFacts, StepFacts, timer_place

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.schedules import TimerSetting
    from perdure_node.clock import Clock
    from perdure_node.core.partition import Partition
    from perdure_node.core.residents import Residents
    from perdure_node.hosts import Hosts
    from perdure_node.services import Services
    from perdure_node.settings import NodeSettings
    from perdure_node.turn import MethodTurn

__all__ = ["Overview"]


class Overview:
    """Puts together what the parts of one node know."""

    def __init__(
        self,
        settings: NodeSettings,
        cluster_id: str,
        partition_count: int,
        hosts: Hosts,
        residents: Residents,
        client: Client,
        services: Services,
        clock: Clock,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._cluster_id = cluster_id
        self._partition_count = partition_count
        self._hosts = hosts
        self._residents = residents
        self._client = client
        self._services = services
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    def node(self) -> backend.Description:
        """Describe the node's partitions, counters and types."""
        hosts, settings = self._hosts, self._settings
        counters = self._residents.counters
        node = backend.NodeDescription(
            settings.name,
            settings.listen,
            True,
            [
                backend.PartitionDescription(number, hosts.epoch, self._state(number))
                for number in sorted(hosts.states)
            ],
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
                name, [backend.MethodDescription(*row) for row in object_type.describe()]
            )
            for name, object_type in sorted(all_types().items())
        ]
        return backend.Description(
            self._cluster_id, self._partition_count, settings.name, "node", [node], types
        )

    def _state(self, number: int) -> str:
        if self._hosts.is_damaged(number):
            return "damaged"
        return "serving" if self._hosts.is_served(number) or self._settings.lazy else "opening"

    def fill(
        self,
        answer: cluster_pb2.Inspection,
        partition: Partition,
        target: ObjectKey,
        facts: ObjectFacts,
    ) -> None:
        """Put what was found of an object into an answer."""
        answer.held_up = facts.held_up
        answer.exists = facts.exists
        answer.resident = facts.resident
        answer.running.extend(self.call(partition, call) for call in facts.running)
        answer.running_count = facts.running_count
        answer.waiting_count = facts.waiting_count
        if facts.oldest_waiting is not None:
            answer.oldest_waiting.CopyFrom(self.call(partition, facts.oldest_waiting))
        answer.timers.extend(self.timer(partition, target, timer) for timer in facts.timers)
        answer.timer_count = facts.timer_count

    def call(self, partition: Partition, facts: CallFacts) -> cluster_pb2.OpenCall:
        """Describe a call that is not over."""
        call_id, reason = facts.call_id, facts.reason
        if facts.origin is not None:
            origin = self._origin(partition, facts.origin)
            call_id, reason = str(origin), self._way_of(origin)
        turn = None if facts.call is None else facts.call.turn
        return cluster_pb2.OpenCall(
            type=facts.key.type,
            id=facts.key.id,
            method=facts.method,
            kind=facts.kind,
            state=facts.state,
            call_id=call_id,
            timer=facts.timer,
            age_ms=facts.age_ms,
            resumed=facts.resumed,
            journalled=facts.journalled,
            steps_done=facts.steps_done,
            steps=[self._step(partition, turn, step) for step in facts.steps],
            steps_open=facts.steps_open,
            reason=reason,
            chain=facts.chain,
            node=self.name,
            partition=partition.number,
            place=facts.place,
        )

    def timer(
        self, partition: Partition, key: ObjectKey, timer: TimerSetting
    ) -> cluster_pb2.OpenTimer:
        """Describe a timer."""
        parked = timer.due_ms == PARKED_MS
        return cluster_pb2.OpenTimer(
            type=key.type,
            id=key.id,
            name=shown_name(timer.name),
            method=timer.method,
            due_in_ms=0 if parked else max(0, timer.due_ms - self._clock.wall_ms()),
            parked=parked,
            attempts=timer.attempts,
            node=self.name,
            partition=partition.number,
            place=timer_place(key, timer),
        )

    def _step(
        self, partition: Partition, turn: MethodTurn | None, facts: StepFacts
    ) -> cluster_pb2.OpenStep:
        step = cluster_pb2.OpenStep(
            number=facts.number, kind=facts.kind, name=facts.name, attempt=1
        )
        now_s = self._loop.time()
        asked_s = turn.steps.asked.get(facts.number) if turn is not None else None
        if asked_s is not None:
            step.age_ms = round((now_s - asked_s) * 1_000)
        if facts.due_ms is not None:
            step.next_ms = max(0, facts.due_ms - self._clock.wall_ms())
        if facts.target is not None:
            step.type, step.id = facts.target
        if facts.origin is not None:
            sent = self._client.open_call(self._origin(partition, facts.origin))
            if sent is not None:
                step.attempt = sent.attempts + (1 if sent.retry_ms is None else 0) or 1
                step.failure = _failure_of(sent.refusal)
                if sent.retry_ms is not None:
                    step.next_ms = max(0, sent.retry_ms - round(now_s * 1_000))
        elif facts.kind == "service" and turn is not None:
            key = f"{turn.context.idempotency_key}/{facts.number}"
            standing = self._services.standing.get(key)
            if standing is not None:
                step.attempt, step.failure = standing.attempt, standing.failure
                if standing.again_s is not None:
                    step.next_ms = max(0, round((standing.again_s - now_s) * 1_000))
        return step

    def _origin(self, partition: Partition, place: tuple[int, int]) -> CallId:
        return CallId(partition_session_id(self._cluster_id, partition.number), *place)

    def _way_of(self, origin: CallId) -> str:
        """Return why a call that leaves has not arrived."""
        sent = self._client.open_call(origin)
        if sent is None:
            return "it is about to be sent"
        if sent.refusal is not None and not sent.copies:
            return _failure_of(sent.refusal)
        if sent.copies:
            return "it was sent, and its target has not answered yet"
        return "it waits to be sent: nobody can be reached, or others are before it"


def _failure_of(refusal: tuple[int, bytes] | None) -> str:
    if refusal is None:
        return ""
    code, body = refusal
    return str(error_from_wire(code, unpack_error(unpack_reply(body).payload)))


def _rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
