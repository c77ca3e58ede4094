"""What several commands take, and how they find the cluster they are about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.failure import CommandFailed

if TYPE_CHECKING:
    from perdure.cli.connection import Connection
    from perdure.config import Config

__all__ = [
    "Address",
    "ConfigFile",
    "Data",
    "Json",
    "Limits",
    "LogLevel",
    "Object",
    "Timeout",
    "config_of",
    "connect",
]

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Instead of ./perdure.toml.", show_default=False)
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        help="host:port of a router or node. Else PERDURE_ADDRESS, else perdure.toml.",
        show_default=False,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds to wait.")]
Object = Annotated[str, typer.Argument(metavar="TYPE/ID", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LogLevel = Annotated[
    str | None,
    typer.Option("--log-level", help="debug, info, warning or error.", show_default=False),
]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=NUMBER", help="A bound of nodes.", show_default=False),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="The folder of the data. Else PERDURE_DATA.", show_default=False),
]


def config_of(file: Path | None, **flags: object) -> Config:
    """Read the settings: flags win over the environment, that over the file."""
    from perdure.config import load_config

    return load_config(file, os.environ, flags)


def connect(file: Path | None, address: str | None, timeout_s: float) -> Connection:
    """Return a connection to the cluster that is meant.

    Raises:
        CommandFailed: Nothing says which.
    """
    config = config_of(file, address=address)
    target = config.address or next(iter(config.routers), None)
    if target is None:
        raise CommandFailed(
            "there is no address to ask: give --address host:port, set PERDURE_ADDRESS, "
            "or work in the folder of a perdure.toml"
        )
    from perdure.cli.connection import Connection

    return Connection(target, timeout_s)
