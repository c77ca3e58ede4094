"""Partitions whose objects call one another, and everything on its way between them.

Real cores; what travels waits here until a test delivers it, in any order, or loses it. Who waits
for whom is known here, too, from above: so a refusal can be compared with the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.core import HERE, Core

from perdure.bodies import Request, unpack_error
from perdure.codec import encode
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import CallId, ObjectKey, partition_session_id
from perdure_node.core.calls import Call
from perdure_node.core.chains import chain_inside
from perdure_node.core.events import CALL, OutboxEntry, Scheduled, open_steps
from perdure_node.core.limits import Limits
from perdure_node.core.probing import Probe

START_BY_MS = Limits().nested_start_ms


class Age(NamedTuple):
    """How old a call is; see `core/probing.py`."""

    start_by_ms: int
    id: CallId


class Method:
    """A method as a core knows it: what it awaits."""

    def __init__(self, ignored: set[int]) -> None:
        self.ignored = ignored

    def awaits(self, step: int) -> bool:
        return step not in self.ignored


@dataclass
class Message:
    """Something on its way."""

    kind: str
    """`call`, `answer`, `probe` or `told`."""
    partition: int
    """Where it goes."""
    content: Any


@dataclass
class Sinks:
    """Who gets the answers of one partition, by the number of the frame."""

    calls: dict[int, CallId] = field(default_factory=dict)
    probes: dict[int, tuple[int, Probe]] = field(default_factory=dict)


class Waits:
    """Objects 0, 1, ... over some partitions. Each runs one method at a time."""

    def __init__(
        self, places: list[int], limits: Limits | None = None, *, exact: bool = False
    ) -> None:
        """Create the objects.

        Args:
            places: The partition of each.
            limits: Those of all partitions.
            exact: Methods make one step at a time. So no call is part of two circles, and one that
                is refused is part of a circle at that very moment.
        """
        self.exact = exact
        self.keys = [ObjectKey("Knot", str(n)) for n in range(len(places))]
        self.places = places
        self.cores = [Core(limits, number) for number in range(max(places) + 1)]
        self.sinks = [Sinks() for _ in self.cores]
        self.messages: list[Message] = []
        self.sent: dict[CallId, OutboxEntry] = {}
        """Calls between objects without an answer."""
        self.refused: dict[CallId, list[str]] = {}
        """Those refused as part of a circle, and how that is named."""
        self.youngest: set[CallId] = set()
        """Those that have been the youngest of a circle when somebody looked."""
        self.ignored: dict[CallId, set[int]] = {}
        """Steps that a method does not await, by the method's call."""
        self.probes = 0
        self._numbers = 1_000_000
        self._sequences = dict.fromkeys(range(len(self.cores)), 0)
        for key, place in zip(self.keys, places, strict=True):
            self.cores[place].create(self._next(place), key)
        self.now = Truth(self)

    def _next(self, place: int) -> int:
        self._sequences[place] += 1
        return self._sequences[place]

    # What methods do.

    def begin(self, object: int, method: str = "hold") -> None:
        """Let a client call an object."""
        place = self.places[object]
        self.cores[place].call(self._next(place), method, target=self.keys[object])
        self._settle(place)

    def running(self, object: int) -> Call | None:
        """Return the call that holds an object."""
        for call in self.cores[self.places[object]].running:
            if call.key == self.keys[object] and not call.shared:
                return call
        return None

    def call(
        self,
        object: int,
        target: int,
        *,
        awaited: bool = True,
        skew_ms: int = 0,
        key: str | None = None,
        method: str = "",
    ) -> CallId | None:
        """Let the method that holds an object call another one. None: no method does."""
        caller, place = self.running(object), self.places[object]
        if caller is None or self._is_busy(caller):
            return None
        core, there = self.cores[place], self.places[target]
        entry = OutboxEntry(
            there, core.memory.underway.next_sequence(there), *self.keys[target], int(Kind.CALL),
            method or f"m{object}", 0, b"", key, None, chain_inside(caller.request), 0,
            core.wall_ms + START_BY_MS + skew_ms,
        )  # fmt: skip
        self._schedule(caller, place, CALL, entry, awaited=awaited)
        id = self._origin(place, entry)
        self.sent[id] = entry
        self.messages.append(Message("call", there, id))
        return id

    def nap(self, object: int, *, awaited: bool = True) -> None:
        """Let the method that holds an object begin a step that ends by itself."""
        caller = self.running(object)
        if caller is not None and not self._is_busy(caller):
            self._schedule(caller, self.places[object], "sleep", 0, awaited=awaited)

    def wake(self, object: int) -> None:
        """End the first such step."""
        caller = self.running(object)
        for step in [] if caller is None or caller.progress is None else self._open(caller):
            if step.kind == "sleep":
                self._done(self.places[object], caller, step.step, 0, b"")
                return

    def end(self, object: int) -> None:
        """Let the method that holds an object return, unless it waits for something."""
        caller, place = self.running(object), self.places[object]
        if caller is None:
            return
        left = [] if caller.progress is None else self._open(caller)
        if any(caller.turn is None or caller.turn.awaits(step.step) for step in left):
            return
        core = self.cores[place]
        core.running.remove(caller)
        effects = [OutboxEntry(*step.data) for step in left if step.kind == CALL]
        core.partition.method_returned(caller, 0, b"ok", {}, effects=effects)
        self._settle(place)

    def _is_busy(self, caller: Call) -> bool:
        return self.exact and caller.progress is not None and bool(self._open(caller))

    def _schedule(self, caller: Call, place: int, kind: str, data: Any, *, awaited: bool) -> None:
        core = self.cores[place]
        events = [] if caller.progress is None else caller.progress.events
        number = 1 + sum(isinstance(event, Scheduled) for event in events)
        scheduled = Scheduled(number, kind, "", data)
        core.partition.journalled.step(caller, [scheduled], ({}, 1), None)
        self._settle(place)
        ignored = self.ignored.setdefault(self._id(caller, place), set())
        caller.turn = Method(ignored)
        if not awaited:
            ignored.add(number)

    def _open(self, caller: Call) -> list[Scheduled]:
        assert caller.progress is not None
        return open_steps(caller.progress.events)

    def _done(self, place: int, caller: Call, step: int, code: int, payload: bytes) -> None:
        self.cores[place].partition.journalled.step_done(caller, step, code, payload)
        self._settle(place)

    # What travels.

    def deliver(self, which: int = 0) -> None:
        """Let one of the messages arrive."""
        if not self.messages:
            return
        self.look()
        message = self.messages.pop(which % len(self.messages))
        getattr(self, f"_deliver_{message.kind}")(message.partition, message.content)

    def lose(self, which: int) -> None:
        """Lose one of the messages, if it may be lost: a call would be sent again."""
        if self.messages:
            message = self.messages[which % len(self.messages)]
            if message.kind in ("probe", "told"):
                self.messages.remove(message)

    def deliver_all(self) -> None:
        while self.messages:
            self.deliver()

    def _deliver_call(self, partition: int, id: CallId) -> None:
        entry = self.sent.get(id)
        if entry is None:
            return
        request = Request(
            entry.kind, id.session, id.sequence, 0, [0], entry.type, entry.id, entry.method,
            entry.encoding, entry.arguments, entry.key, None, entry.chain, entry.start_by_ms,
        )  # fmt: skip
        self.sinks[partition].calls[self._arrive(partition, request)] = id
        self._settle(partition)

    def _deliver_answer(self, partition: int, content: tuple[CallId, int, bytes]) -> None:
        id, code, payload = content
        if self.sent.pop(id, None) is None:
            return
        for caller in self.cores[partition].running:
            for step in [] if caller.progress is None else self._open(caller):
                if step.kind == CALL and self._origin(partition, OutboxEntry(*step.data)) == id:
                    self._done(partition, caller, step.step, code, payload)
                    return

    def _deliver_probe(self, partition: int, content: tuple[int, Probe]) -> None:
        probe = content[1]
        arguments = encode(str(probe.id))
        request = Request(
            int(Kind.PROBE), HERE, 0, 0, [0], *probe.target, "", 0, arguments, None, None, [], 0
        )
        self.probes += 1
        self.sinks[partition].probes[self._arrive(partition, request)] = content
        self._settle(partition)

    def _deliver_told(self, partition: int, content: tuple[Probe, bytes]) -> None:
        probe, payload = content
        probe.told(payload)
        self.cores[partition]._work()
        self._settle(partition)

    def _arrive(self, partition: int, request: Request) -> int:
        core = self.cores[partition]
        self._numbers += 1
        core.partition.call_arrived(
            request, core.sink, self._numbers, 1 << 40, core.now_ms, core.wall_ms
        )
        core._work()
        return self._numbers

    def time_passes(self, milliseconds: int) -> None:
        """Let time pass for all partitions, one after the other."""
        for place, core in enumerate(self.cores):
            self.look()
            core.time_passes(milliseconds)
            self._settle(place)

    def crash(self, partition: int) -> None:
        """Let a partition be opened again. Callers send what they want an answer for again."""
        core = self.cores[partition]
        core.crash()
        self.sinks[partition] = Sinks()
        self.messages = [m for m in self.messages if m.kind != "told" or m.partition != partition]
        for caller in core.running:
            caller.turn = Method(self.ignored.setdefault(self._id(caller, partition), set()))
        for id in self.sent:
            if partition in (id.partition, self._caller_of(id)):
                self.messages.append(Message("call", id.partition, id))

    def _settle(self, place: int) -> None:
        """Make all durable, and see what leaves."""
        core, sinks = self.cores[place], self.sinks[place]
        core.sync()
        for token in core.tokens:
            if isinstance(token, Probe):
                self.messages.append(Message("probe", token.id.partition, (place, token)))
        core.tokens = []
        answers, core.sink.answers = core.sink.answers, []
        for number, code, reply in answers:
            if number in sinks.probes:
                asker, probe = sinks.probes.pop(number)
                self.messages.append(Message("told", asker, (probe, reply.payload)))
            elif number in sinks.calls:
                id = sinks.calls.pop(number)
                if code == Code.CALL_CYCLE:
                    self._refused(id, unpack_error(reply.payload)[0])
                self.messages.append(
                    Message("answer", self._caller_of(id), (id, code, reply.payload))
                )

    def _refused(self, id: CallId, names: list[str]) -> None:
        entry = self.sent[id]
        if any(link[:2] == list(entry.target) for link in entry.chain):
            return  # It came back into its own chain.
        assert id in self.youngest, (id, names)
        if id not in self.refused:
            self.refused[id] = names
            if self.exact:
                assert self.now.is_in_circle(id, youngest=True), (id, names)

    # The truth.

    def look(self) -> None:
        """Look who waits for whom."""
        self.now = Truth(self)
        self.youngest |= {id for id in self.sent if self.now.is_in_circle(id, youngest=True)}

    def circles(self) -> bool:
        """Tell whether any call waits for itself now, and nothing else goes on."""
        self.look()
        return any(self.now.is_in_circle(id, standing=True) for id in self.sent)

    def _id(self, call: Call, place: int) -> CallId:
        return CallId(call.request.session, place, call.request.sequence)

    def _origin(self, place: int, entry: OutboxEntry) -> CallId:
        return CallId(partition_session_id("waits", place), entry.partition, entry.sequence)

    @staticmethod
    def _caller_of(id: CallId) -> int:
        return int.from_bytes(id.session[-2:], "big")


class Truth:
    """Who waits for whom, as nobody inside can see it: all at one time.

    A call on its way to an object that is held waits for the holder: that is how it will be, and
    how it was if a crash has thrown it out.
    """

    def __init__(self, world: Waits) -> None:
        self.holders: dict[CallId, CallId] = {}
        """Of calls that wait: the call that holds their object."""
        self.awaited: dict[CallId, list[CallId]] = {}
        """Of methods that wait: the calls they wait for."""
        self.moving: set[CallId] = set()
        """Methods that wait for something else, too, which will end."""
        self.ages = {id: Age(entry.start_by_ms, id) for id, entry in world.sent.items()}
        holding: dict[ObjectKey, CallId] = {}
        for place, core in enumerate(world.cores):
            for call in core.running:
                if call.shared or call.progress is None:
                    continue
                id = world._id(call, place)
                holding[call.key] = id
                steps = [s for s in world._open(call) if call.turn.awaits(s.step)]
                if any(step.kind != CALL for step in steps):
                    self.moving.add(id)
                self.awaited[id] = [
                    world._origin(place, OutboxEntry(*step.data))
                    for step in steps
                    if step.kind == CALL
                ]
            for mailbox in core.partition.mailboxes:
                for call in [*mailbox.waiting, *mailbox.running]:
                    for twin in call.followers:
                        # It is not refused: another call with its key waits in its place.
                        id = world._id(twin, place)
                        self.ages[id] = Age(0, id)
        answered = {m.content[0] for m in world.messages if m.kind == "answer"}
        running = {
            world._id(call, place)
            for place, core in enumerate(world.cores)
            for call in core.running
        }
        for id, entry in world.sent.items():
            if id not in answered and id not in running and entry.target in holding:
                self.holders[id] = holding[entry.target]

    def _next(self, id: CallId) -> list[CallId]:
        """Return what a call waits for: another call."""
        if id in self.holders:
            return [self.holders[id]]
        return self.awaited.get(id, [])

    def is_in_circle(self, id: CallId, *, youngest: bool = False, standing: bool = False) -> bool:
        """Tell whether a call waits for itself.

        Args:
            id: The call.
            youngest: Over no younger call.
            standing: Over no method that waits for something else, too.
        """
        if id not in self.holders:
            return False
        todo, seen = [id], set[CallId]()
        while todo:
            for further in self._next(todo.pop()):
                if further == id:
                    return True
                too_young = (
                    youngest and further in self.holders and self.ages[further] > self.ages[id]
                )
                moving = standing and further in self.moving
                if further not in seen and not too_young and not moving:
                    seen.add(further)
                    todo.append(further)
        return False


def held(places: list[int], limits: Limits | None = None) -> Waits:
    """Return objects that are all held by a method."""
    world = Waits(places, limits)
    for object in range(len(places)):
        world.begin(object)
    return world


def crossed(places: list[int], limits: Limits | None = None) -> tuple[Waits, list[CallId]]:
    """Return objects of which each calls the next one, the last one calls the first."""
    world = held(places, limits)
    calls = []
    for object in range(len(places)):
        id = world.call(object, (object + 1) % len(places), skew_ms=object)
        assert id is not None
        calls.append(id)
    world.deliver_all()
    return world, calls
