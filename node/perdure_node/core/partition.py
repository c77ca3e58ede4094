"""A partition: which call runs next, what is journalled, who is answered and when.

Deterministic and free of I/O. What happens comes in through the methods named for events
(`call_arrived`, `method_returned`, `durable`, ...); the work they ask for comes out through
`take_ready`. Commits pile up in `memory` until the shell takes them as one record.

Invariants:
  * An object runs one exclusive call, or several shared ones, never both. The next is the one
    at the head of its mailbox.
  * Every mailbox holds or runs a call. An object without a mailbox is idle.
  * A call is looked up in its session's window before anything else is decided about it, so
    within the window no call runs twice and no refusal hides that a copy of it has run.
  * Nothing leaves before the last record that it could have seen is durable: `_let_out`.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol

from perdure import codec
from perdure.errors import Code
from perdure.frames import AnswerFrame, Encoding, Kind, Request, pack_error, pack_reply
from perdure.ids import ObjectKey, session_birth_ms
from perdure_node.core.commits import MARK, Commit, Outcome, Progress
from perdure_node.core.limits import Limits
from perdure_node.core.memory import DamageFound, Memory
from perdure_node.core.state import ObjectState
from perdure_node.core.window import UNRECORDED, Ended, SessionWindow

__all__ = ["Answer", "Call", "Catalog", "Partition", "Ready", "Refusal", "Target"]

YES = {Encoding.MSGPACK: codec.encode(True), Encoding.JSON: b"true"}
NO = {Encoding.MSGPACK: codec.encode(False), Encoding.JSON: b"false"}
NOTHING = {Encoding.MSGPACK: codec.encode(None), Encoding.JSON: b"null"}

READS = frozenset((Kind.GET, Kind.EXISTS, Kind.LIST))


P = ParamSpec("P")


def _stops_on_damage(
    event: Callable[Concatenate[Partition, P], None],
) -> Callable[Concatenate[Partition, P], None]:
    """Make damage that is found in the middle of an event stop the partition."""

    @functools.wraps(event)
    def guarded(self: Partition, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            event(self, *args, **kwargs)
        except DamageFound as damage:
            self.stop(str(damage))

    return guarded


class Refusal(NamedTuple):
    """Why a call does not run."""

    code: Code
    args: tuple[object, ...]


class Target(NamedTuple):
    """What a call is for, as the registered types know it."""

    shared: bool
    deferred: bool
    """The type persists on save only: its answers do not wait."""


class Catalog(Protocol):
    """The registered types, as far as a partition has to know them."""

    def find(self, request: Request) -> Target | Refusal:
        """Return what the call is for, or why there is no such thing."""
        ...

    def digest(self, request: Request) -> bytes | Refusal:
        """Return a digest of the arguments, equal for equal arguments however written."""
        ...

    def show(self, image: dict[str, bytes]) -> bytes:
        """Return a state as JSON."""
        ...


class Answer(NamedTuple):
    """An answer for one copy of a call."""

    sink: Any
    frame: AnswerFrame


class Copy(NamedTuple):
    """Where the answer to one copy of a call goes."""

    sink: Any
    number: int
    have: list[int] | None


class Call:
    """A call that has been admitted: it waits in a mailbox, or runs."""

    __slots__ = (
        "copies",
        "deadline_ms",
        "digest",
        "followers",
        "key",
        "progress",
        "request",
        "shared",
        "state",
        "target",
        "window",
    )

    def __init__(
        self,
        key: ObjectKey,
        request: Request,
        target: Target,
        window: SessionWindow[Call],
        deadline_ms: int,
    ) -> None:
        self.key = key
        self.request = request
        self.target = target
        self.shared = target.shared
        self.window = window
        self.deadline_ms = deadline_ms
        self.copies: list[Copy] = []
        self.digest = b""
        self.followers: list[Call] = []
        """Calls with the same idempotency key, which wait for this one's outcome."""
        self.state: ObjectState | None = None
        """Set while it runs."""
        self.progress: Progress | None = None
        """What the journal knows of it already."""


class Mailbox:
    """The calls of one object."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Call] = deque()
        self.running: list[Call] = []


@dataclass(slots=True, eq=False)
class Held:
    """A call that came before the one it has to follow."""

    until_ms: int
    request: Request
    copy: Copy
    deadline_ms: int
    over: bool = False
    """It has been admitted or refused."""


@dataclass(slots=True)
class Ready:
    """Work for the shell, in this order: let `outputs` out, then run the methods of `runs`."""

    outputs: list[Any] = field(default_factory=list)
    """`Answer`s, and tokens given to `hold` whose time has come."""
    runs: list[Call] = field(default_factory=list)


class Partition:
    """The rules of one partition, under one epoch."""

    def __init__(
        self, number: int, epoch: int, memory: Memory, catalog: Catalog, limits: Limits, server: str
    ) -> None:
        self.number = number
        self.epoch = epoch
        self.memory = memory
        self._catalog = catalog
        self._limits = limits
        self._server = server
        self._mailboxes: dict[ObjectKey, Mailbox] = {}
        self._waiting = 0
        self._held: deque[Held] = deque()
        self._followed: dict[tuple[bytes, int], list[Held]] = {}
        """The same by session and the sequence that they wait for."""
        self._keys: dict[tuple[ObjectKey, str, str], Call] = {}
        self._marks: list[Outcome] = []
        self._withheld: dict[int, list[Any]] = {}
        self._stalled: dict[ObjectKey, None] = {}
        self._ready = Ready()
        self.record = memory.durable + 1
        """The number of the record that the next commit will be in."""
        self.now_ms = 0
        """Monotonic time, as of the last event that brought it."""
        self.paused = False
        """No call starts: too much is on its way to the disk."""
        self.room = True
        """False: the disk is full, and calls that would write are refused."""
        self.draining = False
        self.damage: str | None = None

    # Events.

    @_stops_on_damage
    def call_arrived(
        self, request: Request, sink: Any, number: int, time_left_ms: int, now_ms: int, wall_ms: int
    ) -> None:
        """Take one copy of a call.

        Args:
            request: Its object is known to belong to this partition.
            sink: Where the answer goes, together with `number`. Opaque.
            number: Of the frame. 0: no answer is wanted.
            time_left_ms: Until the caller gives up.
            now_ms: Monotonic clock.
            wall_ms: Wall clock, for the age of sessions.
        """
        memory = self.memory
        self.now_ms = memory.now_ms = now_ms
        memory.time_ms = max(memory.time_ms, wall_ms)
        copy = Copy(sink, number, request.have)
        if self.damage is not None:
            self._refuse(copy, Refusal(Code.DATA_LOSS, (self.number, self.damage)))
        elif request.kind in READS:
            self._read(request, copy)
        elif request.kind == Kind.CONFIRM:
            window = memory.window(request.session)
            if window is not None:
                window.confirm(request.confirmed)
                memory.dirty_windows.add(request.session)
        else:
            self._admit(request, copy, now_ms + time_left_ms)
        if self._followed:
            self._admit_held(request)

    def time_passed(self, now_ms: int) -> None:
        """Refuse calls whose predecessors have not come in time."""
        self.now_ms = self.memory.now_ms = now_ms
        while self._held and (self._held[0].over or self._held[0].until_ms <= now_ms):
            held = self._held.popleft()
            if not held.over:
                held.over = True
                self._followed.pop((held.request.session, held.request.previous), None)
                self._refuse(held.copy, Refusal(Code.OUT_OF_ORDER, ()))

    @_stops_on_damage
    def method_returned(
        self,
        call: Call,
        code: int,
        payload: bytes,
        values: dict[str, bytes],
        *,
        created: bool = False,
        state_version: int | None = None,
        saved: bool = False,
    ) -> None:
        """Take the end of an exclusive call: commit what it changed and answer.

        Args:
            call: It was in `Ready.runs`.
            code: What its callers are told.
            payload: Likewise.
            values: The attributes that it changed. After an exception: those it had saved.
            created: The call was the object's creation, and `values` is the whole state.
            state_version: Of the state, when it has changed.
            saved: The method has called `save()`; only types that persist on save care.
        """
        state = call.state
        assert state is not None
        if self.damage is not None:
            self._finish(call, *self._damaged())
            return
        outcome = self._outcome(call, code, payload)
        outcomes = [outcome]
        if call.target.deferred and not created:
            if state.deferred is None:
                state.deferred = []
            state.deferred.append((outcome, values))
            if not saved and call.progress is None:
                self._defer(call, state, values, state_version)
                return
            outcomes, values = self._take_deferred(state)
        version = state.state_version if state_version is None else state_version
        self._commit(
            Commit(call.key, created, False, version, values, outcomes, None),
        )
        self._finish(call, code, payload, self.record)

    @_stops_on_damage
    def method_refused(self, call: Call, refusal: Refusal) -> None:
        """Take word that a call never entered its method, because its arguments do not fit."""
        code, payload = pack_error(*refusal)
        self._mark(call, code, payload, 0)
        self._finish(call, code, payload)

    @_stops_on_damage
    def shared_returned(self, call: Call, code: int, payload: bytes) -> None:
        """Take the end of a shared call. It has changed nothing, so there is no record."""
        state = call.state
        assert state is not None
        self._mark(call, MARK, b"", state.last_record)
        self._finish(call, code, payload, state.last_record)

    @_stops_on_damage
    def saved(
        self,
        call: Call,
        values: dict[str, bytes],
        saves: int,
        start: tuple[dict[str, bytes], int],
        state_version: int,
    ) -> None:
        """Commit what a method has saved so far; it goes on.

        Args:
            call: It runs.
            values: The attributes that have changed since the last commit.
            saves: How many `save()` it has made by now.
            start: The image and the state version with which it began.
            state_version: Of the state now.

        The commit holds the call itself, so that it is finished after a crash and not begun
        anew on top of what it has done already.
        """
        state = call.state
        assert state is not None
        if self.damage is not None:
            return
        outcomes: list[Outcome] = []
        if call.target.deferred:
            outcomes, before = self._take_deferred(state)
            values = {**before, **values}
        call.progress = Progress(list(call.request), *start, saves)
        self._commit(Commit(call.key, False, False, state_version, values, outcomes, call.progress))

    @_stops_on_damage
    def resume(self, key: ObjectKey, progress: Progress) -> None:
        """Put a call that a crash has interrupted back where it was: it holds its object.

        To be said before the first call arrives.
        """
        request = Request(*progress.request)
        target = self._catalog.find(request)
        if isinstance(target, Refusal):
            # Its code is gone. The object stays as of its last save, and the call failed.
            window = self._window_of(request.session)
            call = Call(key, request, Target(shared=False, deferred=False), window, 0)
            code, payload = pack_error(*target)
            state = self.memory.state(key)
            version = 1 if state is None else state.state_version
            self._commit(
                Commit(key, False, False, version, {}, [self._outcome(call, code, payload)], None)
            )
            return
        window = self._window_of(request.session)
        call = Call(key, request, target, window, 1 << 62)
        call.progress = progress
        if request.key is not None:
            digest = self._catalog.digest(request)
            call.digest = digest if isinstance(digest, bytes) else b"unknown"
            self._keys[key, request.method, request.key] = call
        self._enqueue(call)

    def hold(self, key: ObjectKey, token: object) -> None:
        """Give `token` out again once all that `key` has committed so far is durable."""
        self._let_out(token, self.memory.last_record_of(key))

    def hold_all(self, token: object) -> None:
        """Give `token` out again once all that the partition has committed so far is durable."""
        self._let_out(token, self.record if self.memory.has_commits else self.record - 1)

    def record_made(self, record: int, bytes: int) -> None:
        """Note that the commits taken from `memory` are record `record` now, not yet durable."""
        assert record == self.record, (record, self.record)
        self.memory.record_made(record, bytes)
        self.record = record + 1

    def durable(self, record: int) -> None:
        """Let out what waited for all records up to this one."""
        before = self.memory.durable
        self.memory.durable = record
        if self.damage is not None:
            return
        for number in range(before + 1, record + 1):
            self._ready.outputs += self._withheld.pop(number, ())

    @_stops_on_damage
    def resume_starting(self) -> None:
        """Start the calls that could not start while `paused` was set."""
        stalled, self._stalled = self._stalled, {}
        for key in stalled:
            if key in self._mailboxes:
                self._start_next(key, self._mailboxes[key])

    def commit_deferred(self, state: ObjectState) -> None:
        """Commit what calls have changed since an object's last `save()`."""
        if state.deferred:
            outcomes, values = self._take_deferred(state)
            self._commit(
                Commit(state.key, False, False, state.state_version, values, outcomes, None)
            )

    def flush_marks(self) -> None:
        """Give calls that changed nothing a record of their own."""
        if self._marks:
            self.memory.commit(
                Commit(None, False, False, 0, {}, self._take_marks(), None), self.record
            )

    def stop(self, damage: str) -> None:
        """Stop for good: the data is damaged. Nothing that was not let out yet ever will be."""
        if self.damage is not None:
            return
        self.damage = damage
        code, payload = self._damaged()
        body = pack_reply(payload)
        for outputs in self._withheld.values():
            for output in outputs:
                if isinstance(output, Answer):
                    frame = AnswerFrame(output.frame.number, code, body)
                    self._ready.outputs.append(Answer(output.sink, frame))
        self._withheld.clear()
        refusal = Refusal(Code.DATA_LOSS, (self.number, damage))
        for held in self._held:
            if not held.over:
                self._refuse(held.copy, refusal)
        self._held.clear()
        self._followed.clear()
        for mailbox in self._mailboxes.values():
            for call in [*mailbox.waiting, *mailbox.running]:
                for one in [call, *call.followers]:
                    for copy in one.copies:
                        self._refuse(copy, refusal)
                    one.copies = []
            mailbox.waiting.clear()

    def take_ready(self) -> Ready:
        """Return the work caused since the last call, and forget it."""
        ready, self._ready = self._ready, Ready()
        return ready

    @property
    def next_time_ms(self) -> int | None:
        """When `time_passed` has something to do: monotonic time. None: not at all."""
        return self._held[0].until_ms if self._held else None

    @property
    def is_idle(self) -> bool:
        """Tell whether no call waits or runs."""
        return not self._mailboxes and not self._held

    @property
    def has_work(self) -> bool:
        """Tell whether `take_ready` would return anything."""
        return bool(self._ready.runs or self._ready.outputs)

    # Reads, which wait for no method.

    def _read(self, request: Request, copy: Copy) -> None:
        found = self._catalog.find(request)
        if isinstance(found, Refusal):
            self._refuse(copy, found)
            return
        encoding = Encoding(request.encoding)
        memory = self.memory
        if request.kind == Kind.LIST:
            ids, more = memory.list_ids(
                request.type, request.id, request.method, _limit(request.arguments)
            )
            body = pack_reply(codec.encode([ids, more]))
            # A list could have seen any commit of the partition.
            self.hold_all(Answer(copy.sink, AnswerFrame(copy.number, 0, body)))
            return
        key = ObjectKey(request.type, request.id)
        if request.kind == Kind.EXISTS:
            there = memory.exists(key)
            body = pack_reply((YES if there else NO)[encoding])
            self._let_out(
                Answer(copy.sink, AnswerFrame(copy.number, 0, body)), memory.last_record_of(key)
            )
            return
        state = memory.state(key)
        if state is None or state.image is None:
            self._answer(copy, state, *pack_error(Code.OBJECT_NOT_FOUND, key))
        else:
            everything = request.method == "*"
            self._answer(copy, state, 0, self._shown(state, encoding), everything=everything)

    def _shown(self, state: ObjectState, encoding: Encoding) -> bytes:
        if encoding is Encoding.JSON and state.image is not None:
            return self._catalog.show(state.image)
        return NOTHING[encoding]

    # Admission: from the wire to a mailbox.

    def _admit(self, request: Request, copy: Copy, deadline_ms: int) -> None:
        window = self.memory.window(request.session)
        if window is None:
            refusal = self._refuse_session(request.session)
            if refusal is not None:
                self._refuse(copy, refusal)
                return
            window = self.memory.open_window(request.session)
        window.confirm(request.confirmed)
        self.memory.dirty_windows.add(request.session)
        sequence = request.sequence
        if sequence == 0:
            self._refuse(copy, Refusal(Code.MALFORMED, ("a call has a sequence from 1 on",)))
            return
        if (past := window.ended.get(sequence)) is not None and past.code != MARK:
            self._repeat(request, copy, past)
            return
        if (call := window.open.get(sequence)) is not None:
            if len(call.copies) < self._limits.copies_max:
                call.copies.append(copy)
            else:
                what = ("copies of one call", self._limits.retry_after_s)
                self._refuse(copy, Refusal(Code.BACKPRESSURE, what))
            return
        if window.is_settled(sequence):
            self._refuse(copy, Refusal(Code.SUPERSEDED, ()))
            return
        previous = request.previous
        if previous and previous not in window.open and previous not in window.ended:
            if window.is_settled(previous):
                # This copy is older than the end of the one it names. What it has to follow now,
                # a still earlier call perhaps, only a new copy says.
                self._refuse(copy, Refusal(Code.OUT_OF_ORDER, ()))
            else:
                self._hold_back(request, copy, deadline_ms)
            return
        self._accept(request, copy, window, deadline_ms, again=past is not None)

    def _hold_back(self, request: Request, copy: Copy, deadline_ms: int) -> None:
        """Let a call wait a little for the one that it must not overtake."""
        if len(self._held) >= self._limits.held_calls_max:
            self._refuse(copy, Refusal(Code.OUT_OF_ORDER, ()))
            return
        until_ms = self.now_ms + self._limits.out_of_order_wait_ms
        held = Held(until_ms, request, copy, deadline_ms)
        self._held.append(held)
        self._followed.setdefault((request.session, request.previous), []).append(held)

    def _admit_held(self, request: Request) -> None:
        """Take up again the calls that waited for this one, or for one that it confirms."""
        session = request.session
        window = self.memory.window(session)
        if window is None:
            return
        arrived = [n for s, n in self._followed if s == session and window.has_seen(n)]
        while arrived:
            for held in self._followed.pop((session, arrived.pop()), ()):
                if not held.over:
                    held.over = True
                    self._admit(held.request, held.copy, held.deadline_ms)
                    if window.has_seen(held.request.sequence):
                        arrived.append(held.request.sequence)

    def _refuse_session(self, session: bytes) -> Refusal | None:
        """Tell why a session that nothing is known of is not begun."""
        birth_ms = session_birth_ms(session)
        now_ms = self.memory.time_ms
        if birth_ms + self._limits.session_window_ms < now_ms:
            return Refusal(
                Code.SESSION_EXPIRED,
                ("the call's session is too old to be remembered: the call may have run",),
            )
        if birth_ms > now_ms + self._limits.session_ahead_ms:
            return Refusal(Code.MALFORMED, ("the call's session is born in the future",))
        return None

    def _accept(
        self,
        request: Request,
        copy: Copy,
        window: SessionWindow[Call],
        deadline_ms: int,
        *,
        again: bool,
    ) -> None:
        """Take a call that has not been here before, or (`again`) changed nothing when it was."""
        target = self._catalog.find(request)
        refusal = target if isinstance(target, Refusal) else self._no_place(request, window)
        if refusal is not None:
            self._refuse(copy, refusal)
            return
        assert isinstance(target, Target)
        call = Call(ObjectKey(request.type, request.id), request, target, window, deadline_ms)
        call.copies.append(copy)
        if request.key is not None and request.kind == Kind.CALL and not self._claim_key(call):
            return
        if request.kind == Kind.GET_OR_CREATE:
            state = self.memory.state(call.key)
            if state is not None and state.image is not None:
                # It is there: a read, which waits for no method.
                self._mark(call, MARK, b"", state.last_record)
                self._answer(copy, state, 0, self._shown(state, Encoding(request.encoding)))
                return
        if again and not call.shared:
            # What it read has changed since. It must not do now what it had no need to do then.
            self._forget(call)
            self._answer(copy, None, *pack_error(Code.SUPERSEDED, ()))
            return
        if not self.room and not call.shared:
            self._forget(call)
            self._refuse(copy, Refusal(Code.DISK_FULL, (1.0,)))
            return
        self._enqueue(call)

    def _no_place(self, request: Request, window: SessionWindow[Call]) -> Refusal | None:
        limits = self._limits
        key = [request.type, request.id]
        chain = request.chain
        if chain:
            if len(chain) > limits.chain_calls_max:
                return Refusal(Code.CALL_DEPTH, (len(chain), limits.chain_calls_max))
            # A handle to an object of the chain may be had: that waits for no method.
            if request.kind != Kind.GET_OR_CREATE and any(link[:2] == key for link in chain):
                links = [*chain, [*key, request.method]]
                return Refusal(Code.CALL_CYCLE, ([f"{t}[{i}].{m}" for t, i, m in links],))
        if self.draining:
            return Refusal(Code.DRAINING, (self._server,))
        retry_after_s = limits.retry_after_s
        mailbox = self._mailboxes.get(ObjectKey(*key))
        if mailbox is not None and len(mailbox.waiting) >= limits.mailbox_calls_max:
            return Refusal(Code.BACKPRESSURE, (f"{key[0]}[{key[1]}]", retry_after_s))
        if self._waiting >= limits.waiting_calls_max:
            return Refusal(Code.BACKPRESSURE, (f"partition {self.number}", retry_after_s))
        if (
            len(window.open) + len(window.ended) >= limits.session_unconfirmed_max
            or window.bytes >= limits.session_outcome_bytes_max
        ):
            return Refusal(Code.BACKPRESSURE, ("the answers of this session", retry_after_s))
        return None

    def _claim_key(self, call: Call) -> bool:
        """Claim a call's idempotency key. False: the call is answered otherwise, or will be."""
        request = call.request
        assert request.key is not None
        digest = self._catalog.digest(request)
        if isinstance(digest, Refusal):
            self._refuse(call.copies[0], digest)
            return False
        call.digest = digest
        name = (call.key, request.method, request.key)
        first = self._keys.get(name)
        past = None if first is not None else self.memory.keyed(*name)
        if first is None and past is None:
            self._keys[name] = call
            return True
        reused = pack_error(Code.KEY_REUSED, (request.key, str(call.key), request.method))
        if first is not None:
            if first.digest == digest:
                call.window.open[request.sequence] = call
                first.followers.append(call)
            else:
                self._answer(call.copies[0], None, *reused)
        elif past is not None:
            self._mark(call, MARK, b"", past.record)
            state = self.memory.state(call.key)
            code, payload = (past.code, past.payload) if past.digest == digest else reused
            self._answer(call.copies[0], state, code, payload, past.record)
        return False

    # Mailboxes.

    def _enqueue(self, call: Call) -> None:
        call.window.open[call.request.sequence] = call
        mailbox = self._mailboxes.get(call.key)
        if mailbox is None:
            mailbox = self._mailboxes[call.key] = Mailbox()
        mailbox.waiting.append(call)
        self._waiting += 1
        if len(mailbox.waiting) == 1:
            self._start_next(call.key, mailbox)

    def _start_next(self, key: ObjectKey, mailbox: Mailbox) -> None:
        waiting, running = mailbox.waiting, mailbox.running
        while waiting:
            if running and not (waiting[0].shared and running[0].shared):
                return
            if self.paused:
                self._stalled[key] = None
                return
            call = waiting.popleft()
            self._waiting -= 1
            self._start(call, mailbox)
        if not running:
            del self._mailboxes[key]

    def _start(self, call: Call, mailbox: Mailbox) -> None:
        """Run a call, or answer it if there is nothing to run."""
        if self.now_ms > call.deadline_ms:
            text = "the caller's time was over before the call could start: it did not run"
            self._end_unrun(call, *pack_error(Code.DEADLINE_EXCEEDED, (text,)))
            return
        kind = call.request.kind
        state = self.memory.state(call.key)
        there = state is not None and state.image is not None
        if kind == Kind.DELETE:
            self._delete(call, state if there else None)
            return
        if kind == Kind.GET_OR_CREATE:
            if there:
                assert state is not None
                shown = self._shown(state, Encoding(call.request.encoding))
                self._mark(call, MARK, b"", state.last_record)
                for copy in call.copies:
                    self._answer(copy, state, 0, shown)
                return
            if state is None:
                state = ObjectState(call.key, None, 1, self.memory.number)
        elif not there or state is None:
            self._end_unrun(call, *pack_error(Code.OBJECT_NOT_FOUND, call.key), state=state)
            return
        call.state = state
        state.users += 1
        mailbox.running.append(call)
        self._ready.runs.append(call)

    def _delete(self, call: Call, state: ObjectState | None) -> None:
        encoding = Encoding(call.request.encoding)
        payload = NO[encoding] if state is None else YES[encoding]
        outcome = self._outcome(call, 0, payload)
        outcomes = [outcome]
        if state is not None and state.deferred:
            outcomes = [*self._take_deferred(state)[0], outcome]
        version = 0 if state is None else state.state_version
        gone = state is not None
        self._commit(Commit(call.key if gone else None, False, gone, version, {}, outcomes, None))
        self._forget(call)
        for copy in call.copies:
            self._answer(copy, None, 0, payload, self.record)

    def _end_unrun(
        self, call: Call, code: int, payload: bytes, state: ObjectState | None = None
    ) -> None:
        """Answer a call that did not run. A late copy of it gets the same answer."""
        self._mark(call, code, payload, 0 if state is None else state.last_record)
        self._forget(call)
        for copy in call.copies:
            self._answer(copy, state, code, payload)
        self._end_followers(call, code, payload, 0)

    def _finish(self, call: Call, code: int, payload: bytes, record: int = 0) -> None:
        """Answer a call that has run, and let the next one of its object start."""
        state = call.state
        assert state is not None
        state.users -= 1
        call.window.open.pop(call.request.sequence, None)
        self._forget(call)
        current = self.memory.state(call.key) if call.request.kind == Kind.GET_OR_CREATE else state
        if code == 0 and call.request.kind == Kind.GET_OR_CREATE and current is not None:
            payload = self._shown(current, Encoding(call.request.encoding))
        for copy in call.copies:
            self._answer(copy, current, code, payload, record)
        self._end_followers(call, code, payload, record)
        mailbox = self._mailboxes.get(call.key)
        if mailbox is not None:
            mailbox.running.remove(call)
            self._start_next(call.key, mailbox)

    def _end_followers(self, call: Call, code: int, payload: bytes, record: int) -> None:
        for follower in call.followers:
            self._mark(follower, MARK, b"", record)
            for copy in follower.copies:
                self._answer(copy, call.state, code, payload, record)

    def _forget(self, call: Call) -> None:
        if call.request.key is not None:
            name = (call.key, call.request.method, call.request.key)
            if self._keys.get(name) is call:
                del self._keys[name]

    # Commits.

    def _outcome(self, call: Call, code: int, payload: bytes) -> Outcome:
        request = call.request
        return Outcome(
            request.session,
            request.sequence,
            request.confirmed,
            code,
            payload,
            request.key if call.digest else None,
            request.method if call.digest else "",
            call.digest,
        )

    def _commit(self, commit: Commit) -> None:
        if self._marks:
            self.flush_marks()
        self.memory.commit(commit, self.record)

    def _mark(self, call: Call, code: int, payload: bytes, record: int) -> None:
        """Note a call that changed nothing, and saw no more than `record`.

        That rides along with the next record: whatever could make a late copy of the call do
        something would be in that record or a later one.
        """
        request = call.request
        outcome = Outcome(request.session, request.sequence, request.confirmed, code, payload)
        call.window.end(request.sequence, code, payload, record)
        self.memory.dirty_windows.add(request.session)
        self._marks.append(outcome)
        if len(self._marks) >= self._limits.marks_max:
            self.flush_marks()

    def _take_marks(self) -> list[Outcome]:
        marks, self._marks = self._marks, []
        return marks

    def _defer(
        self,
        call: Call,
        state: ObjectState,
        values: dict[str, bytes],
        state_version: int | None,
    ) -> None:
        """Take over changes that only the next `save()` will make durable."""
        outcome, _ = state.deferred[-1]  # type: ignore[index]  # just appended by the caller
        if state_version is not None:
            state.state_version = state_version
        if values:
            self.memory.change_unrecorded(state, values)
        call.window.end(outcome.sequence, outcome.code, outcome.payload, UNRECORDED)
        self.memory.dirty_windows.add(outcome.session)
        self._finish(call, outcome.code, outcome.payload, state.last_record)

    def _take_deferred(self, state: ObjectState) -> tuple[list[Outcome], dict[str, bytes]]:
        deferred, state.deferred = state.deferred or [], None
        values: dict[str, bytes] = {}
        for _, changed in deferred:
            values.update(changed)
        return [outcome for outcome, _ in deferred], values

    # Answers.

    def _repeat(self, request: Request, copy: Copy, past: Ended) -> None:
        """Answer a copy of a call that has ended."""
        state = self.memory.state(ObjectKey(request.type, request.id))
        record = 0 if past.record == UNRECORDED else past.record
        self._answer(copy, state, past.code, past.payload, record)

    def _refuse(self, copy: Copy, refusal: Refusal) -> None:
        """Refuse at once: this was decided without looking at anything that could be lost."""
        if copy.number:
            code, payload = pack_error(*refusal)
            frame = AnswerFrame(copy.number, code, pack_reply(payload))
            self._ready.outputs.append(Answer(copy.sink, frame))

    def _answer(
        self,
        copy: Copy,
        state: ObjectState | None,
        code: int,
        payload: bytes,
        record: int = 0,
        *,
        everything: bool = False,
    ) -> None:
        """Answer a copy once `record`, and whatever else the answer could have seen, is durable."""
        if not copy.number:
            return
        version = changes = None
        if state is not None:
            record = max(record, state.last_record)
            if copy.have is not None and state.image is not None:
                limits = None if everything else self._limits
                changes = state.changes_since(self.epoch, copy.have, limits)
                version = (self.epoch, state.number)
        frame = AnswerFrame(copy.number, code, pack_reply(payload, version, changes))
        self._let_out(Answer(copy.sink, frame), record)

    def _let_out(self, output: object, record: int) -> None:
        if record <= self.memory.durable:
            self._ready.outputs.append(output)
        else:
            self._withheld.setdefault(record, []).append(output)

    def _damaged(self) -> tuple[int, bytes]:
        return pack_error(Code.DATA_LOSS, (self.number, self.damage))

    def _window_of(self, session: bytes) -> SessionWindow[Call]:
        return self.memory.window(session) or self.memory.open_window(session)


def _limit(arguments: bytes) -> int:
    limit = codec.decode(arguments) if arguments else 0
    return min(limit, 1_000) if type(limit) is int and limit > 0 else 1_000
