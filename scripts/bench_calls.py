"""How many durable calls a second: to one node, unary, and to three with and without a router.

    python scripts/bench_calls.py [--rounds 3] [--seconds 3] [--pure]

64 callers call 1,000 counters, each waiting for its answer before it calls again. The
ways alternate, and the median of the rounds counts. `bench_reference.py` compares them with what
else this machine does; `perdure bench` measures objects of your own.
"""

from __future__ import annotations

import argparse

import compiled
from local_cluster import LocalCluster, local_cluster
from measuring import Round
from processes import end_in_order_when_terminated
from rounds import Figure, Way, alternate, work

APP = "perdure.bench.app"


def direct(cluster: LocalCluster, name: str, text: str, *arguments: str, way: str = "shots") -> Way:
    """Call the one node of a cluster, past its router."""
    address = cluster.describe().nodes[0].address
    roles = {"node": cluster.node_processes()}

    def run(seconds: float) -> Round:
        return work(way, seconds, "--address", address, *arguments, roles=roles)

    return Way(name, text, run)


def routed(
    cluster: LocalCluster, name: str, text: str, *arguments: str, routing: str = "router"
) -> Way:
    """Call the nodes of a cluster through its router, or as the router's map says."""
    roles = {"router": cluster.router_processes(), "node": cluster.node_processes()}
    environment = {"PERDURE_ROUTING": routing}

    def run(seconds: float) -> Round:
        where = ("--address", cluster.address)
        return work("shots", seconds, *where, *arguments, roles=roles, environment=environment)

    return Way(name, text, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round of each way")
    compiled.add_arguments(parser)
    options = parser.parse_args()
    end_in_order_when_terminated()
    print(f"Perdure: {compiled.choose(options)}")
    with local_cluster(APP, 1, quiet=True) as one, local_cluster(APP, 3, quiet=True) as three:
        ways = [
            direct(one, "direct", "one node"),
            direct(one, "unary", "one node, unary", way="unary"),
            routed(three, "router3", "router and three nodes"),
            routed(three, "direct3", "three nodes, direct", routing="direct"),
        ]
        done = alternate(ways, options.rounds, options.seconds)
    figures = {name: Figure.of(rounds) for name, rounds in done.items()}
    for way in ways:
        rates = ", ".join(f"{each.rate:,.0f}" for each in done[way.name])
        print(f"{way.text:24} {figures[way.name].rate.median:>9,.0f} calls/s   ({rates})")
    ratio = figures["direct"].rate.median / figures["unary"].rate.median
    print(f"one node / unary: {ratio:.1f} times")
    ratio = figures["direct3"].rate.median / figures["router3"].rate.median
    print(f"three nodes, direct / routed: {ratio:.2f} times")
    for name in ("router3", "direct3"):
        costs = ", ".join(f"{role} {cpu.median:.1f}" for role, cpu in figures[name].cpu_us.items())
        print(f"µs of CPU per call, {name}: {costs}")


if __name__ == "__main__":
    main()
