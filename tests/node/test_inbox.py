"""Who is refused when more calls come than run: nobody in a burst, most in an overload."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.errors import Code
from perdure.frames import AnswerFrame, CallFrame, Encoding, Kind, Request, pack_request
from perdure.ids import partition_session_id
from perdure_node.core.limits import Limits
from perdure_node.inbox import PIECE_CALLS, Inbox

LIMITS = Limits(inbox_calls_max=4_096)
CLIENT = bytes(range(16))
PARTITION = partition_session_id("cluster", 3)
LATE_MS = LIMITS.late_ms + 1
BATCH = 512


@dataclass
class Hands:
    """A clock that is set by hand."""

    now_ms: int = 1_000_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms


@dataclass
class Refusals:
    """Takes the answers of calls that do not wait."""

    answers: list[AnswerFrame] = field(default_factory=list)
    closed: bool = False

    def send(self, frame: AnswerFrame) -> None:
        self.answers.append(frame)


class Door:
    """An inbox, with the numbers of the calls that wait there."""

    def __init__(self) -> None:
        self.clock = Hands()
        self.inbox = Inbox(LIMITS, self.clock, "n1")
        self.sink = Refusals()
        self._number = 0

    def come(
        self, count: int, kind: Kind = Kind.CALL, session: bytes = CLIENT, arguments: bytes = b""
    ) -> None:
        frames: list[CallFrame] = []
        for _ in range(count):
            self._number += 1
            body = pack_request(_request(kind, session, self._number, arguments))
            frames.append(CallFrame(self._number, 3, 30_000, body))
        self.inbox.put(frames, self.sink)

    def run(self, pieces: int) -> list[int]:
        return [
            frame.number
            for _ in range(min(pieces, len(self.inbox.pieces)))
            for frame in self.inbox.take()[0]
        ]

    def overload(self) -> None:
        """More calls come than run, for as long as no burst takes."""
        self.come(BATCH)
        for _ in range(LIMITS.burst_ms // 500 + 4):
            self.clock.now_ms += 500
            self.come(PIECE_CALLS)
            self.come(PIECE_CALLS)
            self.run(1)

    @property
    def waiting(self) -> int:
        return sum(len(frames) for frames, _, _ in self.inbox.pieces)


def _request(kind: Kind, session: bytes, sequence: int, arguments: bytes) -> Request:
    method = "add" if kind == Kind.CALL else ""
    encoding = Encoding.MSGPACK
    return Request(
        kind,
        session,
        sequence,
        0,
        [0],
        "Counter",
        "a",
        method,
        encoding,
        arguments,
        None,
        None,
        [],
        0,
    )


def test_a_burst_waits_in_order_and_nobody_is_refused() -> None:
    door = Door()
    for _ in range(4):
        door.come(BATCH)
    # The first ones are late after a second; then it may go on for as long as a burst may.
    for _ in range((LATE_MS + LIMITS.burst_ms) // 500):
        door.clock.now_ms += 500
        door.come(1)

    numbers = door.run(1_000)
    assert numbers == list(range(1, len(numbers) + 1))
    assert door.sink.answers == []


def test_no_more_wait_than_the_limit_says_even_in_a_burst() -> None:
    door = Door()
    for _ in range(10):
        door.come(BATCH)

    assert door.waiting == LIMITS.inbox_calls_max
    refused = [answer.number for answer in door.sink.answers]
    assert refused == list(range(LIMITS.inbox_calls_max + 1, 10 * BATCH + 1))
    assert {answer.code for answer in door.sink.answers} == {Code.BACKPRESSURE}


def test_in_an_overload_only_few_wait_and_who_comes_is_refused_at_once() -> None:
    door = Door()
    door.overload()
    waiting, refused = door.waiting, len(door.sink.answers)

    door.come(BATCH)

    assert door.waiting == waiting
    assert len(door.sink.answers) == refused + BATCH
    while door.waiting > BATCH - PIECE_CALLS:
        door.run(1)
    door.come(BATCH)
    assert door.waiting == BATCH, "who runs makes room"


def test_an_overload_is_over_when_nobody_had_to_be_refused_for_a_second() -> None:
    door = Door()
    door.overload()
    door.come(1)
    door.run(1_000)
    refused = len(door.sink.answers)
    assert refused

    for _ in range(3):
        door.clock.now_ms += 600
        door.come(BATCH)
        door.run(1_000)
    door.come(4 * BATCH)

    before = len(door.sink.answers)
    door.come(BATCH)
    assert len(door.sink.answers) == before, "a burst may wait again"


def test_calls_that_are_late_once_and_then_in_time_are_no_overload() -> None:
    door = Door()
    for _ in range(3 * LIMITS.burst_ms // LATE_MS):
        door.come(BATCH)
        door.clock.now_ms += LATE_MS
        door.come(PIECE_CALLS)
        door.run(1_000)
        door.come(BATCH)
        door.come(PIECE_CALLS)
        door.run(1_000)

    assert door.sink.answers == []


def test_what_others_wait_for_is_never_refused() -> None:
    door = Door()
    door.overload()
    while door.waiting < BATCH:
        door.come(1)
    refused, waiting = len(door.sink.answers), door.waiting

    for kind in (Kind.CANCEL, Kind.RESUME, Kind.NOTIFY, Kind.WAKE, Kind.ASK, Kind.PROBE):
        door.come(1, kind)
    door.come(1, session=PARTITION)

    assert door.waiting == waiting + 7
    assert len(door.sink.answers) == refused


def test_large_calls_do_not_fill_memory_nobody_reads_on_before_they_run() -> None:
    door = Door()
    for _ in range(4):
        door.come(BATCH, arguments=bytes(2_000))
    assert not door.inbox.is_full
    door.come(BATCH, arguments=bytes(2_000))
    assert door.inbox.is_full
    door.run(BATCH // PIECE_CALLS)
    assert not door.inbox.is_full
