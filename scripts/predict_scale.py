"""What follows from measured costs: for loads that were measured too, and for large clusters.

    python scripts/fit_costs.py --json costs.json
    python scripts/predict_scale.py costs.json

First it simulates the loads that `fit_costs.py` has run, and shows both figures. Then it simulates
clusters of 10, 100 and 1,000 nodes on machines of their own, with and without routers, and says
what is busiest there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from simulate_cluster import Costs, Outcome, Shape, Simulation

COLUMNS = 150
WIRE_LEAST_US = 10.0
SIZES = (3, 10, 100, 1_000)
IN_FLIGHT_PER_NODE = 256
CLIENTS_PER_NODE = 2
CALLS_AT_LEAST = 50_000


def costs_of(fitted: dict[str, Any]) -> Costs:
    messages = fitted["messages"]
    client, node, router = (messages[role] for role in ("client", "node", "router"))
    # What is left of the time of a lone call when everybody has worked.
    worked_us = sum(role["call_us"] + role["message_us"] for role in (client, node))
    wire_us = (fitted["alone_us"] - worked_us - fitted["sync_us"]) / 2
    return Costs(
        client["call_us"],
        client["message_us"],
        node["call_us"],
        node["message_us"],
        router["call_us"],
        router["client_us"],
        router["node_us"],
        fitted["sync_us"],
        max(WIRE_LEAST_US, wire_us),
    )


def simulate(shape: Shape, costs: Costs) -> Outcome:
    """Simulate until all have called a few times, and then as long again for what counts."""
    calls = max(CALLS_AT_LEAST, 2 * shape.clients * shape.in_flight)
    return Simulation(shape, costs).run(calls, calls)


def print_checks(
    console: Console, loads: Sequence[dict[str, Any]], costs: Costs, cores: int
) -> None:
    table = Table("load", title=f"measured, and simulated on {cores} cores", title_justify="left")
    for title in ("calls/s", "simulated", "p50 ms", "simulated", "router µs", "simulated",
                  "node µs", "simulated"):  # fmt: skip
        table.add_column(title, justify="right")
    for load in loads:
        shape = Shape(load["nodes"], load["routers"], 1, load["in_flight"], cores)
        outcome = simulate(shape, costs)
        measured = load["cpu_us"]
        table.add_row(
            f"{_what(shape)}, {load['in_flight']} in flight",
            f"{load['rate']:,.0f}",
            f"{outcome.rate:,.0f}",
            f"{load['p50_ms']:.2f}",
            f"{outcome.p50_ms:.2f}",
            *(
                f"{found['router']:.1f}" if shape.routers else "-"
                for found in (measured, outcome.cpu_us)
            ),
            *(f"{found['node']:.1f}" for found in (measured, outcome.cpu_us)),
        )
    console.print(table)


def print_sizes(console: Console, costs: Costs) -> None:
    table = Table(
        "cluster", title="simulated, each process on a core of its own", title_justify="left"
    )
    for title in ("calls/s", "of a node", "p50 ms", "p99 ms", "busy: node", "router", "client",
                  "calls in a message: node", "router"):  # fmt: skip
        table.add_column(title, justify="right")
    for nodes in SIZES:
        for routers in (0, nodes // 3 or 1, nodes):
            clients = CLIENTS_PER_NODE * nodes
            in_flight = IN_FLIGHT_PER_NODE // CLIENTS_PER_NODE
            shape = Shape(nodes, routers, clients, in_flight)
            outcome = simulate(shape, costs)
            table.add_row(
                _what(shape),
                f"{outcome.rate:,.0f}",
                f"{outcome.rate / nodes:,.0f}",
                f"{outcome.p50_ms:.1f}",
                f"{outcome.p99_ms:.1f}",
                *(f"{outcome.busy.get(role, 0):.0%}" for role in ("node", "router", "client")),
                *(f"{outcome.batch.get(role, 0):.1f}" for role in ("node", "router")),
            )
    console.print(table)


def _what(shape: Shape) -> str:
    nodes = f"{shape.nodes:,} node{'s' if shape.nodes > 1 else ''}"
    routers = f"{shape.routers:,} router{'s' if shape.routers > 1 else ''}"
    return f"{nodes}, {routers if shape.routers else 'direct'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("costs", type=Path, help="what fit_costs.py --json has written")
    measured = json.loads(parser.parse_args().costs.read_text())
    costs = costs_of(measured["fitted"])
    console = Console(width=COLUMNS)
    console.print(costs)
    print_checks(console, measured["rows"]["loads"], costs, measured["machine"]["cores"])
    print_sizes(console, costs)


if __name__ == "__main__":
    main()
