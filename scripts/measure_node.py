"""What one node takes and bears, each figure beside what is wanted of it.

    python scripts/measure_node.py                     # all of it: half an hour
    python scripts/measure_node.py start idle cpu      # some parts
    python scripts/measure_node.py growth --minutes 10
    python scripts/measure_node.py --pure cpu          # the Python sources, not compiled modules
    python scripts/measure_node.py --short             # does it run? 2 minutes; says nothing
    python scripts/measure_node.py million --data D    # fills D, or uses what is there

Each part starts nodes of its own. Ratios are of rounds that alternate in one sitting. Beside each
part stands how busy the machine was: figures in seconds and µs are those of an idle one only if it
was idle. `slow-disk` needs strace.

    cpu        CPU time of a node for a call
    growth     memory that stays behind calls: allocations that are traced, resident memory
    resident   what a small object takes in memory
    idle       what a node takes when nobody calls it
    start      from an empty folder to serving
    replay     commits a second when a journal is read
    million    a million objects of 300 bytes on the disk
    slow-disk  2 ms more for each fdatasync
    open-loop  70 % of what a node can answer, for two minutes; and 200 %
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import compiled
from findings import REPORT_COLUMNS, Findings, as_json, print_findings
from node_disks import million, replay, slow_disk
from node_lives import SETTLE_S, idle, start
from node_load import cpu, open_loop
from node_memory import growth, resident
from processes import end_in_order_when_terminated
from rich.console import Console


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    rounds: int = 5
    """Of each way of calling."""
    round_s: float = 5.0
    starts: int = 5
    """Of nodes that are started again and again."""
    partitions: int = 64
    settle_s: float = SETTLE_S
    """In this time a node has written what it had to its stores."""
    warm_up_calls: int = 300_000
    """Before nothing may grow. A journal is trimmed after 200,000 calls."""
    minutes: float = 3.0
    """Of load in which nothing may grow."""
    small_objects: int = 50_000
    replayed: int = 200_000
    objects: int = 1_000_000
    data: Path | None = None
    """Where they are, or are to stay."""
    calm_s: float = 120.0
    over_s: float = 60.0


SHORT = Scale(
    rounds=1,
    round_s=0.3,
    starts=1,
    partitions=8,
    settle_s=0.3,
    warm_up_calls=2_000,
    minutes=0.05,
    small_objects=1_000,
    replayed=3_000,
    objects=3_000,
    calm_s=1.0,
    over_s=1.0,
)

PARTS: dict[str, Callable[[Scale, Findings], None]] = {
    "cpu": cpu,
    "growth": growth,
    "resident": resident,
    "idle": idle,
    "start": start,
    "replay": replay,
    "million": million,
    "slow-disk": slow_disk,
    "open-loop": open_loop,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--short", action="store_true", help="little of everything")
    parser.add_argument("--rounds", type=int, help="of each way of calling")
    parser.add_argument("--round-s", type=float, help="how long each of them is")
    parser.add_argument("--starts", type=int, help="of nodes that are started again and again")
    parser.add_argument("--minutes", type=float, help="of `growth`")
    parser.add_argument("--objects", type=int, help="of `million`")
    parser.add_argument("--data", type=Path, help="of `million`; it stays")
    parser.add_argument("--json", action="store_true", help="print JSON")
    compiled.add_arguments(parser)
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    given = {
        field.name: value
        for field in dataclasses.fields(Scale)
        if (value := getattr(options, field.name, None)) is not None
    }
    scale = dataclasses.replace(SHORT if options.short else Scale(), **given)
    end_in_order_when_terminated()
    modules = compiled.choose(options)
    if not options.json:
        print(f"Perdure: {modules}")
    progress = Console(stderr=True)
    found: dict[str, Findings] = {}
    for part in options.parts or PARTS:
        progress.print(part)
        found[part] = Findings()
        found[part].notes["perdure"] = modules
        with found[part].watched():
            PARTS[part](scale, found[part])
        if not options.json:
            width = None if sys.stdout.isatty() else REPORT_COLUMNS
            print_findings({part: found[part]}, Console(width=width))
    if options.json:
        print(as_json(found))


if __name__ == "__main__":
    main()
