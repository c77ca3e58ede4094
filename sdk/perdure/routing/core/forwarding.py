"""Which node each call is sent to, when it is sent again, and what its caller is told.

Deterministic and free of I/O. Events go in through the methods of `Forwarding`; what they cause
comes out of `take`. Bodies pass through unread, so a call that is sent again keeps its id.

A *copy* is one sending of a call to one node. It is open until the node answers it, and for
ever when the stream breaks on which it was sent: it may arrive, wait and run at any later time.

Invariants:
  * A call has at most one copy on a stream that works. `strayed` says that there are others,
    on streams that broke.
  * A caller is told that its call did not run only when no copy of it is open. Otherwise a
    refusal becomes OWNER_LOST (its caller sends it again), or DEADLINE_EXCEEDED at the end.
  * Each call with a number is answered exactly once.
  * Calls of one partition leave in the order they came, those that are sent again included,
    as long as the partition does not change its owner.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from perdure.bodies import pack_error, pack_reply
from perdure.errors import (
    KINDS,
    BadArguments,
    BadKey,
    BadObjectId,
    BadPayload,
    CallRejected,
    Code,
    DeadlineExceeded,
    NoOwner,
    OutcomeUnknown,
    Overloaded,
    PerdureError,
    TooLarge,
    UnknownMethod,
    UnknownType,
    code_of,
)
from perdure.frames import TIME_LEFT_MAX_MS, AnswerFrame, CallFrame, new_call_frame
from perdure.routing.core.limits import ForwardingLimits

__all__ = ["Caller", "Forwarding", "Work"]

_new_call_frame: Final = new_call_frame

_SENT_AGAIN: Final = frozenset(
    {int(Code.NOT_OWNER), int(Code.NO_OWNER), int(Code.DRAINING), int(Code.OWNER_LOST)}
)
"""Answers of a node that the caller does not get to see before its deadline."""

_REQUEST_IS_WRONG: Final = (
    BadPayload,
    BadObjectId,
    BadKey,
    BadArguments,
    TooLarge,
    UnknownType,
    UnknownMethod,
)

_REFUSALS: Final = frozenset(
    int(code)
    for code, kind in KINDS.items()
    if issubclass(kind.error, CallRejected) or kind.error in _REQUEST_IS_WRONG
)
"""Answers that mean: this copy did not run. They say nothing about other copies."""


class Caller(Protocol):
    """Who asked: the stream that a call came in on."""

    @property
    def closed(self) -> bool:
        """True once nobody listens any more."""
        ...


C = TypeVar("C", bound=Caller)


class _Lane(Generic[C]):
    """One partition: its owner, and its calls that cannot be sent now."""

    __slots__ = ("node", "partition", "refusals", "resume_at_ms", "waiting")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.node: str | None = None
        self.waiting: list[_Call[C]] = []
        """In the order in which they came. While it is not empty, new calls queue up here."""
        self.resume_at_ms = 0
        self.refusals = 0
        """Rounds in a row in which the owner refused."""


class _Call(Generic[C]):
    """A call that is not answered."""

    __slots__ = (
        "arrival",
        "body",
        "caller",
        "deadline_ms",
        "give_up_ms",
        "lane",
        "node",
        "number",
        "strayed",
    )

    def __init__(
        self, arrival: int, caller: C, number: int, lane: _Lane[C], deadline_ms: int, body: bytes
    ) -> None:
        self.arrival = arrival
        self.caller = caller
        self.number = number
        self.lane = lane
        self.deadline_ms = deadline_ms
        self.body = body
        self.node: str | None = None
        """Where its copy is."""
        self.strayed = False
        self.give_up_ms = 0
        """When to answer that it did not run, once it has had to wait."""


def _by_arrival(call: _Call[Any]) -> int:
    return call.arrival


class Work(Generic[C]):
    """What events have caused."""

    __slots__ = ("answers", "sends")

    def __init__(self) -> None:
        self.sends: dict[str, list[CallFrame]] = {}
        """By node, in this order."""
        self.answers: list[tuple[C, AnswerFrame]] = []


class Forwarding(Generic[C]):
    """Calls that are not answered, and the nodes that can be reached.

    A *node* is whoever takes calls: also a router, which claims every partition with epoch 0. It
    gets the calls of those that no reachable node claims, because nodes count from 1.
    """

    def __init__(self, partition_count: int, limits: ForwardingLimits) -> None:
        self.waiting_count = 0
        """Calls that wait for an owner: while there are any, `tick` is due every 20 ms."""
        self._limits = limits
        self._lanes: list[_Lane[C]] = [_Lane(partition) for partition in range(partition_count)]
        self._claims: dict[str, Mapping[int, int]] = {}
        self._copies: dict[int, _Call[C]] = {}
        """By the number that the copy bears on its node's stream. Never used twice."""
        self._last_number = 0
        """Of copies and of arrivals: the first copy of a call bears the number of its arrival."""
        self._held_bytes = 0
        self._waiting_bytes = 0
        self._work: Work[C] = Work()

    @property
    def open_count(self) -> int:
        """Calls not answered."""
        return len(self._copies) + self.waiting_count

    def owner(self, partition: int) -> str | None:
        """Return the reachable node that owns a partition."""
        return self._lanes[partition].node if partition < len(self._lanes) else None

    def knows(self, node: str) -> bool:
        """Tell whether a node can be reached."""
        return node in self._claims

    def take(self) -> Work[C]:
        """Return the work caused since the last time, and forget it."""
        work, self._work = self._work, Work[C]()
        return work

    def calls_arrived(self, now_ms: int, frames: Iterable[CallFrame], caller: C) -> None:
        """Take in calls from one stream, in order."""
        lanes = self._lanes
        limits = self._limits
        sends = self._work.sends
        for number, partition, time_left_ms, body in frames:
            if partition >= len(lanes):
                if number:
                    count = len(lanes)
                    self._refuse(caller, number, BadPayload(f"there are {count} partitions"))
                continue
            lane = lanes[partition]
            if number == 0:
                # Nobody waits for it, and what it confirms travels with every later call too.
                if lane.node is not None and not lane.waiting:
                    frame = CallFrame(0, partition, time_left_ms, body)
                    sends.setdefault(lane.node, []).append(frame)
                continue
            if time_left_ms <= 0:
                self._refuse(caller, number, DeadlineExceeded("the deadline had passed"))
                continue
            if self._held_bytes > limits.bytes_max or len(self._copies) >= limits.calls_max:
                self._refuse(caller, number, Overloaded("the router", limits.retry_after_s))
                continue
            self._last_number = arrival = self._last_number + 1
            deadline_ms = now_ms + min(time_left_ms, TIME_LEFT_MAX_MS)
            call = _Call(arrival, caller, number, lane, deadline_ms, body)
            self._held_bytes += len(body)
            if lane.node is None or lane.waiting:
                self._wait(now_ms, call)
            else:
                self._send(now_ms, call, lane.node, arrival)

    def answers_arrived(self, now_ms: int, frames: Iterable[AnswerFrame]) -> None:
        """Take in answers from a node."""
        copies = self._copies
        answers = self._work.answers
        for number, code, body in frames:
            call = copies.get(number)
            if call is None:
                continue
            del copies[number]
            if code in _SENT_AGAIN:
                self._refused(now_ms, call, code)
                continue
            call.lane.refusals = 0
            if call.strayed and code in _REFUSALS:
                self._answer_strayed(call)
                continue
            self._held_bytes -= len(call.body)
            answers.append((call.caller, (call.number, code, body)))

    def node_welcomed(self, now_ms: int, node: str, owned: Mapping[int, int]) -> None:
        """Note that a node can be reached, and what it owns: partitions and their epochs."""
        before = self._claims.get(node, {})
        self._claims[node] = owned
        self._assign(now_ms, before.keys() | owned.keys())

    def node_lost(self, now_ms: int, node: str) -> None:
        """Note that the stream to a node is broken: its open copies have gone astray."""
        owned = self._claims.pop(node, None)
        if owned is None:
            return
        self._work.sends.pop(node, None)
        self._lose(now_ms, [n for n, call in self._copies.items() if call.node == node])
        self._assign(now_ms, owned.keys())

    def recall(self, now_ms: int, node: str) -> None:
        """Send what is at a node and has another owner by now to that one too.

        A router that has calls may have lost sight of the owner for longer than its client has.
        Their copies count as astray from now on.
        """
        overtaken = [
            number
            for number, call in self._copies.items()
            if call.node == node and call.lane.node not in (node, None)
        ]
        for lane in self._lose(now_ms, overtaken):
            self._flush(now_ms, lane)

    def partitions_waiting(self) -> list[int]:
        """Return the partitions with calls that cannot be sent now."""
        return [lane.partition for lane in self._lanes if lane.waiting]

    def tick(self, now_ms: int) -> None:
        """End calls whose time is over, and send again what has waited long enough."""
        latest = now_ms - self._limits.overdue_ms
        overdue = [n for n, call in self._copies.items() if call.deadline_ms <= latest]
        for number in overdue:
            self._expire(self._copies.pop(number), astray=True)
        if not self.waiting_count:
            return
        for lane in self._lanes:
            if lane.waiting:
                self._sweep(now_ms, lane)
                self._flush(now_ms, lane)

    def _send(self, now_ms: int, call: _Call[C], node: str, number: int) -> None:
        self._copies[number] = call
        call.node = node
        frame = _new_call_frame((number, call.lane.partition, call.deadline_ms - now_ms, call.body))
        frames = self._work.sends.get(node)
        if frames is None:
            self._work.sends[node] = [frame]
        else:
            frames.append(frame)

    def _refused(self, now_ms: int, call: _Call[C], code: int) -> None:
        """Send a call again later: its node did not run it, or lost sight of it."""
        lane = call.lane
        if code == Code.OWNER_LOST:
            call.strayed = True
        if not lane.waiting:
            limits = self._limits
            pause_ms = min(limits.retry_first_ms << min(lane.refusals, 16), limits.retry_max_ms)
            lane.resume_at_ms = now_ms + pause_ms
            lane.refusals += 1
        self._wait(now_ms, call)
        if code == Code.NOT_OWNER and call.node == lane.node:
            self._ask_another(now_ms, lane)

    def _ask_another(self, now_ms: int, lane: _Lane[C]) -> None:
        """Believe the owner of a partition that it is none, if somebody else claims it."""
        denier = lane.node
        if denier is None:
            return
        if any(lane.partition in owned for node, owned in self._claims.items() if node != denier):
            owned = self._claims[denier]
            self._claims[denier] = {p: e for p, e in owned.items() if p != lane.partition}
            self._choose(now_ms, lane)

    def _lose(self, now_ms: int, numbers: Iterable[int]) -> Iterable[_Lane[C]]:
        """Take copies for lost, so that their calls wait to be sent again. Return their lanes."""
        lanes: dict[_Lane[C], None] = {}
        for number in numbers:
            call = self._copies.pop(number)
            call.strayed = True
            self._wait(now_ms, call)
            lanes[call.lane] = None
        return lanes

    def _wait(self, now_ms: int, call: _Call[C]) -> None:
        limits = self._limits
        if self._is_over(call, now_ms):
            self._expire(call, astray=call.strayed)
        elif (
            self.waiting_count >= limits.waiting_calls_max
            or self._waiting_bytes + len(call.body) > limits.waiting_bytes_max
        ):
            if call.strayed:
                self._answer_strayed(call)
            else:
                partition = call.lane.partition
                error = Overloaded(f"the owner of partition {partition}", limits.retry_after_s)
                self._end(call, error)
        else:
            insort(call.lane.waiting, call, key=_by_arrival)
            self.waiting_count += 1
            self._waiting_bytes += len(call.body)

    def _is_over(self, call: _Call[C], now_ms: int) -> bool:
        """Tell whether a call that cannot be sent now is to wait no longer."""
        if call.strayed:
            return call.deadline_ms <= now_ms
        if not call.give_up_ms:
            limits = self._limits
            quarter_ms = (call.deadline_ms - now_ms) // 4
            early_ms = min(max(quarter_ms, limits.early_min_ms), limits.early_max_ms)
            call.give_up_ms = call.deadline_ms - early_ms
        return call.give_up_ms <= now_ms

    def _sweep(self, now_ms: int, lane: _Lane[C]) -> None:
        """Take out the calls whose time is over, or whose caller has gone."""
        waiting = lane.waiting
        lane.waiting = []
        for call in waiting:
            if call.caller.closed:
                self._leave(call)
                self._held_bytes -= len(call.body)
            elif self._is_over(call, now_ms):
                self._leave(call)
                self._expire(call, astray=call.strayed)
            else:
                lane.waiting.append(call)

    def _flush(self, now_ms: int, lane: _Lane[C]) -> None:
        """Send what waits, if there is somebody to send it to."""
        node = lane.node
        if node is None or now_ms < lane.resume_at_ms:
            return
        waiting, lane.waiting = lane.waiting, []
        for call in waiting:
            self._leave(call)
            self._last_number += 1
            self._send(now_ms, call, node, self._last_number)

    def _leave(self, call: _Call[C]) -> None:
        self.waiting_count -= 1
        self._waiting_bytes -= len(call.body)

    def _assign(self, now_ms: int, partitions: Iterable[int]) -> None:
        """Give each of these partitions to the node that claims it with the highest epoch."""
        for partition in partitions:
            if partition < len(self._lanes):
                self._choose(now_ms, self._lanes[partition])

    def _choose(self, now_ms: int, lane: _Lane[C]) -> None:
        best, node = -1, None
        for name, owned in self._claims.items():
            epoch = owned.get(lane.partition, -1)
            if epoch > best:
                best, node = epoch, name
        if node != lane.node:
            lane.node = node
            lane.resume_at_ms = now_ms
            lane.refusals = 0
        if lane.waiting:
            self._sweep(now_ms, lane)
            self._flush(now_ms, lane)

    def _expire(self, call: _Call[C], *, astray: bool) -> None:
        if astray:
            self._end(call, DeadlineExceeded("no answer came in time: the call may have run"))
        else:
            self._end(call, NoOwner(call.lane.partition))

    def _answer_strayed(self, call: _Call[C]) -> None:
        self._end(
            call,
            OutcomeUnknown("the connection to the owner broke while the call was there"),
            Code.OWNER_LOST,
        )

    def _end(self, call: _Call[C], error: PerdureError, code: Code | None = None) -> None:
        self._held_bytes -= len(call.body)
        self._refuse(call.caller, call.number, error, code)

    def _refuse(
        self, caller: C, number: int, error: PerdureError, code: Code | None = None
    ) -> None:
        numeral, payload = pack_error(code or code_of(error), error.args)
        self._work.answers.append((caller, (number, numeral, pack_reply(payload))))
