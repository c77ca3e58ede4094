"""Calls that end their process."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

CORE = "node/perdure_node/core"
NODE = "node/perdure_node"
BLAMES = "tests/node/test_blames.py"

BUGS = [
    Bug(
        "poison-count",
        "The death of a process is not counted, so a call that ends it is run for ever.",
        f"{CORE}/blames.py",
        "        count += 1\n        if count < self",
        "        if count < self",
        [f"{BLAMES}::test_a_plain_call_that_has_ended_its_process_three_times_runs_no_more"],
    ),
    Bug(
        "poison-waiting",
        "A call that merely waits is blamed for the death of its process.",
        f"{NODE}/driving.py",
        "            self._map[_SLOT] = 0\n        else:",
        "            pass\n        else:",
        ["tests/node/test_driving.py::test_a_call_that_has_come_back_is_not_found"],
    ),
    Bug(
        "poison-early",
        "A timer fires before the disk has it: if it ends the process, nobody knows of it.",
        f"{CORE}/firings.py",
        "elif record > memory.durable and not sent:",
        "elif False:",
        [f"{BLAMES}::test_a_timer_fires_when_the_disk_has_it"],
    ),
]
