"""What a cluster costs by its size: measures it here, and fits the constants of a model to it.

    python scripts/fit_costs.py [--part messages] [--quick] [--pure] [--json FILE]

`docs/scaling.md` has the model, and the constants of one machine; `predict_scale.py FILE` says what
follows from them. The parts are: `disk`, `messages` (CPU of a call and of a message), `loads` (what
the model has to foretell), `objects` (memory, disk, restart), `partitions` and `clients` (memory
and CPU of a server that does nothing), `maps` (placement and map of large clusters).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import compiled
import cost_parts
import numpy as np
from bench_reference import machine
from cost_parts import Row
from processes import end_in_order_when_terminated
from rich.console import Console

COLUMNS = 160
MANY, SOME = 1_000_000, 100_000
SHAPES = ((3, 64), (10, 256), (100, 2_048), (1_000, 4_096))

Parts = Mapping[str, Callable[[], Iterator[Row]]]


def parts_of(*, quick: bool, seconds: float) -> Parts:
    counts = (1_000, 10_000) if quick else (1_000, SOME, MANY)
    nodes = (1, 3) if quick else (1, 3, 10)
    return {
        "disk": lambda: cost_parts.disk(1 if quick else 5),
        "messages": lambda: cost_parts.messages(nodes, seconds),
        "loads": lambda: cost_parts.loads((1, 3), (64, 512), seconds),
        "partitions": lambda: cost_parts.partitions((16, 64) if quick else (16, 64, 256, 1_024)),
        "clients": lambda: cost_parts.clients((10,) if quick else (1, 50, 200)),
        "objects": lambda: cost_parts.objects(counts),
        "maps": lambda: cost_parts.maps(SHAPES[:2] if quick else SHAPES),
    }


def fitted(rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Return the constants of the model, as far as the rows tell them."""
    found: dict[str, Any] = {}
    if "messages" in rows:
        calls = [row for row in rows["messages"] if row["batch"]]
        found["messages"] = _fit_messages(calls)
        alone = next(row for row in calls if (row["nodes"], row["batch"]) == (0, 1))
        found["alone_us"] = alone["p50_ms"] * 1e3
    if "disk" in rows:
        found["sync_us"] = statistics.median(row["p50_ms"] for row in rows["disk"]) * 1e3
    if "partitions" in rows:
        found["partitions"] = {
            name: _line([(row["partitions"], row[name]) for row in rows["partitions"]])
            for name in ("node_mb", "router_mb", "start_s", "files", "node_idle_percent")
        }
    if "clients" in rows:
        found["clients"] = {
            f"{name}, clients of a {by}": _line(
                [(row["clients"], row[name]) for row in rows["clients"] if row["by"] == by]
            )
            for by in ("node", "router")
            for name in ("node_mb", "router_mb", "node_idle_percent", "router_idle_percent")
        }
    if "objects" in rows:
        found["objects"] = {
            "grown_mb": _line([(row["made"], row["grown_mb"]) for row in rows["objects"]]),
            "disk_mb": _line([(row["objects"], row["disk_mb"]) for row in rows["objects"]]),
            "restart_s": _line([(row["objects"], row["restart_s"]) for row in rows["objects"]]),
        }
    return found


def _line(points: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Fit `at_0 + each * x`."""
    x, y = np.array(points, dtype=float).T
    (at_0, each), *_ = np.linalg.lstsq(np.stack([np.ones_like(x), x], axis=1), y, rcond=None)
    return {"at_0": float(at_0), "each": float(each)}


def _fit_messages(calls: Sequence[Row]) -> dict[str, Any]:
    """Fit what servers pay, in µs: for a call, and for the messages that it shares with others.

    A node pays `call + message / batch + group / (streams * batch)`: messages that come at the same
    time share a group of the journal, and a sync. A client pays likewise, without groups. A router
    has one message from and to its client, and one
    from and to each node that a batch reaches: `call + (client + node * reached) / batch`.
    """
    straight = [row for row in calls if row["nodes"] == 0]
    client = _weighted(
        [(1.0, 1 / row["batch"]) for row in straight if row["streams"] == 1],
        [row["cpu_us"]["client"] for row in straight if row["streams"] == 1],
    )
    node = _weighted(
        [(1.0, 1 / row["batch"], 1 / row["batch"] / row["streams"]) for row in straight],
        [row["cpu_us"]["node"] for row in straight],
    )
    routed = [row for row in calls if row["nodes"]]
    factors = [
        (1.0, 1 / row["batch"], reached(row["nodes"], row["batch"]) / row["batch"])
        for row in routed
    ]
    router = _weighted(factors, [row["cpu_us"]["router"] for row in routed])
    return {
        "client": {"call_us": client[0], "message_us": client[1]},
        "node": {"call_us": node[0], "message_us": node[1], "group_us": node[2]},
        "router": {"call_us": router[0], "client_us": router[1], "node_us": router[2]},
        "checks": [
            {
                "nodes": row["nodes"],
                "batch": row["batch"],
                "router_us": row["cpu_us"]["router"],
                "router_fitted_us": float(np.dot(factor, router)),
                "node_us": row["cpu_us"]["node"],
                "node_fitted_us": float(np.dot((1.0, factor[2], factor[2]), node)),
            }
            for row, factor in zip(routed, factors, strict=True)
        ],
    }


def reached(nodes: int, batch: int) -> float:
    """Return how many nodes the calls of a batch are for, on average."""
    return float(nodes * (1 - (1 - 1 / nodes) ** batch))


def _weighted(factors: Sequence[Sequence[float]], costs: Sequence[float]) -> list[float]:
    """Fit by least squares of relative errors: costs of full and of empty messages count alike."""
    weights = 1 / np.array(costs)
    found, *_ = np.linalg.lstsq(
        np.array(factors) * weights[:, None], np.ones_like(weights), rcond=None
    )
    return [float(cost) for cost in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes: to try the script")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round of messages")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write everything")
    compiled.add_arguments(parser)
    options = parser.parse_args()
    end_in_order_when_terminated()
    modules = compiled.choose(options)
    parts = parts_of(quick=options.quick, seconds=options.seconds)
    if unknown := set(options.part or ()) - parts.keys():
        raise SystemExit(
            f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}"
        )
    console = Console(width=COLUMNS)
    rows: dict[str, list[Row]] = {}
    for name in options.part or parts:
        rows[name] = []
        for row in parts[name]():
            rows[name].append(row)
            console.print(name, json.dumps(_rounded(row)), soft_wrap=True)
    found = fitted(rows)
    console.print(json.dumps(_rounded(found), indent=2))
    if options.json is not None:
        everything = {"perdure": modules, "machine": machine(), "rows": rows, "fitted": found}
        options.json.write_text(json.dumps(everything, indent=2))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
