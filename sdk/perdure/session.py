"""What a client sends, sends again and believes: the caller's half of exactly once.

Deterministic and free of I/O: calls, answers, streams and the time come in as method calls; what
to send comes out of `take_frames`, what to tell the callers out of `take_ended`.

Invariants:
  * A call has one id for ever (session id, partition, sequence); every frame for it is a copy.
    The sequences of a session id to a partition have no gaps.
  * Every frame carries all that is settled (answered or given up) between its session id and its
    partition. So a server knows that a call was given up before it sees a later one.
  * A call names the latest earlier call to the same object that is still open, and must not run
    before that one: order survives lost streams and detours.
  * A copy is open until it is answered; on a stream that broke it is open for ever. "It did not
    run" is believed, and told, only when no copy is open.
  * A session id is used for new calls for an hour and for copies for a day: servers remember it
    for longer. A call of a new id waits until no call of an old id to its object is open.
  * A call that leaves a partition has its id from there, and is settled when `confirm` says so:
    see `origins`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from perdure.confirmations import Confirmations
from perdure.deadlines import Deadlines
from perdure.errors import Code
from perdure.frames import TIME_LEFT_MAX_MS, AnswerFrame, CallFrame, Kind, new_call_frame
from perdure.given_up import give_up, left_behind, overloaded, too_old
from perdure.ids import (
    SESSION_ID_BYTES,
    CallId,
    ObjectKey,
    new_session_id,
    partition_of,
    session_birth_ms,
)
from perdure.lane import Lane, Window
from perdure.open_call import Ended, OpenCall, by_serial
from perdure.origins import LaneKey, Origins
from perdure.refusals import REFUSALS, pack_refusal
from perdure.retries import Retries
from perdure.session_limits import SessionLimits

__all__ = ["Ended", "Session", "SessionLimits"]

T = TypeVar("T")
_NEVER_QUEUED: Final = frozenset((Kind.CANCEL, Kind.ASK))
_ASK: Final = int(Kind.ASK)
_new_call_frame: Final = new_call_frame

_CLOCK_STEP_MS: Final = 60_000
"""A wall clock may be set back by so much without a new session id."""


class Session(Generic[T]):
    """All calls of one client, over any number of streams, one at a time.

    `T` is what the user of this class ties to each call. Times are milliseconds: `now_ms` of a
    clock that never goes back, `wall_ms` of the wall clock, by which servers forget sessions.
    """

    def __init__(
        self, entropy: Callable[[int], bytes], limits: SessionLimits | None = None
    ) -> None:
        self._limits = limits or SessionLimits()
        self._entropy = entropy
        self._id: bytes | None = None
        self._cluster: tuple[str, int] | None = None
        self._streaming = False
        self._away = "not connected yet"
        self._now_ms = 0
        self._count = 0
        self._serial = 0
        self._number = 0

        self._arrived: dict[OpenCall[T], None] = {}
        self._lanes: dict[LaneKey, Lane[T]] = {}
        self.origins: Origins[T] = Origins(self._lanes)
        """Of the calls that leave partitions."""
        self._roomy: dict[Lane[T], None] = {}
        self._tails: dict[ObjectKey, OpenCall[T]] = {}
        self._held: dict[ObjectKey, dict[OpenCall[T], None]] = {}
        self._released: list[ObjectKey] = []

        self._ready: list[OpenCall[T]] = []
        self._retries: Retries[T] = Retries()
        self._sent: dict[int, OpenCall[T]] = {}
        self._deadlines: Deadlines[OpenCall[T]] = Deadlines()
        self._confirmations = Confirmations(self._limits.confirm_ms)
        self._ended: list[Ended[T]] = []

        self.wants_frames = False
        """Whether there is something for `take_frames` to return."""

    @property
    def open_count(self) -> int:
        """Calls without an answer."""
        return self._count

    @property
    def next_ms(self) -> int | None:
        """When to call `tick` next."""
        due_ms = self._deadlines.next_ms
        for other_ms in (self._retries.next_ms, self._confirmations.next_ms):
            if other_ms is not None and (due_ms is None or other_ms < due_ms):
                due_ms = other_ms
        return due_ms

    # What comes in.

    def call(self, call: OpenCall[T]) -> None:
        """Take a new call, which takes its place in the order now."""
        if call.origin is not None:
            self._roomy[self.origins.take(call)] = None
        elif self._count < self._limits.open_calls_max:
            self._arrived[call] = None
            call.place = self._arrived
        else:
            call.ended = True
            self._ended.append((call.token, *overloaded()))
            return
        self._count += 1
        self._serial += 1
        call.serial = self._serial
        self._deadlines.add(call)
        self.wants_frames = True

    def confirm(self, origin: CallId) -> None:
        """Settle a call that left a partition: nothing will ever ask for its outcome again.

        A call without an answer is given up. One that is settled already stays as it is.
        """
        lane = self.origins.lane(origin)
        if lane is None or origin.sequence not in lane.unsettled:
            return
        call = lane.settle(origin.sequence)
        if call is not None:
            self._sent.pop(call.number, None)
            self._end(call, *pack_refusal(Code.DEADLINE_EXCEEDED, f"{call} was given up"))
            self._confirmations.make_urgent(lane.window)
            self.wants_frames = True
        if lane.queue:
            self._make_room(lane)
        if not lane.window.untold:
            self._confirmations.note(lane.window, self._now_ms)

    def resume_origin(
        self, session: bytes, partition: int, next_sequence: int, open_sequences: Iterable[int]
    ) -> None:
        """Take over a partition's calls to another one: see `Origins.resume`."""
        window = self.origins.resume(session, partition, next_sequence, open_sequences)
        if window.last:
            # Whoever settled them has perhaps not come to tell it.
            self._confirmations.note(window, self._now_ms)

    def leave_origin(self, session: bytes | None) -> None:
        """Let go of a partition that somebody else owns from now on, or nobody; None: of all.

        Its calls here end with `OWNER_LOST`, and nothing is settled by that.
        """
        for lane in self.origins.leave(session):
            for call in [*lane.open, *lane.queue]:
                self._sent.pop(call.number, None)
                self._end(call, *pack_refusal(Code.OWNER_LOST, f"{call}: its caller moved away"))
            self._roomy.pop(lane, None)

    def opened(self, cluster_id: str, partition_count: int) -> None:
        """A stream is open: everything without an answer is sent on it, in order.

        Or frames go another way than before on the one that is: some may be lost.
        """
        cluster = (cluster_id, partition_count)
        if self._cluster != cluster:
            if self._cluster is not None:
                self._leave_cluster(cluster_id)
            self._cluster = cluster
        if not self._streaming:
            self._streaming = True
            for lane in self._lanes.values():
                self._ready += lane.open
                lane.begin_anew()
            self.wants_frames = True
        else:
            self._confirmations.note_again(self._lanes.values(), self._now_ms)

    def lost(self, why: str) -> None:
        """The stream is gone. Its unanswered copies may arrive at any time, or never."""
        self._away = why
        if not self._streaming:
            return
        self._streaming = False
        for call in self._sent.values():
            call.lost = True
            call.copies = 0
        self._sent.clear()
        self._ready.clear()
        self._retries.clear()
        self._confirmations.note_again(self._lanes.values(), self._now_ms)

    def answered(self, frames: Iterable[AnswerFrame], now_ms: int) -> None:
        """Take answers that came on the present stream."""
        self._now_ms = now_ms
        sent = self._sent
        for number, code, body in frames:
            call = sent.pop(number, None)
            if call is None:
                continue
            call.copies -= 1
            if call.ended:
                continue
            if code:
                if code in REFUSALS or (code == Code.SESSION_EXPIRED and call.origin is not None):
                    self._refused(call, code, body)
                    continue
                window = call.window
                if code == Code.SESSION_EXPIRED and window and window.session is self._id:
                    self._id = None
            self._end(call, code, body)

    def tick(self, now_ms: int) -> None:
        """Let time pass: calls whose time is over are given up."""
        self._now_ms = now_ms
        for call in self._deadlines.take_due(now_ms):
            if not call.outlives_deadline:
                self._give_up(call)
        retry_ms = self._retries.next_ms
        if retry_ms is not None and retry_ms <= now_ms:
            self.wants_frames = True
        confirm_ms = self._confirmations.next_ms
        if confirm_ms is not None and confirm_ms <= now_ms:
            self.wants_frames = self._confirmations.note_idle(now_ms) or self.wants_frames

    def confirm_all(self) -> None:
        """Tell servers of every answer that came, with the next frames: the client ends."""
        self._confirmations.make_all_urgent()
        self.wants_frames = True

    def abandon(self) -> int:
        """Give up every call, as at its deadline. Return how many there were."""
        sent = [call for lane in self._lanes.values() for call in lane.open]
        calls = [*self._arrived, *self._waiting(), *sent]
        for call in calls:
            self._give_up(call)
        return len(calls)

    # What comes out.

    def take_ended(self) -> list[Ended[T]]:
        """Return the calls that have ended since the last time."""
        ended, self._ended = self._ended, []
        return ended

    def take_frames(self, now_ms: int, wall_ms: int) -> list[CallFrame]:
        """Return what is to be sent now, in this order."""
        self._now_ms = now_ms
        self.wants_frames = False
        if not self._streaming:
            return []
        self._renew(wall_ms)
        self._number_calls()
        retries = self._retries.take_due(now_ms)
        if retries:
            self._ready = sorted(self._ready + retries, key=by_serial)
        ready, self._ready = self._ready, []
        frames: list[CallFrame] = []
        for call in ready:
            if not call.ended:
                self._send(call, frames, wall_ms)
        frames += self._confirmations.take_frames(now_ms)
        return frames

    # Numbering.

    def _renew(self, wall_ms: int) -> None:
        id = self._id
        if id is not None:
            age_ms = wall_ms - session_birth_ms(id)
            if -_CLOCK_STEP_MS <= age_ms < self._limits.new_calls_ms:
                return
        self._id = new_session_id(wall_ms, self._entropy(SESSION_ID_BYTES - 6))

    def _number_calls(self) -> None:
        """Let calls that wait go on their way, as far as there is room."""
        if self._released:
            self._release()
        if self._roomy:
            roomy, self._roomy = self._roomy, {}
            for lane in roomy:
                if lane.unsorted:
                    self.origins.sort(lane)
                while lane.queue and lane.busy + lane.kept < self._limits.sent_calls_max:
                    self._depart(lane.queue.popitem(last=False)[0], lane)
        if self._arrived:
            arrived, self._arrived = self._arrived, {}
            for call in arrived:
                self._enter(call)

    def _enter(self, call: OpenCall[T]) -> None:
        lane = self._lane_of(call)
        full = lane.queue or lane.busy >= self._limits.sent_calls_max
        # What ends calls does not wait for the calls that it may have to end.
        if full and call.kind not in _NEVER_QUEUED:
            if not lane.put(call, self._now_ms):
                self._end(call, *overloaded())
        else:
            self._depart(call, lane)

    def _lane_of(self, call: OpenCall[T]) -> Lane[T]:
        assert self._cluster is not None
        partition = call.partition
        if partition is None:
            call.partition = partition = partition_of(call.target, self._cluster[1])
        lane = self._lanes.get(partition)
        if lane is None:
            assert self._id is not None
            lane = self._lanes[partition] = Lane(Window(self._id, partition))
        return lane

    def _depart(self, call: OpenCall[T], lane: Lane[T]) -> None:
        window = lane.window
        before = None
        if call.origin is not None:
            before = self.origins.link(call)
        else:
            if window.session is not self._id:
                assert self._id is not None
                window = lane.window = Window(self._id, lane.partition)
            if not call.is_unnumbered:
                target = call.target
                before = self._tails.get(target)
                if before is not None and before.window is not window:
                    # Order holds within one session id only.
                    self._hold(call)
                    return
                if self._held and target in self._held:
                    self._hold(call)
                    return
                self._tails[target] = call
                call.before = before
                window.last += 1
                call.sequence = window.last
        call.window = window
        if call.when_numbered is not None:
            call.when_numbered()
        call.lane = lane
        lane.open[call] = None
        lane.patient += call.kind == _ASK
        call.place = lane.open
        if before is not None and before.retry_ms is not None:
            self._retry_at(call, before.retry_ms)
        else:
            self._ready.append(call)

    def _hold(self, call: OpenCall[T]) -> None:
        held = self._held.setdefault(call.target, {})
        held[call] = None
        call.place = held

    def _release(self) -> None:
        """Put calls that were held at the head of their queues: they are older than the rest."""
        for target in self._released:
            for call in reversed(self._held.pop(target, {})):
                lane = self._lane_of(call)
                lane.put_first(call, self._now_ms)
                self._roomy[lane] = None
        self._released.clear()

    # Sending.

    def _send(self, call: OpenCall[T], frames: list[CallFrame], wall_ms: int) -> None:
        window = call.window
        assert window is not None
        left_ms = TIME_LEFT_MAX_MS
        if call.deadline_ms is not None:
            left_ms = min(call.deadline_ms - self._now_ms, TIME_LEFT_MAX_MS)
            if left_ms <= 0:
                if not call.outlives_deadline:
                    self._give_up(call)
                    return
                # Its target knows from the body by when it had to start, and may be running it.
                left_ms = TIME_LEFT_MAX_MS
        if call.lost and wall_ms - session_birth_ms(window.session) >= self._limits.copies_ms:
            self._end(call, *too_old(call))
            return
        body = call.body()
        if len(body) > self._limits.call_bytes_max:
            text = f"{call} has {len(body)} bytes, the limit is {self._limits.call_bytes_max}"
            self._refused(call, *pack_refusal(Code.MESSAGE_TOO_LARGE, text))
            return
        self._number = call.number = number = self._number + 1
        self._sent[number] = call
        call.copies += 1
        window.untold = False
        window.sent_ms = self._now_ms
        frames.append(_new_call_frame((number, window.partition, left_ms, body)))

    def _retry_at(self, call: OpenCall[T], due_ms: int) -> None:
        self._retries.add(call, due_ms)
        self.wants_frames = self.wants_frames or due_ms <= self._now_ms

    # Ending.

    def _refused(self, call: OpenCall[T], code: int, body: bytes) -> None:
        """One copy of the call did not run (or, when its owner was lost, perhaps it did)."""
        call.refusal = (code, body)
        if code == Code.OWNER_LOST or (code == Code.DEADLINE_EXCEEDED and call.origin is not None):
            call.lost = True
        if call.copies:
            return  # Another copy will tell.
        if call.is_ended_by(code):
            self._end(call, code, body)
        else:
            self._retry(call, code)

    def _retry(self, call: OpenCall[T], code: int) -> None:
        call.attempts += 1
        if code == Code.OUT_OF_ORDER and call.attempts <= self._limits.prompt_retries:
            before = call.open_before()
            if before is not None and before.retry_ms is not None:
                self._retry_at(before, self._now_ms)
            self._retry_at(call, self._now_ms)
            return
        limits = self._limits
        wait_ms = min(limits.retry_min_ms << min(call.attempts - 1, 20), limits.retry_max_ms)
        self._retry_at(call, self._now_ms + wait_ms)

    def _give_up(self, call: OpenCall[T]) -> None:
        count = None if self._cluster is None else self._cluster[1]
        self._sent.pop(call.number, None)
        self._end(call, *give_up(call, count, self._away if not self._streaming else None))

    def _end(self, call: OpenCall[T], code: int, body: bytes) -> None:
        call.ended = True
        self._count -= 1
        self._ended.append((call.token, code, body))
        self._deadlines.discard(call)
        assert call.place is not None
        del call.place[call]
        lane = call.lane
        if lane is None:
            return
        lane.patient -= call.kind == _ASK
        if lane.queue:
            self._make_room(lane)
        if call.origin is not None:
            self.origins.unlink(call)
        elif not call.is_unnumbered:
            self._settle(call, ran=code not in REFUSALS)

    def _make_room(self, lane: Lane[T]) -> None:
        self._roomy[lane] = None
        self.wants_frames = True

    def _settle(self, call: OpenCall[T], *, ran: bool) -> None:
        window = call.window
        assert window is not None
        window.settled.add(call.sequence)
        if not window.untold:
            self._confirmations.note(window, self._now_ms)
        before = call.before
        if before is not None:
            before = call.open_before()
        target = call.target
        if self._tails[target] is not call:
            if not ran:
                # The next call waits at a server for this one, which will not come.
                self._confirmations.make_urgent(window)
                self.wants_frames = True
        elif before is not None:
            self._tails[target] = before
        else:
            del self._tails[target]
            if self._held and target in self._held:
                self._released.append(target)
                self.wants_frames = True

    def _leave_cluster(self, cluster_id: str) -> None:
        """The address now belongs to another cluster, which has seen none of our calls."""
        for lane in self._lanes.values():
            for call in [*lane.open, *(call for call in lane.queue if call.origin is not None)]:
                self._end(call, *left_behind(call, cluster_id))
        waiting = sorted([*self._waiting(), *self._arrived], key=by_serial)
        self._arrived = dict.fromkeys(waiting)
        for call in self._arrived:
            call.place = self._arrived
            if call.kind != Kind.LIST:
                call.partition = None
        self._lanes.clear()
        self._roomy.clear()
        self._held.clear()
        self._released.clear()
        self._confirmations.clear()
        self._id = None

    def _waiting(self) -> list[OpenCall[T]]:
        """Calls that know their partition and are not on their way."""
        queued = [call for lane in self._lanes.values() for call in lane.queue]
        return queued + [call for held in self._held.values() for call in held]
