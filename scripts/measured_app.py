"""What `measure_node.py` calls, and how it looks into the node that runs it."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import tracemalloc
from pathlib import Path
from typing import Any

from perdure import DurableObject, durable
from perdure.bench.app import BenchCounter

__all__ = ["BenchCounter", "MeasuredParcel"]

LETTERS = 280
"""With its number, a parcel has about 300 bytes."""


@durable.object
class MeasuredParcel(DurableObject):
    """A number that grows, beside a text that cannot be compressed well."""

    def __init__(self, parcel_id: str) -> None:
        super().__init__(parcel_id)
        self.text = hashlib.shake_128(parcel_id.encode()).hexdigest(LETTERS // 2)
        self.value = 0

    async def add(self, amount: int) -> int:
        """Add, and return the new value."""
        self.value += amount
        return self.value


def _tell(*_: Any) -> None:
    """Write down what is allocated, for whoever sends SIGUSR1."""
    gc.collect()
    written = Path(os.environ["MEASURED_ALLOCATIONS"])
    places = tracemalloc.take_snapshot().statistics("lineno")
    told = {
        "bytes": tracemalloc.get_traced_memory()[0],
        "places": {str(place.traceback): place.size for place in places},
    }
    temporary = written.with_suffix(".new")
    temporary.write_text(json.dumps(told))
    temporary.rename(written)


if tracemalloc.is_tracing():
    signal.signal(signal.SIGUSR1, _tell)
