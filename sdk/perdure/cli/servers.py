"""Node and router processes: what they need to be told, and their command lines.

`perdure_node` and `perdure_router` are started by name and never imported here: they stand on
this package, not the other way round.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from perdure.cli.failure import CommandFailed
from perdure.config import Config, check_address
from perdure.hints import did_you_mean
from perdure.service_settings import ServiceSettings, setting_words

__all__ = [
    "PARTITIONS_OF_A_CLUSTER",
    "NodeProcess",
    "RouterProcess",
    "become",
    "node_command",
    "node_of",
    "router_command",
    "router_of",
    "server_environment",
]

PARTITIONS_OF_A_CLUSTER: Final = 64

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """What a node is told."""

    name: str
    listen: str
    data: Path
    app: str
    cluster_id: str
    partitions: int
    nodes: Mapping[str, str]
    routers: tuple[str, ...]
    log_level: str
    init: bool = False
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    services: Mapping[str, ServiceSettings] = field(default_factory=dict[str, ServiceSettings])


@dataclass(frozen=True, slots=True)
class RouterProcess:
    """What a router is told."""

    name: str
    listen: str
    nodes: Mapping[str, str]
    log_level: str


def node_of(config: Config, name: str, listen: str | None, *, init: bool) -> NodeProcess:
    """Return what the node `name` of a described cluster is told.

    Raises:
        CommandFailed: The settings do not say enough.
    """
    nodes = _nodes_of(config)
    if name not in nodes:
        raise CommandFailed(f"there is no node {name!r}{did_you_mean(name, list(nodes))}")
    return NodeProcess(
        name=name,
        listen=check_address(listen or nodes[name], "--listen"),
        data=_needed(config.data, "the folder of the data", "data", "--data DIR") / name,
        app=_needed(config.app, "the app", "app", "--app FILE"),
        cluster_id=_needed(config.cluster_id, "the cluster's id", "id in [cluster]"),
        partitions=config.partitions or PARTITIONS_OF_A_CLUSTER,
        nodes=nodes,
        routers=config.routers,
        log_level=config.log_level or "info",
        init=init,
        limits=config.limits,
        services=config.services,
    )


def router_of(config: Config, name: str, listen: str | None) -> RouterProcess:
    """Return what a router of a described cluster is told.

    Raises:
        CommandFailed: The settings do not say enough.
    """
    nodes = _nodes_of(config)
    if listen is None:
        if len(config.routers) != 1:
            raise CommandFailed(
                f"which address is this router's? [cluster] has {len(config.routers)} routers: "
                f"give --listen host:port"
            )
        listen = config.routers[0]
    return RouterProcess(name, check_address(listen, "--listen"), nodes, config.log_level or "info")


def node_command(node: NodeProcess) -> list[str]:
    """Return the command line of a node."""
    command = [*_python("perdure_node"), "--name", node.name, "--listen", node.listen]
    command += ["--data", str(node.data), "--app", node.app]
    command += ["--cluster-id", node.cluster_id, "--partitions", str(node.partitions)]
    for name, address in node.nodes.items():
        command += ["--node", f"{name}={address}"]
    for address in node.routers:
        command += ["--router", address]
    for name, number in node.limits.items():
        command += ["--limit", f"{name}={number}"]
    for word in setting_words(node.services):
        command += ["--service", word]
    return [*command, "--log-level", node.log_level, *(["--init"] if node.init else [])]


def router_command(router: RouterProcess) -> list[str]:
    """Return the command line of a router."""
    command = [*_python("perdure_router"), "--name", router.name, "--listen", router.listen]
    for name, address in router.nodes.items():
        command += ["--node", f"{name}={address}"]
    return [*command, "--log-level", router.log_level]


def become(command: list[str]) -> NoReturn:
    """Go on as the server, in this very process: whoever started it can signal it."""
    sys.stdout.flush()
    os.execve(command[0], command, server_environment())


def server_environment() -> dict[str, str]:
    """Return the environment of a server: it is no client, whatever is set for clients."""
    environment = dict(os.environ)
    environment.pop("PERDURE_ADDRESS", None)
    # What an app prints is to be seen when it is printed.
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _python(module: str) -> list[str]:
    # -P: the current folder is no place to import from unless the app is named so.
    return [sys.executable, "-P", "-m", module]


def _nodes_of(config: Config) -> Mapping[str, str]:
    return _needed(config.nodes, "the nodes", "[cluster.nodes]")


def _needed(value: _T | None, what: str, key: str, flag: str = "") -> _T:
    if value:
        return value
    raise CommandFailed(
        f"{what} is not known: set {key} in perdure.toml{f' or give {flag}' if flag else ''}"
    )
