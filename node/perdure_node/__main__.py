"""`python -m perdure_node`: one node process. `perdure up` and `perdure node` start it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perdure.config import check_address, check_node_name
from perdure.errors import ConfigError
from perdure.process import LOG_LEVELS, run_server
from perdure.service_settings import SERVICES, ServiceSettings, parse_setting, services_of

__all__ = ["main", "services_of_words"]


def main() -> int:
    """Run a node until it is told to end, and return the exit status."""
    arguments = _parser().parse_args()
    return run_server(
        f"node {arguments.name}",
        lambda: _serve(arguments),
        log_level=arguments.log_level,
        parent_pid=arguments.parent_pid,
    )


async def _serve(arguments: argparse.Namespace) -> int:
    from perdure_node.app import import_app
    from perdure_node.collector import collector_paused
    from perdure_node.settings import NodeSettings, limits_of

    nodes = {
        check_node_name(name, "--node"): check_address(address, "--node")
        for name, _, address in (pair.partition("=") for pair in arguments.node)
    }
    settings = NodeSettings(
        name=arguments.name,
        listen=check_address(arguments.listen, "--listen"),
        data=arguments.data,
        cluster_id=arguments.cluster_id,
        partition_count=arguments.partitions,
        nodes=nodes,
        routers=[check_address(address, "--router") for address in arguments.router],
        new=arguments.init,
        limits=limits_of(_numbers_of(arguments.limit)),
        services=services_of_words(arguments.service),
    )
    if settings.name not in nodes:
        raise ConfigError(f"this node, {settings.name}, is not among the nodes given by --node")
    if settings.new and (settings.data / "node.json").exists():
        raise ConfigError(
            f"the data directory {settings.data} has been made already: start without --init, "
            f"so that it is noticed if the directory is lost one day"
        )
    # It would look through all that is imported, again and again, and find nothing.
    with collector_paused():
        import_app(arguments.app)
        # Only now: gRPC and RocksDB take a while to import, and a refusal should not.
        from perdure_node.server import serve

    return await serve(settings)


def _numbers_of(words: Sequence[str]) -> dict[str, str]:
    return {name: number for name, _, number in (word.partition("=") for word in words)}


def services_of_words(words: Sequence[str]) -> dict[str, ServiceSettings]:
    """Read `name.setting=value` words.

    Raises:
        ConfigError: There is no such setting, or the value does not fit.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        found[SERVICES + key] = parse_setting(SERVICES + key, value, f"--service {key}")
    return services_of(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perdure_node", description=__doc__)
    parser.add_argument("--name", required=True, help="this node's")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--data", required=True, type=Path, help="this node's own folder")
    parser.add_argument("--app", required=True, help="a .py file or a module's name")
    parser.add_argument("--cluster-id", required=True)
    parser.add_argument("--partitions", required=True, type=int, help="of the whole cluster")
    parser.add_argument("--node", action="append", default=[], metavar="NAME=HOST:PORT")
    parser.add_argument("--router", action="append", default=[], metavar="HOST:PORT")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--service", action="append", default=[], metavar="NAME.SETTING=VALUE")
    parser.add_argument("--init", action="store_true", help="make the folder: the first start")
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    parser.add_argument("--parent-pid", type=int, help="the process to end with")
    return parser


if __name__ == "__main__":
    sys.exit(main())
