"""Calls that leave a partition: their ids come from its journal, and outlive every process.

Invariants:
  * Each is numbered by its caller, per session of a partition and target partition. The number
    is in the journal before the call is made, so the call has the same one in every life.
  * It is settled when its caller says so, and not before: until then its outcome stays at the
    target, for a caller that has to ask again.
  * A call that was open when another process resumed the partition may have been sent by an
    earlier one: a copy of it is open for ever.
  * Calls to one object are ordered by their numbers, whichever is made first after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeAlias, TypeVar

from perdure.ids import CallId, ObjectKey
from perdure.lane import Lane, Window
from perdure.open_call import OpenCall
from perdure.settled import Settled

__all__ = ["LaneKey", "OriginLane", "Origins"]

T = TypeVar("T")

LaneKey: TypeAlias = int | tuple[bytes, int]
"""What a lane leads to: a partition, for a client's own calls; else (session, partition)."""


class OriginLane(Lane[T]):
    """The calls of one partition to another one, in the order of their numbers."""

    __slots__ = ("tails", "unsettled")

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self.tails: dict[ObjectKey, OpenCall[T]] = {}
        """Of each object, the open call with the highest number on its way."""
        self.unsettled: dict[int, OpenCall[T] | None] = {}
        """By number; None: it was open when the partition was resumed, and is not made yet."""

    def settle(self, sequence: int) -> OpenCall[T] | None:
        """Settle an unsettled number. Return its call if that has no answer, and has to end."""
        call = self.unsettled.pop(sequence)
        self.window.settled.add(sequence)
        if call is None or not call.ended:
            return call
        if call.lane is not None:
            self.kept -= 1
        return None


class Origins(Generic[T]):
    """The lanes of all partitions that call through one client."""

    def __init__(self, lanes: dict[LaneKey, Lane[T]]) -> None:
        """Begin without any.

        Args:
            lanes: Where to keep them, among others.
        """
        self._lanes = lanes

    def lane(self, origin: CallId) -> OriginLane[T] | None:
        """Return the lane of a call; None: there is none."""
        lane = self._lanes.get((origin.session, origin.partition))
        return lane if isinstance(lane, OriginLane) else None

    def find(self, origin: CallId) -> OpenCall[T] | None:
        """Return a call that has no answer; None: it has, or was not made here."""
        lane = self.lane(origin)
        call = None if lane is None else lane.unsettled.get(origin.sequence)
        return None if call is None or call.ended else call

    def take(self, call: OpenCall[T]) -> OriginLane[T]:
        """Put a new call into the queue of its lane, which is returned.

        Raises:
            ValueError: It has been made already, is settled, or has no number.
        """
        origin = call.origin
        assert origin is not None
        lane = self.lane(origin) or self._open(Window(origin.session, origin.partition))
        sequence = origin.sequence
        resumed = sequence in lane.unsettled
        if call.is_unnumbered or sequence < 1 or sequence in lane.window.settled:
            raise ValueError(f"{call} cannot be call {origin}: it is a read, or that is settled")
        if lane.unsettled.get(sequence) is not None:
            raise ValueError(f"call {origin} has been made already")
        lane.unsettled[sequence] = call
        call.lost = resumed
        call.sequence = sequence
        call.partition = origin.partition
        if lane.queue and next(reversed(lane.queue)).sequence > sequence:
            lane.unsorted = True
        lane.queue[call] = None
        call.place = lane.queue
        return lane

    def _open(self, window: Window) -> OriginLane[T]:
        lane: OriginLane[T] = OriginLane(window)
        self._lanes[window.session, window.partition] = lane
        return lane

    def sort(self, lane: Lane[T]) -> None:
        """Bring a queue into the order of the numbers."""
        for call in sorted(lane.queue, key=lambda call: call.sequence):
            lane.queue.move_to_end(call)
        lane.unsorted = False

    def link(self, call: OpenCall[T]) -> OpenCall[T] | None:
        """Give a call that goes on its way its place in the order. Return the one before it."""
        assert call.origin is not None
        lane = self.lane(call.origin)
        assert lane is not None
        tail = lane.tails.get(call.target)
        after, before = None, tail
        # Only after a crash there may be calls with higher numbers already.
        while before is not None and before.sequence > call.sequence:
            after, before = before, before.open_before()
        call.before = before
        if after is None:
            lane.tails[call.target] = call
        else:
            after.before = call
        window = lane.window
        window.last = max(window.last, call.sequence)
        return before

    def unlink(self, call: OpenCall[T]) -> None:
        """Take a call that has ended out of the order, and keep it until it is confirmed."""
        lane = call.lane
        assert isinstance(lane, OriginLane)
        if lane.unsettled.get(call.sequence) is call:
            lane.kept += 1
        if lane.tails.get(call.target) is call:
            before = call.open_before()
            if before is not None:
                lane.tails[call.target] = before
            else:
                del lane.tails[call.target]

    def resume(
        self, session: bytes, partition: int, next_sequence: int, open_sequences: Iterable[int]
    ) -> Window:
        """Take over a partition's calls to another one, before the first of them is made here.

        Args:
            session: The partition's session.
            partition: The target.
            next_sequence: The first number that no call has.
            open_sequences: Those below it that are not settled: they will be sent again or
                confirmed. Everything else below it is settled.

        Returns:
            What is settled.

        Raises:
            ValueError: There are calls of them here already.
        """
        if (session, partition) in self._lanes:
            raise ValueError(f"calls of {session.hex()} to partition {partition} are here already")
        lane = self._open(Window(session, partition))
        lane.unsettled = dict.fromkeys(open_sequences)
        lane.window.settled = Settled.up_to(next_sequence - 1, lane.unsettled)
        lane.window.last = next_sequence - 1
        return lane.window

    def leave(self, session: bytes | None) -> list[OriginLane[T]]:
        """Take out and return the lanes of a session; None: of all."""
        left: list[OriginLane[T]] = []
        for key, lane in list(self._lanes.items()):
            if isinstance(lane, OriginLane) and session in (None, lane.window.session):
                del self._lanes[key]
                left.append(lane)
        return left
