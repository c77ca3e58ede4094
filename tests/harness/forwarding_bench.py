"""The rules of forwarding in the hands of a test: it is all nodes, all callers and the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.frames import CallFrame
from perdure.routing.core.forwarding import Forwarding
from perdure.routing.core.limits import ForwardingLimits


@dataclass(eq=False)
class Stream:
    """A caller's stream."""

    closed: bool = False
    answers: list[tuple[int, int]] = field(default_factory=list)


class Bench:
    """A `Forwarding` with two nodes; n1 has the even partitions, n2 the odd ones.

    A router may be among them: it claims everything, after every node.
    """

    def __init__(self, limits: ForwardingLimits | None = None) -> None:
        self.core: Forwarding[Stream] = Forwarding(4, limits or ForwardingLimits())
        self.now_ms = 1_000
        self.sent: list[tuple[str, CallFrame]] = []

    def up(self, node: str, epoch: int = 1) -> None:
        partitions = {"n1": (0, 2), "n2": (1, 3), "router": range(4)}[node]
        owned = dict.fromkeys(partitions, 0 if node == "router" else epoch)
        self.core.node_welcomed(self.now_ms, node, owned)
        self.done()

    def lost(self, node: str) -> None:
        self.core.node_lost(self.now_ms, node)
        self.done()

    def call(
        self, stream: Stream, number: int, partition: int = 0, time_left_ms: int = 1_000
    ) -> None:
        frame = CallFrame(number, partition, time_left_ms, b"%d" % number)
        self.core.calls_arrived(self.now_ms, [frame], stream)
        self.done()

    def answer(self, copy: CallFrame, code: int) -> None:
        self.core.answers_arrived(self.now_ms, [(copy.number, code, b"")])
        self.done()

    def tick(self, after_ms: int) -> None:
        self.now_ms += after_ms
        self.core.tick(self.now_ms)
        self.done()

    def done(self) -> None:
        work = self.core.take()
        for node, frames in work.sends.items():
            self.sent += [(node, frame) for frame in frames]
        for stream, answer in work.answers:
            stream.answers.append(answer[:2])

    def take_sent(self) -> list[CallFrame]:
        sent, self.sent = self.sent, []
        return [frame for _, frame in sent]


def bodies(frames: list[CallFrame]) -> list[bytes]:
    return [frame.body for frame in frames]
