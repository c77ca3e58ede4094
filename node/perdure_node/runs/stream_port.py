"""Where one attempt of a step writes to streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure_node.core.events import Chunk, Wrote

if TYPE_CHECKING:
    from perdure_node.runs.turn import RunTurn

__all__ = ["StreamPort"]


class StreamPort:
    """Appends what an attempt writes, as long as it is the one that counts."""

    # Not in `__init__`: most attempts write nothing.
    is_over = False
    _begun: frozenset[str] = frozenset()
    """The streams to which it has written."""

    def __init__(self, turn: RunTurn, step: int, attempt: int) -> None:
        self._turn = turn
        self._step = step
        self._attempt = attempt

    def write(self, stream: str, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            RuntimeError: The attempt is over.
        """
        turn = self._turn.steps.turn
        if self.is_over or turn.over or turn.partition.stopped is not None:
            raise RuntimeError("this attempt of the step is over: it writes no more")
        key = turn.admitted.key
        index = turn.partition.memory.streams.length(key.id, stream)
        events: list[Wrote] = []
        if stream not in self._begun:
            self._begun |= {stream}
            events.append(Wrote(self._step, self._attempt, stream, index))
        turn.record(*events, effects=[Chunk(stream, index, chunk)])
        turn.written(stream)
