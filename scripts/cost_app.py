"""What the nodes of `fit_costs.py` run: counters, and records of 300 bytes."""

from __future__ import annotations

from random import Random

from perdure import DurableObject, durable
from perdure.bench.app import BenchCounter

__all__ = ["BenchCounter", "CostRecord"]

STATE_BYTES = 300


@durable.object
class CostRecord(DurableObject):
    """300 bytes that stay, and a number that grows."""

    def __init__(self, record_id: str) -> None:
        super().__init__(record_id)
        self.touched = 0
        # By chance, though always the same: a disk that compresses cannot make less of it.
        self.data = Random(record_id).randbytes(STATE_BYTES)

    async def touch(self) -> int:
        self.touched += 1
        return self.touched
