"""Calls of which nobody awaits the answer: they are sent until their target has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from perdure.bodies import unpack_error, unpack_reply
from perdure.context import StepResult
from perdure.errors import Code, error_from_wire
from perdure.frames import Kind
from perdure_node.core.events import OutboxEntry
from perdure_node.core.partition import Partition
from perdure_node.performer import Performer

__all__ = ["arrived", "deliver"]

_log = logging.getLogger("perdure.node")

_DID_NOT_RUN = frozenset((Code.NOT_STARTED, Code.BACKPRESSURE, Code.DISK_FULL, Code.PARKED))


def deliver(
    performer: Performer,
    partition: Partition,
    entry: OutboxEntry,
    flush: Callable[[Partition], None],
) -> None:
    """Send an entry of a partition's outbox until its target has it."""
    performer.send(partition.number, entry).add_done_callback(
        lambda future: arrived(performer, partition, entry, flush, future)
    )


def arrived(
    performer: Performer,
    partition: Partition,
    entry: OutboxEntry,
    flush: Callable[[Partition], None],
    future: asyncio.Future[StepResult],
) -> None:
    """Take the answer to a call of which nobody awaits the result."""
    if future.cancelled() or partition.stopped is not None:
        return  # It is sent again after the next start.
    code, body = future.result()
    again = None
    if _did_not_run(code, entry) and entry.kind != Kind.CANCEL:
        # Whoever made it has been told that it is on its way: it goes again, as another call.
        sequence = partition.memory.underway.next_sequence(entry.partition)
        again = entry._replace(sequence=sequence, start_by_ms=0)
    elif code and entry.kind == Kind.SEND:
        error = error_from_wire(code, unpack_error(unpack_reply(body).payload))
        _log.error("%s.%s was sent and cannot run: %s", entry.target, entry.method, error)
    partition.journalled.delivered(entry, again, lambda: performer.confirm(entry, partition.number))
    if again is not None:
        partition.hold_all(lambda: deliver(performer, partition, again, flush))
    flush(partition)


def _did_not_run(code: int, entry: OutboxEntry) -> bool:
    """Tell whether a call has been refused that may run when it is made again."""
    if code == Code.CALL_CYCLE:
        # A circle of calls is gone with the method that was part of it. A chain stays.
        return list(entry.target) not in [link[:2] for link in entry.chain]
    return code in _DID_NOT_RUN
