"""A session on one partition in the hands of a test, which is its network and its clock."""

from __future__ import annotations

from perdure.bodies import Request, pack_error, pack_reply, unpack_request
from perdure.errors import Code
from perdure.frames import CallFrame, Kind
from perdure.ids import ObjectKey
from perdure.open_call import OpenCall
from perdure.session import Session, SessionLimits

HOUR_MS = 3_600_000
CART = ObjectKey("Cart", "u1")
OTHER = ObjectKey("Cart", "u2")


class Play:
    """A session on one partition, connected, at a time of its own."""

    def __init__(self, limits: SessionLimits | None = None, *, connected: bool = True) -> None:
        self.now_ms = 1_000
        self.wall_ms = 100 * HOUR_MS
        self.session: Session[str] = Session(lambda count: b"r" * count, limits)
        if connected:
            self.session.opened("c", 1)

    def call(
        self, token: str, target: ObjectKey = CART, *, kind: Kind = Kind.CALL, **more
    ) -> OpenCall[str]:
        time_ms = more.pop("time_ms", 30_000)
        deadline_ms = None if time_ms is None else self.now_ms + time_ms
        call = OpenCall(token, kind, target, token, deadline_ms=deadline_ms, partition=0, **more)
        self.session.call(call)
        return call

    def frames(self) -> list[CallFrame]:
        return self.session.take_frames(self.now_ms, self.wall_ms)

    def requests(self) -> list[Request]:
        return [unpack_request(frame.body) for frame in self.frames()]

    def sent(self) -> list[str]:
        return [request.method for request in self.requests()]

    def send(self, token: str, target: ObjectKey = CART, **more) -> int:
        """Make a call, send it alone, and return the number of its frame."""
        self.call(token, target, **more)
        (frame,) = self.frames()
        return frame.number

    def answer(self, number: int, code: Code = Code.OK, *args: object) -> None:
        payload = b"result" if code == Code.OK else pack_error(code, args)[1]
        self.session.answered([(number, code, pack_reply(payload))], self.now_ms)

    def wait(self, time_ms: int) -> None:
        self.now_ms += time_ms
        self.wall_ms += time_ms
        self.session.tick(self.now_ms)

    def reconnect(self) -> None:
        self.session.lost("broken")
        self.session.opened("c", 1)

    def ended(self) -> list[tuple[str, Code]]:
        return [(token, Code(code)) for token, code, _ in self.session.take_ended()]
