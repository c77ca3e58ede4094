"""`perdure calls`: the calls that are not over, and what an operator decides about them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.failure import CommandFailed
from perdure.cli.options import Address, ConfigFile, Json, Object, Timeout, connect

if TYPE_CHECKING:
    from pathlib import Path

    from perdure.wire.v1 import cluster_pb2

__all__ = ["calls"]

calls = typer.Typer(
    help="List calls that are not over; retry, drop or cancel one.",
    pretty_exceptions_enable=False,
)

TimerName = Annotated[str, typer.Argument(metavar="TIMER", show_default=False)]


@calls.callback(invoke_without_command=True)
def list_calls(  # noqa: PLR0913, PLR0917 - its options
    context: typer.Context,
    parked: Annotated[
        bool, typer.Option("--parked", help="Only what does not go on until you decide.")
    ] = False,
    type: Annotated[str, typer.Option(help="Only calls to objects of this type.")] = "",
    node: Annotated[str, typer.Option(help="Only calls on this node.")] = "",
    older: Annotated[
        float, typer.Option(min=0, help="Seconds. Younger ones without a step are left out.")
    ] = 1.0,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 100,
    after: Annotated[str, typer.Option(help="Go on where an earlier list ended.")] = "",
    json: Json = False,
    timeout: Timeout = 10.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """List calls that are not over; retry, drop or cancel one."""
    if context.invoked_subcommand is not None:
        return
    from perdure.cli.call_table import pack_place, print_calls, unpack_place
    from perdure.hints import did_you_mean
    from perdure.wire.v1 import cluster_pb2

    request = cluster_pb2.ListCallsRequest(
        parked_only=parked,
        type=type,
        node=node,
        older_than_ms=round(older * 1_000),
        limit=limit,
        after=unpack_place(after),
    )
    with connect(config, address, timeout) as connection:
        if node:
            names = [each.name for each in connection.describe().nodes]
            if node not in names:
                raise CommandFailed(f"there is no node {node!r}{did_you_mean(node, names)}")
        page = connection.list_calls(request)
    print_calls(page, as_json=json)
    if page.more and not json:
        sys.stderr.write(f"there are more: --after {pack_place(page.next)} goes on\n")
    if page.missing:
        raise CommandFailed(f"not in this list: {', '.join(page.missing)}")


@calls.command()
def retry(
    object: Object, timeout: Timeout = 30.0, address: Address = None, config: ConfigFile = None
) -> None:
    """Run the parked call of an object again. What it has finished is not done twice."""
    from perdure.wire.v1 import cluster_pb2

    _decide(config, address, timeout, object, cluster_pb2.DECISION_RETRY_CALL)
    sys.stdout.write(f"the parked call of {object} runs again\n")


@calls.command()
def drop(
    object: Object, timeout: Timeout = 30.0, address: Address = None, config: ConfigFile = None
) -> None:
    """End the parked call of an object: it has failed, and what it has committed stays."""
    from perdure.wire.v1 import cluster_pb2

    _decide(config, address, timeout, object, cluster_pb2.DECISION_DROP_CALL)
    sys.stdout.write(f"the parked call of {object} has ended\n")


@calls.command()
def cancel(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID", show_default=False)],
    object: Annotated[str, typer.Option("--object", metavar="TYPE/ID", help="That is called.")],
    kill: Annotated[bool, typer.Option("--kill", help="Its method does not clean up.")] = False,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """End a call that waits, runs or is on its way, as if its caller had cancelled it."""
    from perdure.wire.v1 import cluster_pb2

    decision = cluster_pb2.DECISION_KILL_CALL if kill else cluster_pb2.DECISION_CANCEL_CALL
    _decide(config, address, timeout, object, decision, call_id)
    sys.stdout.write(f"the call {call_id} is told to end\n")


@calls.command("retry-timer")
def retry_timer(
    object: Object,
    timer: TimerName,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Let a parked timer of an object fire now."""
    from perdure.wire.v1 import cluster_pb2

    _decide(config, address, timeout, object, cluster_pb2.DECISION_RETRY_TIMER, timer)
    sys.stdout.write(f"the timer {timer!r} of {object} fires now\n")


@calls.command("drop-timer")
def drop_timer(
    object: Object,
    timer: TimerName,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Remove a parked timer of an object."""
    from perdure.wire.v1 import cluster_pb2

    _decide(config, address, timeout, object, cluster_pb2.DECISION_DROP_TIMER, timer)
    sys.stdout.write(f"the timer {timer!r} of {object} is removed\n")


def _decide(
    config: Path | None,
    address: str | None,
    timeout_s: float,
    object: str,
    decision: cluster_pb2.Decision.ValueType,
    name: str = "",
) -> None:
    from perdure.cli.arguments import object_key
    from perdure.wire.v1 import cluster_pb2

    target = object_key(object)
    with connect(config, address, timeout_s) as connection:
        done = connection.decide(target, decision, name)
    if done:
        return
    if decision in (cluster_pb2.DECISION_RETRY_CALL, cluster_pb2.DECISION_DROP_CALL):
        raise CommandFailed(f"no call of {object} is parked: perdure why {object} says more")
    if decision in (cluster_pb2.DECISION_RETRY_TIMER, cluster_pb2.DECISION_DROP_TIMER):
        raise CommandFailed(f"no timer {name!r} of {object} is parked")
    raise CommandFailed(f"the call {name} of {object} is over")
