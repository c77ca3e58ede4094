"""The pure core of a node under test: a real partition over rows kept in a dict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.bodies import Request, unpack_error, unpack_reply
from perdure.errors import Code
from perdure.frames import Kind, Reply
from perdure.ids import ObjectKey, new_session_id
from perdure_node.core.blames import Driven
from perdure_node.core.calls import Call, Refusal, Target
from perdure_node.core.commits import pack_record, unpack_record
from perdure_node.core.copies import Answer
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.partition import Partition
from perdure_node.core.residents import Residents

WALL_MS = 1_800_000_000_000
HERE = new_session_id(WALL_MS, b"session-aa")
THERE = new_session_id(WALL_MS, b"session-bb")
CART = ObjectKey("Cart", "u1")


class Rows:
    """A store: rows that would survive a crash, because somebody wrote them."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.applied = 0

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(
        self, prefix: bytes, after: bytes = b"", limit: int = 1_000
    ) -> list[tuple[bytes, bytes]]:
        keys = sorted(k for k in self.rows if k.startswith(prefix) and k > after)
        return [(key, self.rows[key]) for key in keys[:limit]]

    def write(
        self,
        puts: list[tuple[bytes, bytes]],
        deletes: list[bytes],
        applied: int,
        cleared: Sequence[bytes] = (),
    ) -> None:
        assert applied >= self.applied
        if cleared:
            kept = {k: v for k, v in self.rows.items() if not k.startswith(tuple(cleared))}
            self.rows = kept
        self.rows |= dict(puts)
        for key in deletes:
            self.rows.pop(key, None)
        self.applied = applied


class Catalog:
    """Types: everything is there; methods beginning with `shared` only read.

    Runs of the workflow `brief` stay for a second, those of `kept` for ever.
    """

    def find(self, request: Request) -> Target | Refusal:
        if request.type == "Unknown":
            return Refusal(Code.UNKNOWN_TYPE, (request.type,))
        if request.method == "unknown":
            return Refusal(Code.UNKNOWN_METHOD, (request.type, request.method))
        shared = request.kind == Kind.CALL and request.method.startswith("shared")
        return Target(shared=shared, deferred=request.type == "Lazy")

    def digest(self, request: Request) -> bytes | Refusal:
        return request.arguments

    def start(self, request: Request) -> tuple[str, bytes] | Refusal:
        return "1", request.arguments

    def retention_ms(self, workflow: str) -> int | None:
        return {"brief": 1_000, "kept": -1}.get(workflow)

    def show(self, image: dict[str, bytes]) -> bytes:
        return repr(image).encode()


@dataclass
class Sink:
    """Whoever gets the answers. `answers` are those not looked at yet."""

    answers: list[tuple[int, int, Reply]] = field(default_factory=list)


class Core:
    """One partition and the disk under it. `crash` loses what is not durable."""

    def __init__(self, limits: Limits | None = None, number: int = 3) -> None:
        self.limits = limits or Limits()
        self.number = number
        self.rows = Rows()
        self.log: list[tuple[int, bytes]] = []
        """Durable records, oldest first."""
        self.writing: list[tuple[int, bytes]] = []
        """Records on their way to the disk."""
        self.epoch = 0
        self.now_ms = 1_000
        self.wall_ms = WALL_MS
        self.sink = Sink()
        self.running: list[Call] = []
        self.tokens: list[Any] = []
        self._number = 0
        self._open()

    def _open(self, driven: Driven | None = None) -> None:
        self.epoch += 1
        self.residents = Residents(self.limits)
        self.memory = Memory(self.rows, self.residents, self.limits, self.rows.applied)
        for sequence, body in self.log:
            if sequence > self.rows.applied:
                self.memory.replay(sequence, *unpack_record(body), len(body))
        self.partition = Partition(
            self.number, self.epoch, self.memory, Catalog(), self.limits, "n1"
        )
        if driven is not None:
            self.partition.blames.blame(driven, self.wall_ms)
        for key, progress in list(self.memory.progress.items()):
            self.partition.journalled.resume(key, progress)
        self._work()

    # What happens.

    def call(
        self,
        sequence: int,
        method: str = "add",
        *,
        session: bytes = HERE,
        previous: int = 0,
        confirmed: list[int] | None = None,
        target: ObjectKey = CART,
        kind: Kind = Kind.CALL,
        key: str | None = None,
        arguments: bytes = b"",
        have: list[int] | None = None,
        chain: list[list[str]] | None = None,
        time_left_ms: int = 30_000,
        encoding: int = 0,
    ) -> int:
        """Let a call arrive; returns the number that its answer will bear."""
        self._number += 1
        request = Request(
            kind, session, sequence, previous, confirmed or [0], *target, method, encoding,
            arguments, key, have, chain or [], 0,
        )  # fmt: skip
        self.partition.call_arrived(
            request, self.sink, self._number, time_left_ms, self.now_ms, self.wall_ms
        )
        self._work()
        return self._number

    def create(self, sequence: int = 1, target: ObjectKey = CART, **values: bytes) -> None:
        """Create an object durably, and forget the answer."""
        self.call(sequence, "", kind=Kind.GET_OR_CREATE, target=target)
        self.returned(values or {"n": b"0"}, created=True)
        self.sync()
        self.answers()

    def returned(
        self,
        values: dict[str, bytes] | None = None,
        payload: bytes = b"ok",
        *,
        code: int = 0,
        created: bool = False,
        saved: bool = False,
        at: int = 0,
    ) -> None:
        """Let the method that has run longest (or number `at`) return."""
        call = self.running.pop(at)
        if call.shared:
            self.partition.shared_returned(call, code, payload)
        else:
            self.partition.method_returned(
                call, code, payload, values or {}, created=created,
                state_version=1 if created else None, saved=saved,
            )  # fmt: skip
        self._work()

    def time_passes(self, milliseconds: int) -> None:
        self.now_ms += milliseconds
        self.wall_ms += milliseconds
        self.partition.time_passed(self.now_ms)
        self._work()

    def write(self) -> None:
        """End the tick: what was committed becomes a record on its way to the disk."""
        made = self.memory.take_record(self.wall_ms)
        if made is not None:
            body = pack_record(made)
            self.writing.append((self.partition.record, body))
            self.partition.record_made(self.partition.record, len(body))

    def sync(self) -> None:
        """End the tick, and make everything durable."""
        self.write()
        if self.writing:
            self.log += self.writing
            self.writing = []
            self.partition.durable(self.log[-1][0])
        self._work()

    def apply(self) -> None:
        """Bring the store up to date."""
        batch = self.memory.take_batch()
        if batch is not None:
            self.rows.write(*batch)
            self.memory.batch_written(batch)

    def trim(self) -> None:
        """Forget the records that the store has."""
        self.log = [(s, b) for s, b in self.log if s > self.rows.applied]

    def crash(self, *, keep_written: bool = False, driven: Driven | None = None) -> None:
        """Lose everything but the disk, and open again; `driven` ran when it happened."""
        if keep_written:
            self.log += self.writing
        self.writing = []
        self.running = []
        self.sink.answers = []
        self._open(driven)

    # What can be seen.

    def answers(self) -> list[tuple[int, int, Any]]:
        """Return new answers as (number, code, payload), errors with their args."""
        taken, self.sink.answers = self.sink.answers, []
        return [(n, c, r.payload if c == 0 else unpack_error(r.payload)) for n, c, r in taken]

    def replies(self) -> list[Reply]:
        taken, self.sink.answers = self.sink.answers, []
        return [reply for _, _, reply in taken]

    def image(self, target: ObjectKey = CART) -> dict[str, bytes] | None:
        state = self.memory.state(target)
        return None if state is None else state.image

    def _work(self) -> None:
        while self.partition.has_work:
            ready = self.partition.take_ready()
            for output in ready.outputs:
                if isinstance(output, Answer):
                    number, code, body = output.frame
                    output.sink.answers.append((number, code, unpack_reply(body)))
                else:
                    self.tokens.append(output)
            self.running += ready.runs
