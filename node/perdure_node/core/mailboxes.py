"""The calls of a partition's objects: which waits, which runs, which is next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from perdure.ids import ObjectKey
from perdure_node.core.calls import Call

__all__ = ["Mailbox", "Mailboxes"]


class Mailbox:
    """The calls of one object."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Call] = deque()
        self.running: list[Call] = []


class Mailboxes:
    """All mailboxes of one partition.

    Invariants:
      * An object runs one exclusive call, or several shared ones, never both. The next is the
        one at the head of its mailbox.
      * Every mailbox holds or runs a call. An object without a mailbox is idle.
    """

    start: Callable[[Call, Mailbox], None]
    """Puts a call among the running ones; or ends it, if there is nothing to run. To be set
    before the first call comes."""

    def __init__(self) -> None:
        self._by_key: dict[ObjectKey, Mailbox] = {}
        self._spare: list[Mailbox] = []
        """One that is empty, for the next object: most are idle again at once, and a new one is
        dear to make."""
        self._stalled: dict[ObjectKey, None] = {}
        """Objects whose next call could not start while `paused` was set."""
        self.waiting = 0
        """Calls in all mailboxes that have not started."""
        self.paused = False
        """No call starts."""

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Mailbox]:
        return iter(self._by_key.values())

    def get(self, key: ObjectKey) -> Mailbox | None:
        """Return the mailbox of an object; None: it is idle."""
        return self._by_key.get(key)

    def put(self, call: Call) -> None:
        """Let a call wait for its turn, which may be now."""
        key = call.key
        mailbox = self._by_key.get(key)
        if mailbox is None:
            mailbox = self._by_key[key] = self._spare.pop() if self._spare else Mailbox()
            if not self.paused:
                # Most calls find their object idle.
                self.start(call, mailbox)
                if not mailbox.running:
                    self._start_next(key, mailbox)
                return
        mailbox.waiting.append(call)
        self.waiting += 1
        if len(mailbox.waiting) == 1:
            self._start_next(key, mailbox)

    def put_first(self, call: Call, mailbox: Mailbox) -> None:
        """Let a call be the next one."""
        mailbox.waiting.appendleft(call)
        self.waiting += 1

    def take_out(self, call: Call) -> bool:
        """Take a call out that waits. False: it does not wait."""
        mailbox = self._by_key.get(call.key)
        if mailbox is None or call not in mailbox.waiting:
            return False
        mailbox.waiting.remove(call)
        self.waiting -= 1
        return True

    def drop_waiting(self, key: ObjectKey) -> list[Call]:
        """Take out the calls that wait behind the one that runs."""
        mailbox = self._by_key[key]
        dropped = list(mailbox.waiting)
        mailbox.waiting.clear()
        self.waiting -= len(dropped)
        return dropped

    def ended(self, call: Call) -> None:
        """Let the next call start: this one has run."""
        mailbox = self._by_key.get(call.key)
        if mailbox is not None:
            mailbox.running.remove(call)
            if mailbox.waiting:
                self._start_next(call.key, mailbox)
            elif not mailbox.running:
                self._leave(call.key, mailbox)

    def resume_starting(self) -> None:
        """Start the calls that could not start while `paused` was set."""
        stalled, self._stalled = self._stalled, {}
        for key in stalled:
            if key in self._by_key:
                self._start_next(key, self._by_key[key])

    def _start_next(self, key: ObjectKey, mailbox: Mailbox) -> None:
        waiting, running = mailbox.waiting, mailbox.running
        while waiting:
            if running and not (waiting[0].shared and running[0].shared):
                return
            if self.paused:
                self._stalled[key] = None
                return
            call = waiting.popleft()
            self.waiting -= 1
            self.start(call, mailbox)
        if not running:
            self._leave(key, mailbox)

    def _leave(self, key: ObjectKey, mailbox: Mailbox) -> None:
        del self._by_key[key]
        if not self._spare:
            self._spare.append(mailbox)
