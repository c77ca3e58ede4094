"""The process that the lives of a node are forked from. `harness.lives` starts it."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

PARTITIONS = 4
PR_SET_PDEATHSIG = 1
SAID = "LIVES_SAID"


def say(**what: Any) -> None:
    """Write down something for the test, from inside of a life."""
    with open(os.environ[SAID], "ab", buffering=0) as file:
        file.write(json.dumps(what).encode() + b"\n")


def live(plan: dict[str, Any], parent_pid: int) -> int:
    """Run a node until it ends."""
    from perdure.process import run_server
    from perdure.service_settings import ServiceSettings
    from perdure_node.journal.settings import JournalSettings
    from perdure_node.server import serve
    from perdure_node.settings import NodeSettings

    data = Path(plan["data"])
    address = f"127.0.0.1:{plan['port']}"
    settings = NodeSettings(
        name="n1",
        data=data,
        partition_count=PARTITIONS,
        nodes={"n1": address},
        listen=address,
        cluster_id="c",
        # Killed while it was made, it is made once more.
        new=not (data / "node.json").exists(),
        services={name: ServiceSettings(url=url) for name, url in plan["services"].items()},
        journal=JournalSettings(segment_bytes=1 << 18),
        # Stores are written, flushed and the journal trimmed many times in a short life.
        apply_interval_s=0.02,
        checkpoint_bytes=1 << 16,
    )
    return run_server("n1", lambda: serve(settings), log_level="warning", parent_pid=parent_pid)


def begin(plan: dict[str, Any], parent_pid: int, arm: str, words: list[Any]) -> int:
    """Live, with a crash ahead."""
    sys.stdin.close()
    if arm:
        module, _, name = arm.rpartition(".")
        getattr(importlib.import_module(f"harness.{module}"), name)(*words)
    return live(plan, parent_pid)


def main() -> None:
    """Fork a life for each line that is read, and say its id, and how it has ended."""
    plan = json.loads(sys.argv[1])
    # It must not outlive the test.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ[SAID] = plan["said"]
    from perdure_node.app import import_app

    for needed in ("uvloop", "perdure_node.server", "perdure_node.node"):
        importlib.import_module(needed)
    import_app(plan["app"])
    print("ready", flush=True)
    for line in sys.stdin:
        arm, *words = json.loads(line)
        nursery, status = os.getpid(), 1
        pid = os.fork()
        if not pid:
            try:
                status = begin(plan, nursery, arm, words)
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
