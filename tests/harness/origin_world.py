"""A partition that calls another one: it has a journal, and its process dies at any time.

What it asks for is in its journal before it is sent; how it ended is there some time after the
answer came. A new process makes all calls again that have no end in the journal, in any order,
while copies of the dead one are still under way.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.session_world import LIMITS, OBJECTS, Node, World

from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import CallId, ObjectKey, partition_session_id
from perdure.open_call import OpenCall
from perdure.session import Session

HERE = partition_session_id("cluster", 3)


class OriginWorld(World):
    """`ends` holds what is durable at the caller. Tokens are the numbers of the calls."""

    def __init__(
        self,
        node: Node,
        refusals: tuple[Code, ...],
        make: Callable[[], Session[int]] = lambda: Session(bytes, LIMITS),
    ) -> None:
        self.make = make
        self.crashes = 0
        self.asked: dict[int, tuple[ObjectKey, int | None]] = {}
        """Target and deadline of every call, from the journal."""
        self.told: dict[int, int] = {}
        """Answers that are not durable yet."""
        self.refused: set[int] = set()
        """Calls whose caller was told once that they did not run."""
        super().__init__(node, refusals, make())

    def steps(self) -> list[Callable[[], None]]:
        return [*super().steps(), self.crash, self.sync_caller, self.sync_caller]

    def call(self, which: int, time_ms: int | None) -> None:
        self.calls += 1
        deadline_ms = None if time_ms is None else self.now_ms + time_ms
        self.asked[self.calls] = OBJECTS[which], deadline_ms
        self._make(self.calls)

    def _make(self, token: int) -> None:
        target, deadline_ms = self.asked[token]
        self.made[token] = call = OpenCall(
            token,
            Kind.CALL,
            target,
            "note",
            arguments=b"%d" % token,
            deadline_ms=deadline_ms,
            due_ms=deadline_ms or 0,
            origin=self.name(token),
        )
        self.session.call(call)

    def end(self, token: int, code: int) -> None:
        assert token not in self.ends, "a call that is confirmed is over"
        assert token not in self.told, "a call ends once in a life"
        self.told[token] = code
        if code != Code.OK:
            self.refused.add(token)

    def sync_caller(self) -> None:
        """What was answered is durable."""
        told, self.told = self.told, {}
        self.ends |= told
        for token in told:
            self.confirm(token)

    def confirm(self, token: int) -> None:
        self.session.confirm(self.name(token))

    def name(self, token: int) -> CallId:
        return CallId(HERE, 0, token)

    def crash(self) -> None:
        self.crashes += 1
        self.told.clear()
        self.stream = None
        self.session = self.make()
        self.session.tick(self.now_ms)
        left = [token for token in self.asked if token not in self.ends]
        self.session.resume_origin(HERE, 0, self.calls + 1, left)
        at = self.crashes % (len(left) + 1)
        for token in [*left[at:], *reversed(left[:at])]:
            self._make(token)

    def _round(self) -> None:
        super()._round()
        self.play(self.sync_caller)

    def check(self) -> None:
        super().check()
        log = self.node.durable_log()
        for token, code in self.ends.items():
            assert (code == Code.OK) == (token in log), f"call {token} was told {Code(code).name}"

    def check_order(self, log: list[int]) -> None:
        # A refusal that a crash took back lets the call run after those that did not wait for it.
        kept = [token for token in log if token not in self.refused]
        assert kept == sorted(kept), f"reordered: {log}"
