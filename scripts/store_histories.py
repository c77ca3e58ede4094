"""Store what runs of workflows have recorded, for later releases to replay.

    python scripts/store_histories.py 1.2

Before a release: tests/workflows/test_histories.py replays all that is in tests/histories. Each
file is one record of a partition, with the beginning of a run and all its events.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness.flow_steps import (  # noqa: E402
    flow_continues,
    flow_patched,
    flow_retries,
    flow_together,
    flow_values,
)
from harness.flows import flow_iterates, flow_takes  # noqa: E402

from perdure import get_run, resume_hook, start  # noqa: E402
from perdure_node.core.commits import Commit, pack_record  # noqa: E402
from perdure_node.core.runs import Runs  # noqa: E402

Make = Callable[[], Coroutine[Any, Any, Any]]


async def takes() -> Any:
    await start(flow_takes, "history/takes", 3, id="takes")
    for payload in (1, "two", [3]):
        await resume_hook("history/takes", payload, reply=False)


async def iterates() -> Any:
    await start(flow_iterates, "history/iterates", id="iterates")
    for payload in range(3):
        await resume_hook("history/iterates", payload, reply=False)
    for payload in range(2):
        await resume_hook("history/iterates/both", payload, reply=False, wait=30)


async def continues() -> Any:
    await start(flow_continues, id="continues")
    for payload in (1, 2, 3, 4, "stop"):
        await resume_hook("continues:continues", payload, reply=False)


MADE: dict[str, Make] = {
    "takes": takes,
    "iterates": iterates,
    "continues": continues,
    "retries": lambda: start(flow_retries, "history/retries", id="retries"),
    "together": lambda: start(flow_together, "history/together", id="together"),
    "values": lambda: start(flow_values, id="values"),
    "patched": lambda: start(flow_patched, id="patched"),
}


def note_ends(version: str) -> None:
    """Have each run stored that ends."""
    ended = Runs.ended

    def note(runs: Runs, call: Any, *end: Any) -> None:
        row, progress = call.run.row, call.progress
        status, code, payload = end[:3]
        row = row._replace(status=status, code=code, result=payload)
        begun, events = progress._replace(events=[]), [*progress.events]
        commit = Commit(call.key, True, False, 1, row.image(), [], begun, events, [])
        path = ROOT / "tests" / "histories" / f"{version}-{call.key.id}.history"
        path.write_bytes(base64.encodebytes(pack_record((row.started_ms, [commit]))))
        ended(runs, call, *end)

    Runs.ended = note  # type: ignore[method-assign]


async def store() -> None:
    for id, make in MADE.items():
        await make()
        await get_run(id).result()


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    note_ends(sys.argv[1])
    with tempfile.TemporaryDirectory() as data:
        os.environ["PERDURE_DATA"] = f"{data}/data"
        os.environ["PERDURE_ADDRESS"] = ""
        asyncio.run(store())


if __name__ == "__main__":
    main()
