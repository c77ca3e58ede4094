"""`perdure up`: a router and nodes on this machine, under a supervisor."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.cli.child import Program
from perdure.cli.failure import CommandFailed
from perdure.cli.held_ports import HeldPorts
from perdure.cli.plan import ClusterPlan, open_plan
from perdure.cli.servers import (
    NodeProcess,
    RouterProcess,
    node_command,
    router_command,
    server_environment,
)
from perdure.cli.supervisor import Supervisor
from perdure.config import Config
from perdure.directory import DirectoryLock

if TYPE_CHECKING:
    from perdure.wire.v1 import cluster_pb2

__all__ = ["DATA_DIRECTORY", "cluster_programs", "run_cluster"]

DATA_DIRECTORY: Final = Path(".perdure-cluster")

_ROUTER_DRAIN_S: Final = 12.0
_NODE_DRAIN_S: Final = 20.0

_ASK_TIMEOUT_S: Final = 1.0
_ASK_AGAIN_S: Final = 0.1
_STILL_WAITING_S: Final = 10.0


def run_cluster(config: Config, node_count: int | None, port: int) -> int:
    """Run a cluster until a signal ends it, and return the exit status.

    Raises:
        ConfigError, CommandFailed, StorageHeld: It cannot run; nothing of it runs any more.
    """
    if config.app is None:
        raise CommandFailed("which app? perdure up APP, where APP is a .py file or a module's name")
    directory = (config.data or DATA_DIRECTORY).absolute()
    address = f"127.0.0.1:{port}"
    lock = DirectoryLock(directory, make=True)
    ports = HeldPorts()
    try:
        plan = open_plan(directory, node_count, config.partitions)
        if not ports.keep(address):
            raise CommandFailed(
                f"the port {port} is in use: stop what listens there, or give another --port"
            )
        nodes = dict(zip(plan.nodes, ports.find(len(plan.nodes)), strict=True))
        groups = cluster_programs(config, config.app, directory, plan, address, nodes)
        return asyncio.run(_run(groups, address))
    finally:
        ports.close()
        lock.close()


def cluster_programs(
    config: Config,
    app: str,
    directory: Path,
    plan: ClusterPlan,
    address: str,
    nodes: Mapping[str, str],
) -> list[list[Program]]:
    """Return the router and the nodes, in groups as they are to end.

    The router goes first: what it has sent on is then still answered.

    Args:
        config: For bounds, services, the level of logs and how soon what dies starts again.
        app: What the nodes run.
        directory: Of the plan.
        plan: Who the nodes are.
        address: Where the router is to listen.
        nodes: Where each node is to listen.
    """
    log_level, wait_s = config.log_level or "warning", config.restart_wait_max_s
    environment = server_environment()
    router = RouterProcess("router", address, nodes, log_level)
    processes = [
        NodeProcess(
            name=name,
            listen=listen,
            data=directory / name,
            app=app,
            cluster_id=plan.cluster_id,
            partitions=plan.partition_count,
            nodes=nodes,
            routers=(address,),
            log_level=log_level,
            limits=config.limits,
            services=config.services,
        )
        for name, listen in nodes.items()
    ]
    return [
        [Program("router", router_command(router), environment, _ROUTER_DRAIN_S, wait_s)],
        [
            Program(f"node {node.name}", node_command(node), environment, _NODE_DRAIN_S, wait_s)
            for node in processes
        ],
    ]


async def _run(groups: list[list[Program]], address: str) -> int:
    stop = asyncio.Event()
    supervisor = Supervisor(groups, _print_line)
    _on_signals(stop, supervisor.kill)
    await supervisor.run(_until_served(address), stop)
    if supervisor.killed:
        sys.stderr.write(f"perdure: had to be killed: {', '.join(supervisor.killed)}\n")
        return 1
    return 0


def _on_signals(stop: asyncio.Event, kill: Callable[[], None]) -> None:
    def on_signal() -> None:
        if stop.is_set():
            kill()
            return
        sys.stderr.write("perdure: stopping; once more (Ctrl-C) kills\n")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)


async def _until_served(address: str) -> None:
    """Ask the router until nothing is being opened any more, and print what there is."""
    from perdure.cli.connection import Connection, RequestFailed
    from perdure.cli.printing import print_cluster

    loop = asyncio.get_running_loop()
    say_s = loop.time() + _STILL_WAITING_S
    with Connection(address, _ASK_TIMEOUT_S) as connection:
        while True:
            try:
                description = await asyncio.to_thread(connection.describe)
            except RequestFailed:
                settled, count = 0, 0
            else:
                settled, count = _settled(description), description.partition_count
                if settled == count > 0:
                    print_cluster(description, address)
                    sys.stdout.write(f"\nPERDURE_ADDRESS={address}   Ctrl-C stops\n")
                    sys.stdout.flush()
                    return
            if loop.time() > say_s:
                sys.stderr.write(f"perdure: waiting: {settled} of {count or '?'} partitions\n")
                say_s += _STILL_WAITING_S
            await asyncio.sleep(_ASK_AGAIN_S)


def _settled(description: cluster_pb2.Description) -> int:
    """Count the partitions that are served, or damaged: those will not come by waiting."""
    return len(
        {
            partition.partition
            for node in description.nodes
            if node.up
            for partition in node.partitions
            if partition.state in ("serving", "damaged")
        }
    )


def _print_line(name: str, line: str) -> None:
    sys.stderr.write(f"{name} | {line}\n")
    sys.stderr.flush()
