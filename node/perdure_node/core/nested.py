"""Calls from inside of others that wait for their turn, while their callers hold objects.

Such a call may wait for what will never end, so it is refused: when it is part of a circle of
calls that wait for one another, and at the latest when it has not started in time. The refusal is
recorded, because it is the result of a step of its caller.
"""

from __future__ import annotations

import heapq
from typing import Protocol

from perdure.bodies import pack_error
from perdure.errors import Code
from perdure_node.core.calls import Call
from perdure_node.core.chains import chain_inside, chain_texts
from perdure_node.core.gate import Gate
from perdure_node.core.keys import Keys
from perdure_node.core.limits import Limits
from perdure_node.core.mailboxes import Mailbox, Mailboxes
from perdure_node.core.memory import Memory
from perdure_node.core.probing import Probing

__all__ = ["NestedCalls"]


class Owner(Protocol):
    """The partition whose calls wait."""

    number: int

    def end_unrun(self, call: Call, code: int, payload: bytes) -> None:
        """Refuse a call for good."""
        ...


class NestedCalls:
    """Those of one partition."""

    def __init__(
        self,
        owner: Owner,
        memory: Memory,
        keys: Keys,
        mailboxes: Mailboxes,
        gate: Gate,
        limits: Limits,
    ) -> None:
        self._owner = owner
        self._memory = memory
        self._keys = keys
        self._mailboxes = mailboxes
        self._late: list[tuple[int, int, Call]] = []
        """A heap by when they have to have started; some have."""
        self.probing = Probing(owner, self, memory, keys, mailboxes, gate, limits)

    def watch(self, call: Call) -> None:
        """Take note of a call that has come to a mailbox and has not started."""
        heapq.heappush(self._late, (call.deadline_ms + 1, id(call), call))
        self.probing.watch(call)

    @property
    def next_ms(self) -> int | None:
        """When `time_passed` has something to do: monotonic time. None: not at all."""
        if not self._late:
            return None
        probe_ms = self.probing.next_ms
        return self._late[0][0] if probe_ms is None else min(probe_ms, self._late[0][0])

    def time_passed(self, now_ms: int) -> None:
        """Refuse calls that have not started in time, and look for circles."""
        while self._late and self._late[0][0] <= now_ms:
            _, _, call = heapq.heappop(self._late)
            if self._withdraw(call):
                self.refuse_late(call)
        self.probing.time_passed(now_ms)

    def refuse_late(self, call: Call) -> None:
        """Refuse a call for good that has waited too long, and has left its mailbox."""
        mailbox = self._mailboxes.get(call.key)
        holder = "calls before it"
        if mailbox is not None and mailbox.running:
            holder = " -> ".join(chain_texts(chain_inside(mailbox.running[0].request)))
        self._owner.end_unrun(call, *pack_error(Code.NOT_STARTED, (str(call.key), holder)))

    def refuse_circle(self, call: Call, names: list[str]) -> None:
        """Refuse a call for good that waits for itself, unless it has started.

        Args:
            call: It waited when it was looked at.
            names: What waits for what, from its caller round to its caller.
        """
        if self._withdraw(call):
            self._owner.end_unrun(call, *pack_error(Code.CALL_CYCLE, (names,)))

    def put_heir(self, call: Call, mailbox: Mailbox) -> None:
        """Let the next call with the same key be the next one in place of one that will not run."""
        heir = self._keys.pass_on(call)
        if heir is not None:
            heir.since_ms = self._memory.now_ms
            self._mailboxes.put_first(heir, mailbox)
            if heir.request.chain:
                self.watch(heir)

    def _withdraw(self, call: Call) -> bool:
        """Take out a call that waits. False: it has started, or is not there any more."""
        mailbox = self._mailboxes.get(call.key)
        if mailbox is None or not self._mailboxes.take_out(call):
            return False
        self.put_heir(call, mailbox)
        return True
