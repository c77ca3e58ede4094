"""What follows from measured costs: for loads that were measured too, and for large clusters.

    python scripts/fit_costs.py --json costs.json
    python scripts/predict_scale.py costs.json [--write docs/scaling.md]

It simulates the loads that `fit_costs.py` has run, and shows both figures; then clusters of up to
1,000 nodes on machines of their own, with and without routers. All tables of `docs/scaling.md`
are made here: `--write` puts them into their places. Several files are taken as one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from simulate_cluster import Costs, Outcome, Shape, Simulation

from perdure_node.core.limits import Limits

WIRE_LEAST_US = 10.0
SIZES = (3, 10, 100, 1_000)
IN_FLIGHT_PER_NODE = 256
CLIENTS_PER_NODE = 2
NODES_PER_ROUTER = 10
CALLS_AT_LEAST = 50_000

CLIENTS_OF_A_NODE = 100
"""Clients for each node of a cluster, each of which calls objects of all partitions."""

PARTITIONS_MEASURED = 64
"""That each client of the measurement had called."""

WINDOWS_MAX = Limits().windows_idle_max

Measured = Mapping[str, Any]


def costs_of(fitted: Mapping[str, Any]) -> Costs:
    messages = fitted["messages"]
    client, node, router = (messages[role] for role in ("client", "node", "router"))
    # What is left of the time of a lone call when everybody has worked.
    worked_us = sum(chain(client.values(), node.values()))
    wire_us = (fitted["alone_us"] - worked_us - fitted["sync_us"]) / 2
    return Costs(
        client["call_us"],
        client["message_us"],
        node["call_us"],
        node["message_us"],
        node["group_us"],
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


def machine(measured: Measured) -> str:
    found = measured["machine"]
    rows = chain(*measured["rows"].values())
    others = [row["others_cores"] for row in rows if "others_cores" in row]
    return (
        f"Measured on {found['cores']} cores and {found['memory_gb']:.0f} GB of memory, "
        f"{found['system']}, Python {found['python']}, Perdure {measured['perdure']}, with "
        "clients, router and nodes on the same machine. Others had "
        f"{min(others):.1f} to {max(others):.1f} cores of it meanwhile."
    )


def constants(measured: Measured) -> str:
    costs, fitted = costs_of(measured["fitted"]), measured["fitted"]
    partition, clients = fitted["partitions"], fitted["clients"]
    objects = fitted["objects"]
    on_node, on_router = "clients of a node", "clients of a router"
    idle_node = clients[f"node_idle_percent, {on_node}"]["each"] * 1e4
    idle_router = clients[f"router_idle_percent, {on_router}"]["each"] * 1e4
    return _table(
        ("what", "", "costs"),
        [
            ("a call, at its client", "`k`", f"{costs.client_call:.1f} µs"),
            ("a message there and back, at its client", "`K`", f"{costs.client_message:.0f} µs"),
            ("a call, at its node", "`c`", f"{costs.node_call:.1f} µs"),
            ("a message there and back, at its node", "`m`", f"{costs.node_message:.0f} µs"),
            ("a group of records in the journal, at its node", "`g`", f"{costs.node_group:.0f} µs"),
            ("a call, at a router", "`r`", f"{costs.router_call:.1f} µs"),
            ("a message from and to a client, at a router", "`u`", f"{costs.router_client:.0f} µs"),
            ("a message to and from a node, at a router", "`v`", f"{costs.router_node:.0f} µs"),
            ("a group of records, until it is on the disk", "`s`", f"{costs.sync_us:.0f} µs"),
            ("a node without partitions, in memory", "", f"{partition['node_mb']['at_0']:.0f} MB"),
            ("a partition, in memory", "", f"{partition['node_mb']['each'] * 1e3:.0f} KB"),
            ("a partition, in open files", "", f"{partition['files']['each']:.0f}"),
            ("a router, in memory", "", f"{partition['router_mb']['at_0']:.0f} MB"),
            (
                "an object of 300 bytes, in memory",
                "",
                f"{objects['grown_mb']['each'] * 1e6:,.0f} bytes",
            ),
            ("the same on the disk", "", f"{objects['disk_mb']['each'] * 1e6:,.0f} bytes"),
            (
                "a client that has called all 64 partitions, in a node, direct",
                "",
                f"{clients[f'node_mb, {on_node}']['each'] * 1e3:.0f} KB",
            ),
            (
                "the same in a node, through a router",
                "",
                f"{clients[f'node_mb, {on_router}']['each'] * 1e3:.0f} KB",
            ),
            (
                "the same in its router",
                "",
                f"{clients[f'router_mb, {on_router}']['each'] * 1e3:.0f} KB",
            ),
            ("a client that does nothing, of the core of a node", "", f"{idle_node:.0f} µs/s"),
            ("the same, of the core of a router", "", f"{idle_router:.0f} µs/s"),
        ],
    )


def checks(measured: Measured) -> str:
    costs, cores = costs_of(measured["fitted"]), measured["machine"]["cores"]
    rows: list[Sequence[str]] = []
    ratios: list[float] = []
    for load in measured["rows"]["loads"]:
        shape = Shape(load["nodes"], load["routers"], 1, load["in_flight"], cores)
        outcome = simulate(shape, costs)
        ratios.append(outcome.rate / load["rate"])
        both = load["cpu_us"], outcome.cpu_us
        rows.append(
            (
                f"{_what(shape)}, {load['in_flight']} in flight",
                f"{load['rate']:,.0f} / {outcome.rate:,.0f}",
                f"{load['p50_ms']:.1f} / {outcome.p50_ms:.1f}",
                " / ".join(f"{cpu['node']:.0f}" for cpu in both),
                " / ".join(f"{cpu['router']:.0f}" for cpu in both) if shape.routers else "",
            )
        )
    titles = ("measured / simulated", "calls/s", "p50 ms", "node, µs of a call", "router, µs")
    among = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return f"{_table(titles, rows)}\n\nSimulated rates are {among} times the measured ones."


def sizes(measured: Measured) -> str:
    costs = costs_of(measured["fitted"])
    rows: list[Sequence[str]] = []
    for nodes in SIZES:
        for routers in sorted({0, -(-nodes // NODES_PER_ROUTER), nodes}):
            clients = CLIENTS_PER_NODE * nodes
            shape = Shape(nodes, routers, clients, IN_FLIGHT_PER_NODE // CLIENTS_PER_NODE)
            outcome = simulate(shape, costs)
            rows.append(
                (
                    _what(shape),
                    f"{outcome.rate:,.0f}",
                    f"{outcome.rate / nodes:,.0f}",
                    f"{outcome.p50_ms:.0f}",
                    _share(outcome.busy["node"]),
                    _share(outcome.busy["router"]) if routers else "",
                    f"{outcome.batch['node']:.1f}",
                    f"{outcome.cpu_us['node']:.0f}",
                )
            )
            print(rows[-1], flush=True)
    titles = (
        "cluster", "calls/s", "of each node", "p50 ms", "nodes busy", "routers busy",
        "calls in a message", "node, µs of a call",
    )  # fmt: skip
    return _table(titles, rows)


def objects(measured: Measured) -> str:
    titles = (
        "objects", "made/s", "memory of each", "disk", "restart s",
        "calls/s among 1,000", "among all", "node, µs of a call: 1,000", "all",
    )  # fmt: skip
    return _table(
        titles,
        [
            (
                f"{row['objects']:,}",
                f"{row['made_per_s']:,.0f}",
                f"{row['grown_mb'] / row['made'] * 1e6:,.0f} bytes",
                f"{row['disk_mb']:,.0f} MB",
                f"{row['restart_s']:.1f}",
                f"{row['few']['per_s']:,.0f}",
                f"{row['all']['per_s']:,.0f}",
                f"{row['few']['node_us']:.0f}",
                f"{row['all']['node_us']:.0f}",
            )
            for row in measured["rows"]["objects"]
        ],
    )


def partitions(measured: Measured) -> str:
    titles = (
        "partitions of a node", "memory", "open files", "disk", "first start s", "restart s",
        "idle CPU",
    )  # fmt: skip
    return _table(
        titles,
        [
            (
                f"{row['partitions']:,}",
                f"{row['node_mb']:.0f} MB",
                f"{row['files']:,}",
                f"{row['disk_mb']:.0f} MB",
                f"{row['start_s']:.1f}",
                f"{row['restart_s']:.1f}",
                f"{row['node_idle_percent']:.1f} %",
            )
            for row in measured["rows"]["partitions"]
        ],
    )


def links(measured: Measured) -> str:
    """What follows from the number of nodes alone, before anybody calls."""
    fitted = measured["fitted"]
    clients = fitted["clients"]
    window_kb = clients["node_mb, clients of a router"]["each"] * 1e3 / PARTITIONS_MEASURED
    stream_kb = clients["router_mb, clients of a router"]["each"] * 1e3
    idle_us = clients["router_idle_percent, clients of a router"]["each"] * 1e4
    rows: list[Sequence[str]] = []
    for row in measured["rows"]["maps"]:
        nodes, partitions = row["nodes"], row["partitions"]
        if nodes not in SIZES:
            continue
        routers = -(-nodes // NODES_PER_ROUTER)
        streams = nodes + CLIENTS_OF_A_NODE * nodes // routers
        windows = min(WINDOWS_MAX, CLIENTS_OF_A_NODE * nodes) * row["most_on_a_node"]
        rows.append(
            (
                f"{nodes:,}",
                f"{partitions:,}",
                f"{routers:,}",
                f"{CLIENTS_OF_A_NODE * nodes:,}",
                f"{streams:,}",
                f"{streams * stream_kb / 1e3:.0f} MB",
                f"{streams * idle_us / 1e4:.1f} %",
                f"{windows * window_kb / 1e3:,.0f} MB",
                f"{row['map_kb']:.1f} KB",
                f"{row['placed_s']:.2f} s",
            )
        )
    titles = (
        "nodes", "partitions", "routers", "clients", "streams of a router", "their memory",
        "their idle CPU", "windows in a node", "map", "placing, once",
    )  # fmt: skip
    return _table(titles, rows)


BLOCKS: dict[str, Callable[[Measured], str]] = {
    "machine": machine,
    "constants": constants,
    "checks": checks,
    "sizes": sizes,
    "objects": objects,
    "partitions": partitions,
    "links": links,
}


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---", *("---:" for _ in titles[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(busy: float) -> str:
    # A turn counts when it begins: one that goes on at the end counts whole.
    return f"{min(busy, 1.0):.0%}"


def _what(shape: Shape) -> str:
    nodes = f"{shape.nodes:,} node{'s' if shape.nodes > 1 else ''}"
    routers = f"{shape.routers:,} router{'s' if shape.routers > 1 else ''}"
    return f"{nodes}, {routers if shape.routers else 'direct'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("costs", type=Path, nargs="+", help="what fit_costs.py --json has written")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into it")
    options = parser.parse_args()
    read = [json.loads(file.read_text()) for file in options.costs]
    measured = {
        "perdure": read[0]["perdure"],
        "machine": read[0]["machine"],
        **{
            name: {k: v for one in read for k, v in one[name].items()}
            for name in ("rows", "fitted")
        },
    }
    made = {name: make(measured) for name, make in BLOCKS.items()}
    for name, text in made.items():
        print(f"\n{name}\n\n{text}")
    if options.write is not None:
        options.write.write_text(with_blocks(options.write.read_text(), made))


def with_blocks(text: str, made: Mapping[str, str]) -> str:
    """Put each block between its two comments."""
    for name, block in made.items():
        begin, end = f"<!-- {name}: made by scripts/predict_scale.py -->", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"there is no place for {name}: {begin} ... {end}")
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{block}\n{end}{after}"
    return text


if __name__ == "__main__":
    main()
