"""One client's session, one partition, and a network that does its worst between them.

Copies are lost, doubled, delayed and overtake one another (two routers, each with a stream of its
own to the node); streams break; the node restarts and forgets what was not durable; it refuses.
Whoever plays chooses each step; `heal` then lets everything arrive, and `check` holds the promises
against what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from perdure.bodies import pack_error, pack_reply
from perdure.errors import KINDS, Code
from perdure.frames import AnswerFrame, CallFrame, Kind
from perdure.ids import ObjectKey
from perdure.open_call import OpenCall
from perdure.session import Session, SessionLimits

OBJECTS = (ObjectKey("Cart", "a"), ObjectKey("Cart", "b"))
NOWHERE = -1
"""The stream of copies whose answers nobody hears."""

LIMITS = SessionLimits(sent_calls_max=3, new_calls_ms=700, retry_min_ms=10, retry_max_ms=40)


class Node(Protocol):
    """One partition with the two objects. The log is what it has applied, in order."""

    refusing: Code | None
    """What it refuses calls with that it has not seen: `None` or one of `REFUSALS`."""

    def arrive(self, stream: int, frame: CallFrame, now_ms: int, wall_ms: int) -> None: ...

    def run(self, which: int) -> bool:
        """Apply one of the calls that could run now; False: there is none."""
        ...

    def sync(self) -> None:
        """Make everything applied so far durable."""
        ...

    def tick(self, now_ms: int) -> None: ...

    def restart(self) -> None:
        """Forget what is not durable, and every call that waits."""
        ...

    def take_answers(self) -> list[tuple[int, AnswerFrame]]: ...

    def durable_log(self) -> list[int]:
        """Return the tokens of all calls that are applied for ever, in order."""
        ...

    def kept_outcomes(self, session: bytes) -> int:
        """Count outcomes that the client has not confirmed."""
        ...


@dataclass
class Copy:
    stream: int
    frame: CallFrame


class World:
    """A session and a node with everything between them. Each step is one thing that happens."""

    def __init__(
        self, node: Node, refusals: tuple[Code, ...], session: Session[int] | None = None
    ) -> None:
        self.node = node
        self.refusals = refusals
        self.now_ms = 1_000_000
        self.session: Session[int] = session or Session(bytes, LIMITS)
        self.stream: int | None = None
        self.streams = 0
        self.calls = 0
        self.made: dict[int, OpenCall[int]] = {}
        self.ends: dict[int, int] = {}
        self.flying: list[Copy] = []
        self.there: dict[tuple[int, int], None] = {}
        """Copies that the node has and has not answered."""
        self.doubled: set[tuple[int, int]] = set()
        self.answers: list[tuple[int, AnswerFrame]] = []
        self.open()

    # Steps.

    def steps(self) -> list[Callable[[], None]]:
        """Return what may happen next."""
        steps: list[Callable[[], None]] = [
            lambda: self.call(0, None),
            lambda: self.call(1, None),
            lambda: self.call(0, 100),
            lambda: self.call(0, 5_000),
            self.restart,
            lambda: self.wait(1),
            lambda: self.wait(60),
            lambda: self.wait(250),
            lambda: self.node.run(0),
            lambda: self.node.run(1),
            self.node.sync,
            self.open if self.stream is None else self.break_stream,
            self.refuse_next_kind,
        ]
        for copy in self.flying[:4]:
            steps += [
                lambda copy=copy: self.deliver(copy),
                lambda copy=copy: self.deliver(copy, keep=True),
                lambda copy=copy: self.router_gives_up(copy),
            ]
        steps += [lambda answer=answer: self.answer(answer) for answer in self.answers[:3]]
        return steps

    def play(self, step: Callable[[], None]) -> None:
        """Let one thing happen, and the client do what follows from it."""
        step()
        self.settle()

    def settle(self) -> None:
        for answer in self.node.take_answers():
            self.there.pop((answer[0], answer[1][0]), None)
            self.answers.append(self.by_router(answer))
        frames = self.session.take_frames(self.now_ms, self.now_ms)
        if self.stream is not None:
            self.flying += [Copy(self.stream, frame) for frame in frames]
        else:
            assert frames == []
        for token, code, _ in self.session.take_ended():
            if code == Code.OK:
                assert token in self.node.durable_log(), "answered means durable"
            self.end(token, code)

    def end(self, token: int, code: int) -> None:
        assert token not in self.ends, "a call ends once"
        self.ends[token] = code

    def call(self, which: int, time_ms: int | None) -> None:
        self.calls += 1
        token = self.calls
        self.made[token] = call = OpenCall(
            token,
            Kind.CALL,
            OBJECTS[which],
            "note",
            arguments=b"%d" % token,
            deadline_ms=None if time_ms is None else self.now_ms + time_ms,
        )
        self.session.call(call)

    def open(self) -> None:
        self.streams += 1
        self.stream = self.streams
        self.session.opened("cluster", 1)

    def break_stream(self) -> None:
        """Copies that are under way stay under way."""
        self.stream = None
        self.session.lost("broken")

    def deliver(self, copy: Copy, *, keep: bool = False) -> None:
        if keep:
            self.doubled.add((copy.stream, copy.frame.number))
            self.node.arrive(NOWHERE, copy.frame, self.now_ms, self.now_ms)
            return
        self.flying.remove(copy)
        self.there[copy.stream, copy.frame.number] = None
        self.node.arrive(copy.stream, copy.frame, self.now_ms, self.now_ms)

    def router_gives_up(self, copy: Copy) -> None:
        """A router that cannot reach the node says so. A copy it has tried may yet arrive."""
        number = copy.frame.number
        if copy.stream == NOWHERE or not number:
            return
        doubled = (copy.stream, number) in self.doubled
        code = Code.OWNER_LOST if doubled else Code.NO_OWNER
        self.answers.append((copy.stream, _refusal(number, code)))
        if doubled:
            copy.stream = NOWHERE
        else:
            self.flying.remove(copy)

    def answer(self, answer: tuple[int, AnswerFrame]) -> None:
        self.answers.remove(answer)
        if answer[0] == self.stream:
            self.session.answered([answer[1]], self.now_ms)

    def by_router(self, answer: tuple[int, AnswerFrame]) -> tuple[int, AnswerFrame]:
        """A router passes a refusal on only if it has no other copy of that call under way."""
        stream, frame = answer
        if frame[1] != Code.OK and (stream, frame[0]) in self.doubled:
            return stream, _refusal(frame[0], Code.OWNER_LOST)
        return answer

    def restart(self) -> None:
        self.node.restart()
        for stream, number in self.there:
            self.answers.append((stream, _refusal(number, Code.OWNER_LOST)))
        self.there.clear()

    def wait(self, time_ms: int) -> None:
        self.now_ms += time_ms
        self.node.tick(self.now_ms)
        self.session.tick(self.now_ms)

    def refuse_next_kind(self) -> None:
        kinds = (None, *self.refusals)
        self.node.refusing = kinds[(kinds.index(self.node.refusing) + 1) % len(kinds)]

    def walk(self, choices: Iterable[int]) -> None:
        """Play one step for each number, whichever numbers they are, then heal and check."""
        for choice in choices:
            steps = self.steps()
            self.play(steps[choice % len(steps)])
        self.heal()
        self.check()

    # The end.

    def heal(self) -> None:
        """Let everything arrive and everything be done, in order."""
        self.node.refusing = None
        if self.stream is None:
            self.play(self.open)
        for _ in range(200):
            self._round()
            if not (self.session.open_count or self.flying or self.answers):
                break
        self.play(lambda: self.wait(LIMITS.confirm_ms))
        self.play(lambda: self.wait(LIMITS.confirm_ms))
        self._round()

    def _round(self) -> None:
        for copy in list(self.flying):
            self.play(lambda copy=copy: self.deliver(copy))
        while self.node.run(0):
            self.settle()
        self.play(self.node.sync)
        for answer in list(self.answers):
            self.play(lambda answer=answer: self.answer(answer))
        self.play(lambda: self.wait(60))

    def check(self) -> None:
        log = self.node.durable_log()
        assert len(log) == len(set(log)), f"a call ran twice: {log}"
        for target in OBJECTS:
            self.check_order([token for token in log if self.made[token].target == target])
        missing = set(range(1, self.calls + 1)) - self.ends.keys()
        assert not missing, f"calls without an end: {missing}"
        for token, code in self.ends.items():
            if code == Code.OK:
                assert token in log, f"call {token} was answered and is lost"
            elif KINDS[Code(code)].applied == "no":
                assert token not in log, f"call {token} ran and was told {Code(code).name}"
        last = next((call.window for call in reversed(self.made.values()) if call.window), None)
        if last is not None:
            assert self.node.kept_outcomes(last.session) == 0, "outcomes stay in memory for ever"

    def check_order(self, log: list[int]) -> None:
        for at, later in enumerate(log):
            for earlier in log[at + 1 :]:
                if earlier > later:
                    continue
                # A call that was given up may run after calls of the next session id, whose
                # frames do not tell of it; never after a call of its own.
                given_up = self.ends[earlier] == Code.DEADLINE_EXCEEDED
                windows = self.made[earlier].window, self.made[later].window
                other = windows[0] is not windows[1]
                assert given_up and other, f"{earlier} ran after {later}: {log}"


def _refusal(number: int, code: Code) -> AnswerFrame:
    number_of_code, payload = pack_error(code, [0])
    return (number, number_of_code, pack_reply(payload))
