"""`perdure bench`: how fast objects are, and what a call costs. Compare two runs of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from perdure.cli.failure import USAGE, CommandFailed
from perdure.cli.options import ConfigFile, Limits
from perdure.ids import PARTITIONS_MAX

__all__ = ["NEEDED", "bench"]

bench = typer.Typer(pretty_exceptions_enable=False)

NEEDED = {"hdrhistogram": "hdrh", "psutil": "psutil"}
"""What the extra has: packages, and the modules in them."""

Result = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


Scenario = Annotated[
    str,
    typer.Option(
        "--scenario",
        "-s",
        help="counter, hot, read, session, large, create, cold, nested, service, timers, or "
        "module:function of yours; several with commas between.",
    ),
]
Embedded = Annotated[
    bool, typer.Option("--embedded", help="Call a node in the process that calls.")
]
Node = Annotated[bool, typer.Option("--node", help="Call one node, without a router. The default.")]
Router = Annotated[
    bool, typer.Option("--router", help="Call one node through a router: as --nodes 1.")
]
Nodes = Annotated[
    list[int] | None,
    typer.Option(min=1, max=100, help="Call so many nodes through a router.", show_default=False),
]
Addresses = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        "-a",
        help="Call a running router or node, whose app imports perdure.bench.app.",
        show_default=False,
    ),
]
Routing = Annotated[
    str,
    typer.Option(
        help="With --nodes and --address: router, direct (straight to the nodes), or "
        "router,direct in turns."
    ),
]
InFlight = Annotated[
    int | None,
    typer.Option(min=1, max=100_000, help="Calls without an answer, always.", show_default="64"),
]
Rate = Annotated[
    float | None,
    typer.Option(min=0.1, help="Calls a second instead, whatever is answered.", show_default=False),
]
Objects = Annotated[
    int | None, typer.Option(min=1, help="How many are called.", show_default="by scenario")
]
Processes = Annotated[int, typer.Option(min=1, max=64, help="That call.")]
Rounds = Annotated[
    int, typer.Option(min=1, max=100, help="Runs of each scenario and target, in turns.")
]
Seconds = Annotated[float, typer.Option(min=0.2, help="Of each run, that count.")]
WarmUp = Annotated[float, typer.Option(min=0, help="Seconds before, that do not.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds of each call.")]
Seed = Annotated[int, typer.Option(help="Of the objects that are called.")]
App = Annotated[
    str | None,
    typer.Option(help="Of your classes; else the module of your scenario.", show_default=False),
]
KeptData = Annotated[
    Path | None,
    typer.Option(
        help="Where nodes that it starts keep their data; else it is removed.", show_default=False
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(min=1, max=PARTITIONS_MAX, help="Of clusters that it starts.", show_default="64"),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(help="Where to write all figures as JSON; - prints them.", show_default=False),
]
Report = Annotated[
    Path | None, typer.Option(help="Where to write plots, as one HTML file.", show_default=False)
]


@bench.callback(invoke_without_command=True)
def measure(  # noqa: PLR0913, PLR0917 - its options
    context: typer.Context,
    scenario: Scenario = "counter",
    embedded: Embedded = False,
    node: Node = False,
    router: Router = False,
    nodes: Nodes = None,
    address: Addresses = None,
    routing: Routing = "router",
    inflight: InFlight = None,
    rate: Rate = None,
    objects: Objects = None,
    processes: Processes = 1,
    rounds: Rounds = 3,
    seconds: Seconds = 5.0,
    warm_up: WarmUp = 1.0,
    timeout: Timeout = 30.0,
    seed: Seed = 0,
    app: App = None,
    data: KeptData = None,
    partitions: Partitions = None,
    limit: Limits = None,
    json: JsonFile = None,
    report: Report = None,
    config: ConfigFile = None,
) -> None:
    """Measure how fast objects are, and what a call costs.

    Without --address it starts what it calls, and ends it afterwards. --embedded, --node, --router,
    --nodes and --address may be given together, the latter two more than once: then all are
    measured in turns. Exit 0: calls were answered. 1: in some run none was, or it could not run.

    `perdure bench compare A B` tells what has changed between two files of --json.
    """
    if context.invoked_subcommand is not None:
        return
    _need_extra()
    from perdure.bench.command import measure_all, settings_of, targets_of

    settings = settings_of(
        scenarios=scenario,
        targets=targets_of(
            embedded=embedded,
            node=node,
            router=router,
            nodes=nodes or [],
            addresses=address or [],
            routings=routing,
        ),
        in_flight=inflight,
        rate=rate,
        objects=objects,
        processes=processes,
        rounds=rounds,
        warm_up_s=warm_up,
        seconds=seconds,
        timeout_s=timeout,
        seed=seed,
        app=app,
        data=data,
        partitions=partitions,
        limits=limit or [],
        config_file=config,
    )
    raise typer.Exit(measure_all(settings, json, report))


@bench.command()
def compare(before: Result, after: Result) -> None:
    """Say of each figure whether the second run was better, worse, or within the noise."""
    _need_extra()
    from perdure.bench.command import compare_files

    compare_files(before, after)


def _need_extra() -> None:
    missing = [name for name, module in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise CommandFailed(
            f"perdure bench needs {' and '.join(missing)}: pip install 'perdure[bench]'", USAGE
        )
