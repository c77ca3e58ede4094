"""The commands, what they take, and how they end.

Imports of what a command needs are inside it, so that `perdure --help` answers at once.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from perdure.cli.bench import bench
from perdure.cli.calls import calls
from perdure.cli.failure import CommandFailed
from perdure.cli.options import (
    Address,
    ConfigFile,
    Data,
    Json,
    Limits,
    LogLevel,
    Object,
    Timeout,
    config_of,
    connect,
)
from perdure.cli.runs import runs
from perdure.errors import PerdureError
from perdure.hints import did_you_mean
from perdure.ids import PARTITIONS_MAX

__all__ = ["app", "main"]

app = typer.Typer(
    name="perdure",
    help="Durable objects for Python: run a cluster, and look into it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(calls, name="calls")
app.add_typer(bench, name="bench")
app.add_typer(runs, name="runs")


def main() -> None:
    """Run the command line: the `perdure` script."""
    # Read when gRPC is imported. Its own lines would come between ours.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        app()
    except CommandFailed as failure:
        _fail(str(failure), failure.status)
    except PerdureError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` has. Nothing may be flushed there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _fail(text: str, status: int) -> None:
    sys.stderr.write(f"perdure: {text}\n")
    sys.exit(status)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from perdure.compiled import is_compiled

        modules = "compiled" if is_compiled() else "pure Python"
        sys.stdout.write(f"perdure {version('perdure')}, {modules}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    pass


@app.command()
def up(
    app: Annotated[
        str | None, typer.Argument(help="A .py file, or the name of a module.", show_default=False)
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Of a new cluster; else 1.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the router.")] = 7400,
    data: Data = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1, max=PARTITIONS_MAX, help="Of a new cluster; else 64.", show_default=False
        ),
    ] = None,
    limit: Limits = None,
    log_level: LogLevel = None,
    config: ConfigFile = None,
) -> None:
    """Run a cluster on this machine: a router and nodes, until Ctrl-C.

    What dies is started again. The data stays in its folder (.perdure-cluster) for the next time.
    """
    from perdure.cli.arguments import limit_settings
    from perdure.cli.up import run_cluster

    flags = {
        "app": app,
        "data": data,
        "cluster.partitions": partitions,
        "log_level": log_level,
        **limit_settings(limit or ()),
    }
    raise typer.Exit(run_cluster(config_of(config, **flags), nodes, port))


@app.command()
def node(
    name: Annotated[str, typer.Option(help="One of [cluster.nodes].", show_default=False)],
    app: Annotated[
        str | None, typer.Option(help="A .py file, or the name of a module.", show_default=False)
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Instead of the node's own address.", show_default=False)
    ] = None,
    data: Data = None,
    init: Annotated[
        bool, typer.Option("--init", help="The first start of this node: make its folder.")
    ] = False,
    limit: Limits = None,
    log_level: LogLevel = None,
    config: ConfigFile = None,
) -> None:
    """Run one node of the cluster that perdure.toml describes."""
    from perdure.cli.arguments import limit_settings
    from perdure.cli.servers import become, node_command, node_of

    flags = {"app": app, "data": data, "log_level": log_level, **limit_settings(limit or ())}
    become(node_command(node_of(config_of(config, **flags), name, listen, init=init)))


@app.command()
def router(
    listen: Annotated[
        str | None,
        typer.Option(help="Else the only one of cluster.routers.", show_default=False),
    ] = None,
    name: Annotated[str, typer.Option(help="In logs and errors.")] = "router",
    log_level: LogLevel = None,
    config: ConfigFile = None,
) -> None:
    """Run a router of the cluster that perdure.toml describes. There may be any number."""
    from perdure.cli.servers import become, router_command, router_of

    become(router_command(router_of(config_of(config, log_level=log_level), name, listen)))


@app.command()
def status(
    address: Address = None,
    json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Show the cluster. Exit 0 when every partition is served, else 1, within 2 s."""
    from perdure.cli.printing import description_as_json, print_cluster, served_partitions

    with connect(config, address, timeout_s=1.2) as connection:
        description = connection.describe()
        if json:
            sys.stdout.write(description_as_json(description) + "\n")
        else:
            print_cluster(description, connection.address)
    served, count = len(served_partitions(description)), description.partition_count
    if not served == count > 0:
        raise CommandFailed(f"{served} of {count} partitions are served")


@app.command()
def call(
    object: Object,
    method: Annotated[str, typer.Argument(show_default=False)],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="name=value ..., or values, or one JSON array or object.", show_default=False
        ),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the object if it is not there.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(help="Called again with it, the first answer comes back.", show_default=False),
    ] = None,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Call a method of an object, and print its result as JSON."""
    from perdure.cli.arguments import json_arguments, object_key

    target, payload = object_key(object), json_arguments(arguments or ())
    from perdure.cli.connection import RequestFailed
    from perdure.cli.printing import print_json
    from perdure.wire.v1 import calls_pb2

    with connect(config, address, timeout) as connection:
        if create:
            connection.operate(target, calls_pb2.OPERATION_GET_OR_CREATE)
        try:
            result = connection.operate(
                target, calls_pb2.OPERATION_UNSPECIFIED, method, payload, key
            )
        except RequestFailed as failure:
            if failure.reason == "OBJECT_NOT_FOUND":
                raise CommandFailed(f"there is no {object}: --create makes one") from None
            raise
    print_json(result)


@app.command()
def get(
    object: Object,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Print an object's committed state as JSON, without waiting for its methods."""
    from perdure.cli.arguments import object_key

    target = object_key(object)
    from perdure.cli.connection import RequestFailed
    from perdure.cli.printing import print_json
    from perdure.wire.v1 import calls_pb2

    with connect(config, address, timeout) as connection:
        try:
            state = connection.operate(target, calls_pb2.OPERATION_GET)
        except RequestFailed as failure:
            if failure.reason == "OBJECT_NOT_FOUND":
                raise CommandFailed(f"there is no {object}") from None
            raise
    print_json(state)


@app.command()
def delete(
    object: Object,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Delete an object, in its turn among the calls that wait for it."""
    from perdure.cli.arguments import object_key

    target = object_key(object)
    from perdure.wire.v1 import calls_pb2

    with connect(config, address, timeout) as connection:
        existed = connection.operate(target, calls_pb2.OPERATION_DELETE)
    if existed != "true":
        raise CommandFailed(f"there is no {object}")
    sys.stdout.write(f"deleted {object}\n")


@app.command("ls")
def list_objects(
    type: Annotated[str, typer.Argument(metavar="TYPE", show_default=False)],
    prefix: Annotated[str, typer.Option(help="Only ids that begin so.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000,
    after: Annotated[str, typer.Option(help="Go on after this id.")] = "",
    json: Json = False,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """List the ids of the stored objects of a type, in order."""
    from perdure.cli.listing import ids_in_order
    from perdure.cli.printing import print_id, print_listing

    with connect(config, address, timeout) as connection:
        description = connection.describe()
        # One more than asked for tells whether there are more.
        ids = ids_in_order(connection, description.partition_count, type, prefix, after, limit + 1)
        known = [kind.name for kind in description.types]
        if type not in known:
            # Objects of a type that the app has given up may still be stored.
            ids = _some(ids, f"there is no type {type!r}{did_you_mean(type, known)}")
        if json:
            print_listing(list(ids), limit)
            return
        last = after
        for number, last_or_next in enumerate(ids):
            if number == limit:
                sys.stderr.write(f"there are more: --after {last!r} goes on\n")
                return
            print_id(last_or_next)
            last = last_or_next


def _some(ids: Iterator[str], otherwise: str) -> Iterator[str]:
    first = next(ids, None)
    if first is None:
        raise CommandFailed(otherwise)
    return itertools.chain([first], ids)


@app.command()
def where(
    object: Object,
    json: Json = False,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Show which partition and node an object belongs to, whether it exists or not."""
    from perdure.cli.arguments import object_key

    target = object_key(object)
    from perdure.cli.printing import print_place

    with connect(config, address, timeout) as connection:
        description = connection.describe()
    print_place(description, target, as_json=json)


@app.command()
def why(
    object: Object,
    id: Annotated[
        str | None,
        typer.Argument(help="Where it is more convenient apart.", show_default=False),
    ] = None,
    json: Json = False,
    timeout: Timeout = 10.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Say what an object does, and what it waits for. It is not woken."""
    from perdure.cli.arguments import object_key
    from perdure.cli.why import explain, print_inspection

    target = object_key(object if id is None else f"{object}/{id}")
    with connect(config, address, timeout) as connection:
        inspection = connection.inspect(target)
        known = inspection.type_known or not inspection.reachable
        types = [] if known else [kind.name for kind in connection.describe().types]
    answer = explain(inspection, target, types)
    print_inspection(inspection, answer, as_json=json)
    if not answer.found:
        raise CommandFailed(answer.sentence)


@app.command()
def check(
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            "-a",
            help="host:port of a cluster that runs perdure.check.app; else one of its own.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, max=100, help="Of the check's own cluster.")] = 3,
    faults: Annotated[
        str, typer.Option(help="kill9,pause,restart: some of these, or none.")
    ] = "none",
    minutes: Annotated[float, typer.Option(min=0.05, help="How long to call.")] = 1.0,
    callers: Annotated[int, typer.Option(min=1, max=1_000, help="Who call at once.")] = 24,
    objects: Annotated[int, typer.Option(min=1, max=10_000, help="That are called at once.")] = 32,
    seed: Annotated[
        int | None, typer.Option(help="Of calls and faults; else any.", show_default=False)
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Where to write all figures as JSON.", show_default=False),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="Where to write all calls as JSON lines.", show_default=False),
    ] = None,
) -> None:
    """Call a cluster, break it, and decide whether it lost, doubled or reordered anything.

    Exit 0: every object was linearizable and every effect happened once. 1: not so; a smallest
    history shows it. 3: the run shows nothing, because too few calls succeeded.
    """
    from perdure.cli.check import check_cluster

    raise typer.Exit(
        check_cluster(address, nodes, faults, minutes, callers, objects, seed, json, history)
    )


if __name__ == "__main__":
    main()
