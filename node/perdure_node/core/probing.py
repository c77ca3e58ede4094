"""Calls that wait for one another in a circle: found by asking along, refused at one place.

A call in a mailbox waits for the call that holds the object; a method waits for the calls that it
has made and awaits. When a call of a method has waited for a while, its partition asks along
these two, from partition to partition, until it comes back to a call that waits at the same object.
This is the edge-chasing of Chandy, Misra and Haas ("Distributed deadlock detection", 1983), with
one change: who is asked answers the one who began instead of asking on. So nothing is kept where
the question goes, a question that is lost costs one round, and no call is asked about twice in it.

Invariants:
  * Of a circle one call is refused: the youngest, by the partition at which it waits. All agree
    which it is, because its age is in its caller's journal and travels with it.
  * A call is refused only while it waits, and if all of its circle was there at one time: each part
    of the way is looked at again when it has come back. In between nothing of it can have gone and
    come again, as each part is a call with an id of its own.
  * Only the refusal is recorded. After a crash the calls wait again, and are looked for again.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from perdure import codec
from perdure.bodies import Request
from perdure.errors import BadPayload, Code
from perdure.frames import Encoding
from perdure.ids import CallId, ObjectKey, is_partition_session, session_beside
from perdure_node.core.calls import Call, Refusal
from perdure_node.core.chains import link_of, link_text
from perdure_node.core.copies import Copy
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
    """None: this is the call that holds the object."""
    id: CallId
    target: ObjectKey
    """The object that is called."""
    names: list[str]
    youngest: _Age
    """Of the calls that wait on the way up to here."""


class _Circle:
    """A way that has come back, until it is known that all of it is there at one time."""

    def __init__(self, holder: Call, links: list[_Link], last: Call, last_id: CallId) -> None:
        """Begin with the way to a call that waits for the one where the way began."""
        self.holder = holder
        self.refused = last
        names = [name for link in links for name in link.names]
        # From the method that has made the last call, round to that method.
        self.names = [names[-1], _name_of(last), *names]
        self.parts = list(zip(links[1:], [*(link.id for link in links[2:]), last_id], strict=True))
        """Each call on the way, and the one that it leads on to."""
        self.open = 0
        """Of how many of them it is not known."""


class _Round:
    """One time of asking along, from one object."""

    def __init__(self, key: ObjectKey, holder: Call, youngest: _Age) -> None:
        self.key = key
        self.holder = holder
        """The call that holds the object."""
        self.youngest = youngest
        """None that waits at the object is younger than this."""
        self.asked: set[CallId] = set()


class _Watch:
    """An object at which calls of methods wait."""

    def __init__(self, key: ObjectKey) -> None:
        self.key = key
        self.due_ms: int | None = None
        """When to ask along next."""
        self.pause_ms = 0
        self.youngest: _Age = _OLDEST
        """Of the calls that have come to wait there."""


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
        watch.youngest = max(watch.youngest, self._age_of(call))
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
        first = None
        if mailbox is not None:
            first = next((call for call in mailbox.waiting if _is_asked_for(call)), None)
        if mailbox is None or first is None:
            watch.due_ms = None
            del self._watches[watch.key]
            return
        self._set(watch, now_ms + watch.pause_ms)
        watch.pause_ms = min(2 * watch.pause_ms, self._limits.probe_pause_max_ms)
        holder = _holder_of(mailbox)
        calls = [] if holder is None else _awaited_calls(holder)
        if holder is not None and calls:
            round = _Round(watch.key, holder, watch.youngest)
            start = _Link(None, self._id_of(holder), watch.key, [_name_of(holder)], _OLDEST)
            session = session_beside(first.request.session, self._owner.number)
            self._follow(round, start, session, calls)

    def _follow(
        self, round: _Round, link: _Link, session: bytes, calls: Sequence[Sequence[Any]]
    ) -> None:
        """Go on with what a call awaits that the way has come to."""
        todo = [(link, session, calls)]
        while todo:
            link, session, calls = todo.pop()
            for partition, sequence, type, id in calls:
                call_id = CallId(session, partition, sequence)
                here = partition == self._owner.number
                call = self._find(call_id) if here else None
                if call is not None and call.key == round.key and call.state is None:
                    self._close_circle(round, call, link)
                    continue
                if call_id in round.asked or len(round.asked) >= self._limits.probe_calls_max:
                    continue
                round.asked.add(call_id)
                if not here:
                    target = ObjectKey(type, id)
                    told = functools.partial(self._told, round, link, call_id, target)
                    self._gate.outputs.append(Probe(call_id, target, told))
                elif call is not None and (waits := self._waits_of(call)) is not None:
                    further = _further(round, link, call_id, call.key, waits)
                    if further is not None:
                        todo.append((further, session_beside(session, partition), waits.calls))

    def _told(
        self, round: _Round, link: _Link, id: CallId, target: ObjectKey, payload: bytes | None
    ) -> None:
        """Take what another partition says of a call, however late."""
        waits = _waits_in(payload)
        further = None if waits is None else _further(round, link, id, target, waits)
        if waits is not None and further is not None:
            session = session_beside(id.session, id.partition)
            self._follow(round, further, session, waits.calls)

    def _close_circle(self, round: _Round, call: Call, link: _Link) -> None:
        """A call that waits at the object where the way began is what keeps the object from it."""
        if self._age_of(call) < link.youngest:
            return  # The youngest waits elsewhere, and is refused there.
        links: list[_Link] = []
        back: _Link | None = link
        while back is not None:
            links.append(back)
            back = back.before
        circle = _Circle(round.holder, links[::-1], call, self._id_of(call))
        for part, leads_to in circle.parts:
            if part.id.partition != self._owner.number:
                circle.open += 1
                told = functools.partial(self._confirmed, circle, leads_to)
                self._gate.outputs.append(Probe(part.id, part.target, told))
        if not circle.open:
            self._break_circle(circle)

    def _confirmed(self, circle: _Circle, leads_to: CallId, payload: bytes | None) -> None:
        """Take what another partition says of a part of a circle, asked for the second time."""
        waits = _waits_in(payload)
        if waits is not None and _leads_on(waits.calls, leads_to):
            circle.open -= 1
            if not circle.open:
                self._break_circle(circle)

    def _break_circle(self, circle: _Circle) -> None:
        """Refuse the last call of a circle if what is here of it is still there, too."""
        holder = circle.holder
        mailbox = self._mailboxes.get(holder.key)
        if mailbox is None or holder not in mailbox.running:
            return
        if not _leads_on(_awaited_calls(holder), circle.parts[0][0].id):
            return
        for part, leads_to in circle.parts:
            if part.id.partition == self._owner.number:
                call = self._find(part.id)
                waits = None if call is None else self._waits_of(call)
                if waits is None or not _leads_on(waits.calls, leads_to):
                    return
        self._refusing.refuse_circle(circle.refused, circle.names)

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
        call = self._find(id)
        waits = None if call is None else self._waits_of(call)
        self._gate.answer([copy], None, 0, codec.encode(None if waits is None else list(waits)))

    def _find(self, id: CallId) -> Call | None:
        window = self._memory.windows.get(id.session)
        return None if window is None else window.open.get(id.sequence)

    def _waits_of(self, call: Call) -> _Waits | None:
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

    def _age_of(self, call: Call) -> _Age:
        return _age(self._id_of(call), call.request.due_ms)


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


def _further(
    round: _Round, link: _Link, id: CallId, target: ObjectKey, waits: _Waits
) -> _Link | None:
    """Return the way as it goes on; None: it leads to no circle that is broken from here."""
    youngest = link.youngest
    if waits.start_by_ms is not None:
        age = _age(id, waits.start_by_ms)
        if age > round.youngest:
            return None  # A circle through it is broken there.
        youngest = max(age, youngest)
    return _Link(link, id, target, waits.names, youngest)


def _leads_on(calls: list[list[Any]], id: CallId) -> bool:
    """Tell whether a call is among those that are awaited."""
    return any((row[0], row[1]) == (id.partition, id.sequence) for row in calls)


def _waits_in(payload: bytes | None) -> _Waits | None:
    """Return what another partition says; None: nobody knows, or the call waits for nothing."""
    fields = None if payload is None else codec.decode(payload)
    return None if fields is None else _Waits(*fields)


def _age(id: CallId, start_by_ms: int) -> _Age:
    return start_by_ms, id.session, id.partition, id.sequence


def _name_of(call: Call) -> str:
    return link_text(link_of(call.request))
