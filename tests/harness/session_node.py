"""A partition that is obviously right, to hold sessions against: sets and lists, no short cuts."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.bodies import Request, pack_error, pack_reply, unpack_request
from perdure.errors import Code
from perdure.frames import AnswerFrame, CallFrame, Kind

REFUSALS = (Code.BACKPRESSURE, Code.DRAINING, Code.NOT_OWNER, Code.OBJECT_NOT_FOUND)

WAIT_MS = 50


@dataclass
class Waiting:
    request: Request
    copies: list[tuple[int, int]]


@dataclass
class Window:
    settled: set[int] = field(default_factory=set)
    ended: dict[int, int] = field(default_factory=dict)
    """Sequence to the length of the log that its answer waits for."""
    open: dict[int, Waiting] = field(default_factory=dict)


class SmallNode:
    """Keeps `session_world.Node`."""

    def __init__(self) -> None:
        self.refusing: Code | None = None
        self._log: list[Request] = []
        self._durable = 0
        self._answers: list[tuple[int, AnswerFrame]] = []
        self._forget()

    def _forget(self) -> None:
        self._windows: dict[bytes, Window] = {}
        self._queues: dict[str, list[Waiting]] = {}
        self._held: list[tuple[int, int, CallFrame]] = []
        self._withheld: list[tuple[int, int, int]] = []
        for position, request in enumerate(self._log, 1):
            window = self._window(request)
            window.ended[request.sequence] = position
            self._confirm(window, request.confirmed)

    def _window(self, request: Request) -> Window:
        return self._windows.setdefault(request.session, Window())

    def _confirm(self, window: Window, confirmed: list[int]) -> None:
        window.settled |= set(range(1, confirmed[0] + 1))
        for first, last in zip(confirmed[1::2], confirmed[2::2], strict=True):
            window.settled |= set(range(first, last + 1))
        for sequence in window.settled & window.ended.keys():
            del window.ended[sequence]

    def arrive(self, stream: int, frame: CallFrame, now_ms: int, wall_ms: int) -> None:
        request = unpack_request(frame.body)
        window = self._window(request)
        self._confirm(window, request.confirmed)
        if request.kind != Kind.CONFIRM:
            self._admit(stream, frame, request, window, now_ms)
        held, self._held = self._held, []
        for until_ms, of_stream, of_frame in held:
            waiting = unpack_request(of_frame.body)
            if self._seen(self._window(waiting), waiting.previous):
                self.arrive(of_stream, of_frame, now_ms, wall_ms)
            else:
                self._held.append((until_ms, of_stream, of_frame))

    def _admit(
        self, stream: int, frame: CallFrame, request: Request, window: Window, now_ms: int
    ) -> None:
        sequence = request.sequence
        if sequence in window.ended:
            self._answer(stream, frame.number, window.ended[sequence])
        elif sequence in window.open:
            window.open[sequence].copies.append((stream, frame.number))
        elif sequence in window.settled:
            self._refuse(stream, frame.number, Code.SUPERSEDED)
        elif self.refusing is not None:
            self._refuse(stream, frame.number, self.refusing)
        elif request.previous in window.settled:
            # The copy is older than what is known since, which its client would now name.
            self._refuse(stream, frame.number, Code.OUT_OF_ORDER)
        elif request.previous and not self._seen(window, request.previous):
            self._held.append((now_ms + WAIT_MS, stream, frame))
        else:
            window.open[sequence] = Waiting(request, [(stream, frame.number)])
            self._queues.setdefault(request.id, []).append(window.open[sequence])

    def _seen(self, window: Window, sequence: int) -> bool:
        return sequence in window.ended or sequence in window.open or sequence in window.settled

    def run(self, which: int) -> bool:
        queues = [queue for queue in self._queues.values() if queue]
        if not queues:
            return False
        waiting = queues[which % len(queues)].pop(0)
        request = waiting.request
        self._log.append(request)
        window = self._window(request)
        del window.open[request.sequence]
        if request.sequence not in window.settled:
            window.ended[request.sequence] = len(self._log)
        for stream, number in waiting.copies:
            self._answer(stream, number, len(self._log))
        return True

    def sync(self) -> None:
        self._durable = len(self._log)
        withheld, self._withheld = self._withheld, []
        for stream, number, position in withheld:
            self._answer(stream, number, position)

    def tick(self, now_ms: int) -> None:
        for entry in [entry for entry in self._held if entry[0] <= now_ms]:
            self._held.remove(entry)
            self._refuse(entry[1], entry[2].number, Code.OUT_OF_ORDER)

    def restart(self) -> None:
        del self._log[self._durable :]
        self._forget()

    def take_answers(self) -> list[tuple[int, AnswerFrame]]:
        answers, self._answers = self._answers, []
        return answers

    def durable_log(self) -> list[int]:
        return [int(request.arguments) for request in self._log[: self._durable]]

    def kept_outcomes(self, session: bytes) -> int:
        return len(self._windows[session].ended) if session in self._windows else 0

    def _answer(self, stream: int, number: int, position: int) -> None:
        if position > self._durable:
            self._withheld.append((stream, number, position))
        else:
            self._answers.append((stream, (number, Code.OK, pack_reply(b"done"))))

    def _refuse(self, stream: int, number: int, code: Code) -> None:
        number_of_code, payload = pack_error(code, [0])
        self._answers.append((stream, (number, number_of_code, pack_reply(payload))))
