"""The output gate: nothing leaves before the last record that it could have seen is durable."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.bodies import pack_error, pack_reply
from perdure_node.core.calls import Refusal
from perdure_node.core.copies import Answer, Copy
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.state import ObjectState

__all__ = ["Gate"]


class Gate:
    """What may leave a partition, and what has to wait."""

    def __init__(self, memory: Memory, epoch: int, limits: Limits) -> None:
        self._memory = memory
        self._epoch = epoch
        self._limits = limits
        self._withheld: dict[int, list[Any]] = {}
        """Outputs by the record that they wait for."""
        self.outputs: list[Any] = []
        """What may leave now. Whoever takes it empties it."""

    def let_out(self, output: object, record: int) -> None:
        """Let something out once all records up to this one are durable."""
        if record <= self._memory.durable:
            self.outputs.append(output)
        else:
            self._withheld.setdefault(record, []).append(output)

    def refuse(self, copy: Copy, refusal: Refusal) -> None:
        """Refuse at once: this was decided without looking at anything that could be lost."""
        if copy.number:
            code, payload = pack_error(*refusal)
            frame = (copy.number, code, pack_reply(payload))
            self.outputs.append(Answer(copy.sink, frame))

    def answer(
        self,
        copies: Iterable[Copy],
        state: ObjectState | None,
        code: int,
        payload: bytes,
        record: int = 0,
        *,
        everything: bool = False,
    ) -> None:
        """Answer copies of a call, each with what its sender's copy of the state lacks.

        Args:
            copies: Where the answers go.
            state: The object, if the answer says anything of it: it then also waits for the
                object's last record.
            code: What the caller is told.
            payload: Likewise.
            record: What else the answer waits for.
            everything: Leave no attribute out, however large.
        """
        if state is not None:
            record = max(record, state.last_record)
        for copy in copies:
            number, have = copy.number, copy.have
            if not number:
                continue
            version = changes = None
            if state is not None and have is not None and state.image is not None:
                limits = None if everything else self._limits
                changes = state.changes_since(self._epoch, have, limits)
                version = (self._epoch, state.number)
            frame = (number, code, pack_reply(payload, version, changes))
            self.let_out(Answer(copy.sink, frame), record)

    def opened(self, record: int) -> None:
        """Let out what waited for records up to this one, which are durable now."""
        withheld = self._withheld
        for number in range(self._memory.durable + 1, record + 1):
            outputs = withheld.get(number)
            if outputs is not None:
                del withheld[number]
                self.outputs += outputs

    def drop(self, refusal: Refusal) -> None:
        """Answer with an error whatever has not left yet. Nothing else of it ever leaves."""
        withheld, self._withheld = self._withheld, {}
        for outputs in withheld.values():
            for output in outputs:
                if isinstance(output, Answer):
                    self.refuse(Copy(output.sink, output.frame[0], None), refusal)
