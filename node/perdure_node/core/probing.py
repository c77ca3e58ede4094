"""Calls that wait for one another in a circle: found by asking along, refused at one place.

A call in a mailbox waits for the call that holds the object; a method waits for the calls that it
has made and awaits. When a call of a method has waited for a while, its partition asks along
these two, from partition to partition, until it comes back to a call that waits at the same object.
This is the edge-chasing of Chandy, Misra and Haas ("Distributed deadlock detection", 1983), with
one change: who is asked answers the one who began instead of asking on. So nothing is kept where
the question goes, a question that is lost costs one round, and no call is asked about twice in it.
Their proof holds as before: a method goes on only when a call that it awaits has ended, so links
that were seen one after the other are all there when the last one closes the circle.

Invariants:
  * Of a circle one call is refused: the youngest, by the partition at which it waits. All agree
    which it is, because its age is in its caller's journal and travels with it.
  * A call is refused only while it waits. What has started goes on.
  * Only the refusal is recorded. After a crash the calls wait again, and are looked for again.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from perdure import codec
from perdure.errors import BadPayload, Code
from perdure.frames import Encoding, Request
from perdure.ids import CallId, ObjectKey, is_partition_session, session_beside
from perdure_node.core.calls import Call, Copy, Refusal
from perdure_node.core.chains import link_of, link_text
from perdure_node.core.events import CALL, OutboxEntry, open_steps
from perdure_node.core.gate import Gate
from perdure_node.core.keys import Keys
from perdure_node.core.limits import Limits
from perdure_node.core.mailboxes import Mailbox, Mailboxes
from perdure_node.core.memory import Memory

__all__ = ["Probe", "Probing"]


class Probe(NamedTuple):
    """Work for the shell: ask another partition what a call waits for."""

    id: CallId
    target: ObjectKey
    """The object that is called."""
    told: Callable[[bytes | None], None]
    """To be called once, with the payload of the answer; None: there is none."""


class Owner(Protocol):
    """The partition whose calls wait."""

    number: int


class Refusing(Protocol):
    """Who refuses calls of the partition."""

    def refuse_circle(self, call: Call, names: list[str]) -> None:
        """Refuse a call for good that waits for itself, unless it has started."""
        ...


_Age = tuple[int, bytes, int, int]
"""By when a call has to have started, and its id: of two calls the greater one is the younger."""

_OLDEST: Final[_Age] = (0, b"", 0, 0)


class _Waits(NamedTuple):
    """What a call waits for, as its partition tells others."""

    start_by_ms: int | None
    """None: it has started, or may never be refused."""
    names: list[str]
    """The call; and the one that holds its object, if it waits for that."""
    calls: list[list[Any]]
    """`[partition, sequence, type, id]` of the calls that the last one named awaits."""


class _Link(NamedTuple):
    """A part of the way from an object to what the call that holds it waits for."""

    before: _Link | None
    names: list[str]
    youngest: _Age
    """Of the calls that wait on the way up to here."""


class _Round:
    """One time of asking along, from one object."""

    def __init__(self, holder: Call, waiting: dict[CallId, Call]) -> None:
        self.holder = holder
        self.waiting = waiting
        """The calls at the object which may be part of a circle."""
        self.youngest = max(_age(id, call.request.due_ms) for id, call in waiting.items())
        self.asked: set[CallId] = set()


class _Watch:
    """An object at which calls of methods wait."""

    def __init__(self, key: ObjectKey) -> None:
        self.key = key
        self.due_ms: int | None = None
        """When to ask along next."""
        self.pause_ms = 0


class Probing:
    """Finds the circles that the waiting calls of one partition are part of."""

    def __init__(
        self,
        owner: Owner,
        refusing: Refusing,
        memory: Memory,
        keys: Keys,
        mailboxes: Mailboxes,
        gate: Gate,
        limits: Limits,
    ) -> None:
        self._owner = owner
        self._refusing = refusing
        self._memory = memory
        self._keys = keys
        self._mailboxes = mailboxes
        self._gate = gate
        self._limits = limits
        self._watches: dict[ObjectKey, _Watch] = {}
        self._due: list[tuple[int, int, _Watch]] = []
        """A heap. What is not due any more at that time has been brought forward."""
        self._serial = 0

    # Asking.

    def watch(self, call: Call) -> None:
        """Ask along in a while, if this call, which has come to a mailbox, still waits then."""
        if not _is_asked_for(call):
            return
        watch = self._watches.get(call.key)
        if watch is None:
            watch = self._watches[call.key] = _Watch(call.key)
        watch.pause_ms = self._limits.probe_after_ms
        due_ms = self._memory.now_ms + watch.pause_ms
        if watch.due_ms is None or due_ms < watch.due_ms:
            self._set(watch, due_ms)

    @property
    def next_ms(self) -> int | None:
        """When `time_passed` has something to do: monotonic time. None: not at all."""
        return self._due[0][0] if self._due else None

    def time_passed(self, now_ms: int) -> None:
        """Ask along from all objects whose time has come."""
        while self._due and self._due[0][0] <= now_ms:
            due_ms, _, watch = heapq.heappop(self._due)
            if watch.due_ms == due_ms:
                self._ask_along(watch, now_ms)

    def _set(self, watch: _Watch, due_ms: int) -> None:
        self._serial += 1
        watch.due_ms = due_ms
        heapq.heappush(self._due, (due_ms, self._serial, watch))

    def _ask_along(self, watch: _Watch, now_ms: int) -> None:
        mailbox = self._mailboxes.get(watch.key)
        if mailbox is None or not any(map(_is_asked_for, mailbox.waiting)):
            watch.due_ms = None
            del self._watches[watch.key]
            return
        self._set(watch, now_ms + watch.pause_ms)
        watch.pause_ms = min(2 * watch.pause_ms, self._limits.probe_pause_max_ms)
        holder = _holder_of(mailbox)
        if holder is None:
            return
        calls = _awaited_calls(holder)
        if not calls:
            return
        waiting = {self._id_of(call): call for call in mailbox.waiting if _is_asked_for(call)}
        start = _Link(None, [_name_of(holder)], _OLDEST)
        session = session_beside(next(iter(waiting)).session, self._owner.number)
        self._follow(_Round(holder, waiting), start, session, calls)

    def _follow(
        self, round: _Round, link: _Link, session: bytes, calls: Sequence[Sequence[Any]]
    ) -> None:
        """Go on with what a call awaits that the way has come to."""
        todo = [(link, session, calls)]
        while todo:
            link, session, calls = todo.pop()
            for partition, sequence, type, id in calls:
                call_id = CallId(session, partition, sequence)
                if call_id in round.waiting:
                    self._close_circle(round, call_id, link)
                    continue
                if call_id in round.asked or len(round.asked) >= self._limits.probe_calls_max:
                    continue
                round.asked.add(call_id)
                if partition != self._owner.number:
                    told = functools.partial(self._told, round, link, call_id)
                    self._gate.outputs.append(Probe(call_id, ObjectKey(type, id), told))
                elif (waits := self._waits_of(call_id)) is not None:
                    further = _further(round, link, call_id, waits)
                    if further is not None:
                        there = session_beside(session, partition)
                        todo.append((further, there, waits.calls))

    def _told(self, round: _Round, link: _Link, id: CallId, payload: bytes | None) -> None:
        """Take what another partition says of a call, however late."""
        fields = None if payload is None else codec.decode(payload)
        if fields is None:
            return  # Nobody knows; or it has ended, or has not come.
        waits = _Waits(*fields)
        further = _further(round, link, id, waits)
        if further is not None:
            session = session_beside(id.session, id.partition)
            self._follow(round, further, session, waits.calls)

    def _close_circle(self, round: _Round, id: CallId, link: _Link) -> None:
        """A call at the object where the way began is what keeps the object from it."""
        call = round.waiting[id]
        mailbox = self._mailboxes.get(call.key)
        if mailbox is None or round.holder not in mailbox.running:
            return  # Somebody has ended the one that held the object.
        if _age(id, call.request.due_ms) < link.youngest:
            return  # The youngest waits elsewhere, and is refused there.
        del round.waiting[id]
        names: list[str] = []
        back: _Link | None = link
        while back is not None:
            names = [*back.names, *names]
            back = back.before
        # From the method that has made this call, round to that method.
        circle = [names[-1], _name_of(call), *names]
        self._refusing.refuse_circle(call, circle)

    # Answering.

    def asked(self, request: Request, copy: Copy) -> None:
        """Tell what a call waits for."""
        try:
            id = CallId.parse(codec.decode(request.arguments))
        except (BadPayload, TypeError):
            id = None
        if id is None or id.partition != self._owner.number or request.encoding != Encoding.MSGPACK:
            text = "a probe names a call to this object: session:partition:sequence, in MessagePack"
            self._gate.refuse(copy, Refusal(Code.MALFORMED, (text,)))
            return
        waits = self._waits_of(id)
        self._gate.answer([copy], None, 0, codec.encode(None if waits is None else list(waits)))

    def _waits_of(self, id: CallId) -> _Waits | None:
        window = self._memory.windows.get(id.session)
        call = None if window is None else window.open.get(id.sequence)
        if call is None:
            return None
        first = self._keys.first(call)
        if first.state is not None:
            return _Waits(None, [_name_of(call)], _awaited_calls(first))
        mailbox = self._mailboxes.get(call.key)
        holder = None if mailbox is None else _holder_of(mailbox)
        if holder is None:
            return None
        start_by_ms = call.request.due_ms if call is first else None
        return _Waits(start_by_ms, [_name_of(call), _name_of(holder)], _awaited_calls(holder))

    def _id_of(self, call: Call) -> CallId:
        return CallId(call.request.session, self._owner.number, call.request.sequence)


def _is_asked_for(call: Call) -> bool:
    """Tell whether a method may await this call."""
    return bool(call.request.chain) and is_partition_session(call.request.session)


def _holder_of(mailbox: Mailbox) -> Call | None:
    """Return the call that an object's others wait for; one of them if they are shared.

    Shared calls make no calls, so nothing leads on from them.
    """
    return mailbox.running[0] if mailbox.running else None


def _awaited_calls(call: Call) -> list[list[Any]]:
    """Return the calls without which a call that has started does not go on.

    Steps that its method does not await do not count. While it awaits one of another kind there
    are none: that ends, and perhaps the method goes on then.
    """
    if call.progress is None or call.parked is not None:
        return []
    awaited: list[list[Any]] = []
    for step in open_steps(call.progress.events):
        if call.turn is not None and not call.turn.awaits(step.step):
            continue
        if step.kind != CALL:
            return []
        entry = OutboxEntry(*step.data)
        awaited.append([entry.partition, entry.sequence, entry.type, entry.id])
    return awaited


def _further(round: _Round, link: _Link, id: CallId, waits: _Waits) -> _Link | None:
    """Return the way as it goes on; None: it leads to no circle that is broken from here."""
    if waits.start_by_ms is None:
        return _Link(link, waits.names, link.youngest)
    age = _age(id, waits.start_by_ms)
    if age > round.youngest:
        return None  # A circle through it is broken there.
    return _Link(link, waits.names, max(age, link.youngest))


def _age(id: CallId, start_by_ms: int) -> _Age:
    return start_by_ms, id.session, id.partition, id.sequence


def _name_of(call: Call) -> str:
    return link_text(link_of(call.request))
