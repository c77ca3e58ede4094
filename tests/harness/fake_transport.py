"""A `Transport` in the hands of a test: it sees what is sent and says what comes back."""

from __future__ import annotations

from perdure.bodies import Request, pack_reply, unpack_request
from perdure.errors import Code
from perdure.frames import CallFrame, Kind
from perdure.transport import Listener, Welcome

WELCOME = Welcome("c", 16, "fake", {})


class FakeTransport:
    """Answers by itself when `echoes` is set; else keeps `sent` until the test answers."""

    def __init__(self, *, connects: bool = True, echoes: bool = False) -> None:
        self.connects = connects
        self.echoes = echoes
        self.batches: list[list[CallFrame]] = []
        self.closed = False
        self.listener: Listener | None = None

    def start(self, listener: Listener) -> None:
        self.listener = listener
        if self.connects:
            listener.welcomed(WELCOME)

    def send(self, frames: list[CallFrame]) -> None:
        self.batches.append(frames)
        if self.echoes:
            self.answer(*frames)

    async def close(self) -> None:
        self.closed = True

    @property
    def requests(self) -> list[Request]:
        return [unpack_request(frame.body) for batch in self.batches for frame in batch]

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests if request.kind != Kind.CONFIRM]

    def answer(self, *frames: CallFrame, code: Code = Code.OK, body: bytes | None = None) -> None:
        assert self.listener is not None
        body = pack_reply(b"result") if body is None else body
        self.listener.answered([(f.number, code, body) for f in frames if f.number])
