"""Which objects are in memory, in the order of their last use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure_node.core.limits import Limits
from perdure_node.core.state import ObjectState

if TYPE_CHECKING:
    from perdure_node.core.memory import Memory

__all__ = ["Counters", "Residents"]


@dataclass(slots=True)
class Counters:
    """What has happened since the node started, for operators."""

    calls: int = 0
    hits: int = 0
    loads: int = 0
    passivations: int = 0


class Residents:
    """All objects in memory on one node, least recently used first.

    It says who should go; a partition's `Memory` decides what may go, because an object that is
    in use, or whose last commit the store does not have yet, has to stay.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._states: OrderedDict[ObjectState, Memory] = OrderedDict()
        self.bytes = 0
        self.counters = Counters()

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[tuple[ObjectState, Memory]]:
        return iter(list(self._states.items()))

    def add(self, state: ObjectState, memory: Memory) -> None:
        """Note an object that has come into memory."""
        self._states[state] = memory
        self.bytes += state.size

    @property
    def are_too_many(self) -> bool:
        """Tell whether somebody should go now: by their number, or by their bytes."""
        limits = self._limits
        return (
            len(self._states) > limits.activations_max or self.bytes > limits.activation_bytes_max
        )

    def touch(self, state: ObjectState, now_ms: int) -> None:
        """Note that an object was used."""
        state.used_ms = now_ms
        if state in self._states:
            self._states.move_to_end(state)

    def remove(self, state: ObjectState) -> None:
        """Note that an object has left memory."""
        if self._states.pop(state, None) is not None:
            self.bytes -= state.size

    def resized(self, bytes: int) -> None:
        """Note that a resident object has grown (or shrunk) by so many bytes."""
        self.bytes += bytes

    def surplus(self, now_ms: int) -> Iterator[tuple[ObjectState, Memory]]:
        """Yield objects that should leave memory now, least recently used first.

        Those in use are passed over; they will be looked at again.
        """
        limits = self._limits
        count = len(self._states) - limits.activations_max
        bytes = self.bytes - limits.activation_bytes_max
        idle_before = now_ms - limits.activation_idle_ms
        if count <= 0 and bytes <= 0:
            oldest = next(iter(self._states), None)
            if oldest is None or oldest.used_ms >= idle_before:
                return
        leaving: list[tuple[ObjectState, Memory]] = []
        for state, memory in self._states.items():
            if count <= 0 and bytes <= 0 and state.used_ms >= idle_before:
                break
            if state.users == 0:
                leaving.append((state, memory))
                count -= 1
                bytes -= state.size
        yield from leaving
