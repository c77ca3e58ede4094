"""The rules of a real partition as a `session_world.Node`: a log and a store in memory below it."""

from __future__ import annotations

from harness.session_world import OBJECTS

from perdure.bodies import pack_error, pack_reply, unpack_request
from perdure.codec import decode, encode
from perdure.errors import Code
from perdure.frames import AnswerFrame, CallFrame
from perdure_node.core import rows
from perdure_node.core.calls import Refusal, Target
from perdure_node.core.commits import pack_record, unpack_record
from perdure_node.core.copies import Answer
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.partition import Partition
from perdure_node.core.residents import Residents

REFUSALS = (Code.DRAINING, Code.DISK_FULL, Code.UNKNOWN_METHOD, Code.NOT_OWNER)
"""`Code.BACKPRESSURE` comes by itself: mailboxes are small."""

LIMITS = Limits(mailbox_calls_max=2)


class PartitionNode:
    """Keeps `session_world.Node`. Each call appends its token to the object's list."""

    def __init__(self) -> None:
        self.refusing: Code | None = None
        self._rows = {rows.object_key(key): rows.pack_object(1, {}) for key in OBJECTS}
        self._applied = 0
        self._log: list[bytes | None] = []
        """One entry a record; None: an owner's claim."""
        self._ran: list[tuple[int, int]] = []
        """Token, and the record that holds it."""
        self._answers: list[tuple[int, AnswerFrame]] = []
        self._syncs = 0
        self._epoch = 0
        self._wall_ms = 0
        self._start()

    def _start(self) -> None:
        memory = Memory(self, Residents(LIMITS), LIMITS, self._applied)
        for sequence, body in enumerate(self._log[self._applied :], self._applied + 1):
            time_ms, commits = (0, []) if body is None else unpack_record(body)
            memory.replay(sequence, time_ms, commits, 0)
        self._epoch += 1
        self._log.append(None)
        claim = len(self._log)
        self._memory = memory
        self._partition = Partition(0, self._epoch, memory, self, LIMITS, "node")
        self._partition.claimed(claim)
        self._partition.durable(claim)
        self._durable = claim
        self._running: list = []

    # As the store that the partition reads.

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def scan(self, prefix: bytes, after: bytes = b"", limit: int = 1_000):
        found = sorted(i for i in self._rows.items() if i[0].startswith(prefix) and i[0] > after)
        return found[:limit]

    # As the catalog.

    def find(self, request) -> Target | Refusal:
        if self.refusing == Code.UNKNOWN_METHOD:
            return Refusal(Code.UNKNOWN_METHOD, ("Cart", "note", ""))
        return Target(shared=False, deferred=False)

    def digest(self, request) -> bytes:
        return request.arguments

    def show(self, image: dict[str, bytes]) -> bytes:
        return b"{}"

    # As the node.

    def arrive(self, stream: int, frame: CallFrame, now_ms: int, wall_ms: int) -> None:
        self._wall_ms = wall_ms
        if self.refusing == Code.NOT_OWNER:
            if frame.number:
                code, payload = pack_error(Code.NOT_OWNER, (0, self._epoch))
                answer = (frame.number, code, pack_reply(payload))
                self._answers.append((stream, answer))
            return
        self._partition.draining = self.refusing == Code.DRAINING
        self._partition.room = self.refusing != Code.DISK_FULL
        request = unpack_request(frame.body)
        self._partition.call_arrived(
            request, stream, frame.number, frame.time_left_ms, now_ms, wall_ms
        )
        self._work()

    def _work(self) -> None:
        ready = self._partition.take_ready()
        for output in ready.outputs:
            assert isinstance(output, Answer)
            self._answers.append((output.sink, output.frame))
        self._running += ready.runs

    def run(self, which: int) -> bool:
        if not self._running:
            return False
        call = self._running.pop(which % len(self._running))
        tokens = self.tokens(call.state.image)
        token = int(call.request.arguments)
        self._ran.append((token, self._partition.record))
        self._partition.method_returned(
            call, Code.OK, encode(token), {"tokens": encode([*tokens, token])}
        )
        self._work()
        return True

    def tokens(self, image: dict[str, bytes]) -> list[int]:
        return decode(image["tokens"]) if "tokens" in image else []

    def sync(self) -> None:
        self._syncs += 1
        if self._syncs % 2:
            self._partition.recorder.flush_marks()
        made = self._memory.take_record(self._wall_ms)
        if made is not None:
            self._log.append(pack_record(made))
            self._partition.record_made(len(self._log), len(self._log[-1] or b""))
        self._durable = len(self._log)
        self._partition.durable(self._durable)
        self._work()
        if self._syncs % 3 == 0:
            self._apply()

    def _apply(self) -> None:
        batch = self._memory.take_batch()
        if batch is not None:
            self._rows.update(batch.puts)
            for key in batch.deletes:
                self._rows.pop(key, None)
            self._applied = batch.applied
            self._memory.batch_written(batch)

    def tick(self, now_ms: int) -> None:
        self._partition.time_passed(now_ms)
        self._work()

    def restart(self) -> None:
        self._ran = [(token, record) for token, record in self._ran if record <= self._durable]
        self._start()

    def take_answers(self) -> list[tuple[int, AnswerFrame]]:
        answers, self._answers = self._answers, []
        return answers

    def durable_log(self) -> list[int]:
        return [token for token, record in self._ran if record <= self._durable]

    def kept_outcomes(self, session: bytes) -> int:
        window = self._memory.window(session)
        return 0 if window is None else sum(1 for ended in window.ended.values() if ended.code >= 0)

    def stored_log(self) -> list[int]:
        """Return the tokens in the states of the objects after a restart."""
        self.restart()
        states = [self._memory.state(key) for key in OBJECTS]
        return [token for state in states for token in self.tokens(state.image)]
