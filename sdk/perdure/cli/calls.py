"""`perdure calls`: the calls that are not over, and what an operator decides about them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from perdure.cli.failure import CommandFailed
from perdure.cli.options import Address, ConfigFile, Json, Object, Timeout, connect

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["calls"]

calls = typer.Typer(
    help="List calls that are not over; retry, drop or cancel one.",
    pretty_exceptions_enable=False,
)

_NO_CALL: Final = "no call of {object} is parked: perdure why {object} says more"
_NO_TIMER: Final = "no timer {name!r} of {object} is parked"
_OVER: Final = "the call {name} of {object} is over"

_WORDS: Final = {
    "RETRY_CALL": ("the parked call of {object} runs again", _NO_CALL),
    "DROP_CALL": ("the parked call of {object} has ended", _NO_CALL),
    "CANCEL_CALL": ("the call {name} is told to end", _OVER),
    "KILL_CALL": ("the call {name} is told to end", _OVER),
    "RETRY_TIMER": ("the timer {name!r} of {object} fires now", _NO_TIMER),
    "DROP_TIMER": ("the timer {name!r} of {object} is removed", _NO_TIMER),
}
"""What is said of each decision: when it is carried out, and when there is nothing to decide."""

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
    _decide(config, address, timeout, object, "RETRY_CALL")


@calls.command()
def drop(
    object: Object, timeout: Timeout = 30.0, address: Address = None, config: ConfigFile = None
) -> None:
    """End the parked call of an object: it has failed, and what it has committed stays."""
    _decide(config, address, timeout, object, "DROP_CALL")


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
    decision = "KILL_CALL" if kill else "CANCEL_CALL"
    _decide(config, address, timeout, object, decision, call_id)


@calls.command("retry-timer")
def retry_timer(
    object: Object,
    timer: TimerName,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Let a parked timer of an object fire now."""
    _decide(config, address, timeout, object, "RETRY_TIMER", timer)


@calls.command("drop-timer")
def drop_timer(
    object: Object,
    timer: TimerName,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Remove a parked timer of an object."""
    _decide(config, address, timeout, object, "DROP_TIMER", timer)


def _decide(
    config: Path | None,
    address: str | None,
    timeout_s: float,
    object: str,
    decision: str,
    name: str = "",
) -> None:
    """Have something decided, and tell what has become of it."""
    from perdure.cli.arguments import object_key
    from perdure.wire.v1 import cluster_pb2

    target = object_key(object)
    with connect(config, address, timeout_s) as connection:
        value = cluster_pb2.Decision.Value(f"DECISION_{decision}")
        is_done = connection.decide(target, value, name)
    done, not_there = _WORDS[decision]
    if not is_done:
        raise CommandFailed(not_there.format(object=object, name=name))
    sys.stdout.write(f"{done.format(object=object, name=name)}\n")
