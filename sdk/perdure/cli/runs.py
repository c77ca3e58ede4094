"""`perdure runs`: the runs of workflows, what has happened in them, and what is told to them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from perdure.cli.failure import USAGE, CommandFailed
from perdure.cli.options import Address, ConfigFile, Json, Timeout, connect

if TYPE_CHECKING:
    from pathlib import Path

    from perdure.cli.run_client import RunClient
    from perdure.workflows.runs import RunStatus

__all__ = ["runs"]

runs = typer.Typer(
    help="List runs of workflows, look into one, send it a payload, end it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RunId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]

_PAGE_MIN: Final = 20


@runs.command("list")
def list_(
    workflow: Annotated[
        str | None, typer.Option(help="Only runs of it.", show_default=False)
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="Only those that are running, completed, failed, cancelled, parked or cancelling.",
            show_default=False,
        ),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Only ids that begin so.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    after: Annotated[str, typer.Option(help="Go on after this id.")] = "",
    json: Json = False,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """List runs, in the order of their ids."""
    from perdure.cli.run_picture import state_of
    from perdure.cli.run_table import STATES, asked_status, print_runs
    from perdure.hints import did_you_mean

    if status is not None and status not in STATES:
        hint = did_you_mean(status, STATES)
        raise CommandFailed(f"a run is {', '.join(STATES)}: not {status!r}{hint}", USAGE)

    async def listed(client: RunClient) -> list[RunStatus]:
        found: list[RunStatus] = []
        partitions = max(1, client.partition_count)
        page = max(_PAGE_MIN, 2 * limit // partitions)
        async for run in client.runs(workflow, asked_status(status), prefix, after, page):
            if status is None or state_of(run) == status:
                found.append(run)
            # One more than asked for tells whether there are more.
            if len(found) > limit:
                break
        return found

    found = _ask(config, address, timeout, listed)
    shown = found[:limit]
    behind = shown[-1].id if len(found) > limit else None
    print_runs(shown, behind, as_json=json)
    if behind is not None and not json:
        sys.stderr.write(f"there are more: --after {behind!r} goes on\n")


@runs.command()
def show(
    id: RunId,
    events: Annotated[
        bool, typer.Option("--events", help="The events as they are recorded, one a line.")
    ] = False,
    all: Annotated[bool, typer.Option("--all", help="Shorten nothing.")] = False,
    json: Json = False,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Show what has happened in a run, and what it waits for."""
    from perdure.cli.run_output import print_events, print_run, read_run

    if events:
        print_events(_ask(config, address, timeout, lambda c: c.events(id)), as_json=json)
        return
    run = _ask(config, address, timeout, lambda client: read_run(client, id))
    print_run(run, as_json=json, is_whole=all)


@runs.command()
def cancel(
    id: RunId,
    reason: Annotated[str, typer.Option(help="Its code and its callers see it.")] = "on request",
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """End a run. It may clean up before it does."""
    if not _ask(config, address, timeout, lambda client: client.cancel(id, reason)):
        raise CommandFailed(f"the run {id} is over")
    sys.stdout.write(f"the run {id} is told to end\n")


@runs.command()
def wake(
    id: RunId, timeout: Timeout = 30.0, address: Address = None, config: ConfigFile = None
) -> None:
    """End all sleeps of a run now."""
    if not _ask(config, address, timeout, lambda client: client.wake(id)):
        raise CommandFailed(
            f"the run {id} does not sleep: perdure runs show {id} says what it does"
        )
    sys.stdout.write(f"the run {id} sleeps no longer\n")


@runs.command()
def resume(
    token: Annotated[str, typer.Argument(metavar="TOKEN", show_default=False)],
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD", help="JSON.")] = "null",
    no_reply: Annotated[
        bool, typer.Option("--no-reply", help="Return once the payload is durable.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the hook if there is none yet.")
    ] = 0.0,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Send a payload to the hook of a token, and print what its run replies as JSON."""
    from perdure.cli.arguments import json_payload
    from perdure.cli.printing import print_json
    from perdure.errors import HookNotFound

    packed = json_payload(payload)

    async def resumed(client: RunClient) -> str:
        try:
            return await client.resume(token, packed, wait, reply=not no_reply)
        except HookNotFound:
            raise CommandFailed(
                f"no run has a hook with the token {token!r}: --wait 10 waits 10 s for it, "
                "perdure runs list shows the tokens of runs"
            ) from None

    reply = _ask(config, address, timeout, resumed)
    if not no_reply:
        print_json(reply)


@runs.command()
def tail(
    id: RunId,
    stream: Annotated[
        str | None, typer.Option(help="Its name; else the one without.", show_default=False)
    ] = None,
    from_: Annotated[int, typer.Option("--from", help="The first chunk; -3: the last three.")] = 0,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Print what is there, and wait for no more.")
    ] = False,
    join: Annotated[
        bool, typer.Option("--join", help="Text without a line break after each chunk.")
    ] = False,
    json: Json = False,
    timeout: Timeout = 30.0,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Print a stream of a run as it is written, until the run ends."""
    import logging

    from perdure.cli.run_output import tail_stream

    # That a question for more was not answered, when somebody has had enough, is not worth a word.
    logging.getLogger("perdure").setLevel(logging.CRITICAL)

    def tailed(client: RunClient) -> Coroutine[Any, Any, None]:
        return tail_stream(
            client, id, stream, from_, follow=not no_follow, as_json=json, is_joined=join
        )

    try:
        _ask(config, address, timeout, tailed)
    except KeyboardInterrupt:
        # How one stops following. Nothing has gone wrong.
        raise typer.Exit(130) from None


def _ask(
    config: Path | None,
    address: str | None,
    timeout_s: float,
    work: Callable[[RunClient], Coroutine[Any, Any, Any]],
) -> Any:
    """Do something as a client of the cluster that is meant.

    Raises:
        CommandFailed: It does not answer, or there is no such run.
    """
    import io

    from perdure.cli.run_client import on_cluster
    from perdure.errors import BadObjectId, RunNotFound

    if isinstance(sys.stdout, io.TextIOWrapper):
        # Payloads may hold characters that the terminal has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    with connect(config, address, timeout_s) as connection:
        # A question that ends at once if nobody answers there, and says so.
        description = connection.describe()
        target = connection.address
    if (
        description.role == "node"
        and len(description.nodes[0].partitions) < description.partition_count
    ):
        raise CommandFailed(f"{target} is a node and has some of all runs: ask a router")
    try:
        return on_cluster(target, timeout_s, work)
    except RunNotFound as error:
        raise CommandFailed(f"there is no run {error.run!r}: perdure runs list shows all") from None
    except BadObjectId as error:
        raise CommandFailed(str(error), USAGE) from None
