"""The pure core of a node, and runs in it that begin, write and end as they are told."""

from __future__ import annotations

from typing import Any

from harness.core import Core, Rows

from perdure import codec
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey, new_session_id
from perdure_node.core.calls import Call
from perdure_node.core.events import Chunk, Scheduled
from perdure_node.core.limits import Limits
from perdure_node.core.run_rows import COMPLETED

RETENTION_MS = 10_000
MANY = 1_000
PARTITIONS = 4


def key_of(id: str) -> ObjectKey:
    return ObjectKey("workflow", id)


class RunWorld(Core):
    """A partition whose runs begin, write and end as they are told."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.told = 0
        super().__init__(limits or Limits(run_retention_ms=RETENTION_MS))

    def begin(self, id: str, workflow: str = "plain") -> None:
        self.told += 1
        # A session of its own: each START is another one.
        session = new_session_id(self.wall_ms, self.told.to_bytes(10, "big"))
        self.call(1, workflow, kind=Kind.START, target=key_of(id), session=session)
        self.partition.runs.waits(self.run(id))
        self.running = [call for call in self.running if call.run is None]

    def run(self, id: str) -> Call:
        return self.partition.runs.live[key_of(id)].call

    def write_chunk(self, id: str, payload: bytes) -> None:
        at = self.memory.streams.length(id, "s")
        step = Scheduled(at + 1, "write", "s", None)
        self.partition.runs.add(self.run(id), [step], [Chunk("s", at, payload)])

    def end(self, id: str, *effects: Any, payload: bytes = b"") -> None:
        self.memory.time_ms = self.wall_ms
        self.partition.runs.ended(self.run(id), COMPLETED, 0, payload, (), effects)

    def whole(self, id: str, workflow: str = "plain", chunks: int = 2) -> None:
        """Let a run begin, write and end, durably and in the store."""
        self.begin(id, workflow)
        for number in range(chunks):
            self.write_chunk(id, b"%d" % number)
        self.end(id)
        self.sync()
        self.apply()

    def sweep(self, limit: int = MANY) -> bool:
        self.memory.time_ms = max(self.memory.time_ms, self.wall_ms)
        more, _ = self.partition.expiry.sweep(limit, PARTITIONS)
        return more

    def status(self, id: str) -> str | None:
        self.answers()
        self.call(0, "status", kind=Kind.ASK, target=key_of(id))
        self.sync()
        [(_, code, payload)] = self.answers()
        assert code in (0, Code.RUN_NOT_FOUND)
        return None if code else codec.decode(payload)["status"]

    def chunks(self, id: str) -> list[bytes | None]:
        return [payload for _, payload, _ in self.memory.streams.read(id, "s", 0, MANY).chunks]

    def lose_the_store(self) -> None:
        """Crash, with a store that has never been flushed: the log has all."""
        self.rows = Rows()
        self.crash()

    def rows_of(self, id: str) -> list[bytes]:
        """Return the keys in the store that have to do with a run."""
        return [key for key in self.rows.rows if id.encode() in key and key[:1] != b"s"]
